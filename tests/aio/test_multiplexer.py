"""What many tasks say over one connection: together, each its own answer, and nobody pays for another."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import jobs
import pytest
import redis as redis_py
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ConnectionError, ResponseError
from redis.exceptions import TimeoutError as ReplyTimeout
from support.loops import soon
from support.timing import since, within

from minirq.aio import AsyncQueue
from minirq.connection.async_client import Multiplexer, close_connections
from minirq.connection.connect import async_client_of


@pytest.fixture
def calls(redis: redis_py.Redis) -> int:
    """How many connections there are before the test."""
    return len(redis.client_list())


async def test_fifty_tasks_take_one_connection_and_few_round_trips(
    redis: redis_py.Redis, redis_url: str, calls: int
) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        await queue.enqueue(jobs.add, 0)
        before = redis.info("stats")["total_reads_processed"]
        made = await asyncio.gather(*(queue.enqueue(jobs.add, n) for n in range(50)))
        assert redis.info("stats")["total_reads_processed"] - before < 10
        assert len(redis.client_list()) == calls + 1
        assert (await queue.job_ids())[1:] == [job.id for job in made]


async def test_everybody_gets_the_own_answer_also_when_others_go_away(redis_url: str) -> None:
    client = async_client_of(redis_url)
    multiplexer = Multiplexer(client)

    async def echo(n: int) -> None:
        for m in range(20):
            word = b"%d-%d" % (n, m)
            assert await multiplexer.execute([("ECHO", word), ("ECHO", word * 2)]) == [word, word * 2]

    tasks = [asyncio.create_task(echo(n)) for n in range(40)]
    chance = random.Random(1)
    while not all(task.done() for task in tasks[::2]):
        tasks[chance.randrange(1, 40, 2)].cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks[::2])
    await asyncio.gather(*tasks, return_exceptions=True)
    await multiplexer.close()
    assert len(client.connection_pool._in_use_connections) == 0
    await close_connections(client)


async def test_an_error_is_told_to_whom_it_concerns(redis: redis_py.Redis, redis_url: str) -> None:
    client = async_client_of(redis_url)
    multiplexer = Multiplexer(client)
    redis.set("text", "text")
    answers = await asyncio.gather(
        multiplexer.execute([("ECHO", "a")]),
        multiplexer.execute([("LLEN", "text"), ("ECHO", "b")]),
        multiplexer.execute([("ECHO", object())]),  # type: ignore[list-item]
        multiplexer.execute([("ECHO", "c")]),
        return_exceptions=True,
    )
    first, [error, second], refused, last = answers  # type: ignore[misc]
    assert (first, second, last) == ([b"a"], b"b", [b"c"])
    assert isinstance(error, ResponseError)
    assert isinstance(refused, TypeError)
    await multiplexer.close()
    await close_connections(client)


async def test_a_server_that_is_silent_is_not_waited_for_longer_than_the_timeout(
    redis: redis_py.Redis, redis_url: str
) -> None:
    client = AsyncRedis.from_url(redis_url, socket_timeout=0.2)
    multiplexer = Multiplexer(client)
    assert await multiplexer.execute([("ECHO", "a")]) == [b"a"]
    redis.client_pause(1500, all=True)
    began = time.monotonic()
    silence = await asyncio.gather(
        *(multiplexer.execute([("ECHO", "b")]) for _ in range(3)), return_exceptions=True
    )
    assert since(began) >= 0.2
    assert within(1.4, began)
    assert [str(error) for error in silence] == ["no reply within 0.2 s"] * 3
    assert all(isinstance(error, ReplyTimeout) for error in silence)
    answer: list[object] = []
    while not answer:
        with contextlib.suppress(ReplyTimeout, ConnectionError):
            answer = await multiplexer.execute([("ECHO", "c")])
    assert answer == [b"c"]  # and not the late one to another
    await multiplexer.close()
    await close_connections(client)


async def test_what_is_cancelled_before_it_was_sent_is_not_sent(
    redis: redis_py.Redis, redis_url: str
) -> None:
    client = async_client_of(redis_url)
    multiplexer = Multiplexer(client)
    unsent = asyncio.create_task(multiplexer.execute([("SET", "sent", "1")]))
    await asyncio.sleep(0)
    unsent.cancel()
    assert await multiplexer.execute([("ECHO", "a")]) == [b"a"]
    assert not redis.exists("sent")
    await multiplexer.close()
    await close_connections(client)


async def test_lost_connections_neither_lose_nor_double_jobs(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:

        async def enqueue(n: int) -> None:
            for m in range(20):
                await queue.enqueue(jobs.add, n, m)

        tasks = [asyncio.create_task(enqueue(n)) for n in range(50)]
        for kill in range(1, 6):
            await soon(lambda kill=kill: redis.llen("minirq:{default}:queue") > kill * 100)  # type: ignore[misc]
            redis.client_kill_filter(_type="normal", skipme=True)
        await asyncio.gather(*tasks)
        assert await queue.count() == 1000


async def test_a_loop_that_ends_amid_calls_ends(redis_url: str) -> None:
    queue = AsyncQueue(connection=redis_url)
    tasks = [asyncio.create_task(queue.enqueue(jobs.add, n)) for n in range(50)]
    while not any(task.done() for task in tasks):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await queue.count()) >= 1
    await queue.close()
