"""A queue under asyncio: the same as Queue, and seen by it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import jobs
import pytest
import redis as redis_py
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from support.loops import run_all
from support.proxy import Proxy

from minirq import Job, Queue, Retry, SimpleWorker
from minirq.aio import AsyncJob, AsyncQueue
from minirq.connection import Server
from minirq.exceptions import (
    InvalidOption,
    NoSuchJobError,
    QueueFull,
    SerializationError,
    ServerUnavailable,
    UnnamedFunction,
    UnsuitableServer,
)


async def test_a_queue_connects_when_it_is_first_used() -> None:
    async with AsyncQueue(connection="redis://127.0.0.1:1") as queue:
        with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"):
            await queue.enqueue(jobs.add, 1)


async def test_a_list_of_queues_that_cannot_be_written_hides_no_success(
    redis: redis_py.Redis, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis.set("minirq:queues", "not a set")
    async with AsyncQueue(connection=redis_url) as queue:
        job = await queue.enqueue(jobs.add, 1)
        assert await queue.job_ids() == [job.id]
    assert "WRONGTYPE" in caplog.text


async def test_a_server_that_is_away_is_waited_for_as_long_as_the_queue_says() -> None:
    async with AsyncQueue(connection="redis://127.0.0.1:1", patience="200ms") as queue:
        async with asyncio.timeout(2):
            with pytest.raises(ServerUnavailable):
                await queue.enqueue(jobs.add, 1)


async def test_an_enqueue_that_got_no_answer_is_sent_again_and_acts_once(
    redis: redis_py.Redis, redis_server: Server
) -> None:
    proxy = Proxy(str(redis_server.socket))
    async with AsyncQueue(connection=proxy.url, patience=0.2) as queue:
        assert await queue.count() == 0
        for is_many in (False, True):
            rule = proxy.rule("enqueue", "drop_reply", times=10**6)
            many = [queue.prepare_data(jobs.add, (n,)) for n in range(3)]
            call = queue.enqueue_many(many) if is_many else queue.enqueue(jobs.add, 1, result_ttl=0)
            with pytest.raises(ServerUnavailable) as caught:
                await call
            assert rule.hits
            assert caught.value.may_have_acted
            SimpleWorker([Queue(connection=redis)]).work(burst=True)
            with pytest.raises(ServerUnavailable) as caught_again:
                await caught.value.again()
            proxy.heal()
            answer = await caught_again.value.again()
            made = answer if is_many else [answer]
            assert [await job.get_status() for job in made] == ["finished"] * (3 if is_many else 1)
            assert await queue.count() == 0
    proxy.close()


async def test_what_either_enqueues_is_seen_by_the_other(redis: redis_py.Redis, redis_url: str) -> None:
    sync = Queue(connection=redis)
    async with AsyncQueue(connection=redis_url) as queue:
        ours = await queue.enqueue(jobs.add, 1, b=2)
        theirs = sync.enqueue(jobs.add, 3)
        assert queue == sync
        assert sync.job_ids == await queue.job_ids() == [ours.id, theirs.id]
        assert await queue.fetch_job(theirs.id) == theirs
        assert sync.fetch_job(ours.id) == ours
        await run_all(redis)
        assert await ours.result() == 3
        assert Job.fetch(ours.id, redis).result == 3


async def test_every_way_to_enqueue(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url, default_timeout="1m") as queue:
        job = await queue.enqueue(
            jobs.echo, 1, x=2, job_id="mine", meta={"for": "Ada"}, retry=Retry(3), description="an echo"
        )
        assert (job.id, await job.args(), await job.kwargs()) == ("mine", (1,), {"x": 2})
        assert (await job.description(), await job.timeout()) == ("an echo", 60)
        assert await job.get_meta() == {"for": "Ada"}
        front = await queue.enqueue_call(jobs.add, (1,), {"b": 1}, timeout=5, at_front=True)
        assert await queue.job_ids() == [front.id, "mine"]
        later = await queue.enqueue_in(timedelta(hours=1), jobs.add, 1)
        assert await later.is_scheduled()
        many = await queue.enqueue_many(AsyncQueue.prepare_data(jobs.add, [n]) for n in range(2500))
        assert await queue.count() == 2502
        assert (await queue.get_job_ids(2, 3)) == [job.id for job in many[:3]]
        assert [await job.func_name() for job in await queue.get_jobs(2, 2)] == ["jobs.add", "jobs.add"]


async def test_a_queue_is_walked_through(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        assert await queue.is_empty()
        assert queue
        made = [await queue.enqueue(jobs.add, n) for n in range(3)]
        assert [job async for job in queue] == made == await queue.jobs()
        assert await queue.get_job_position(made[2]) == 2


async def test_a_queue_is_paused_and_cleared(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        await queue.pause("10m")
        assert await queue.is_paused()
        await queue.resume()
        assert not await queue.is_paused()
        gone, *_ = [await queue.enqueue(jobs.add, n) for n in range(3)]
        await queue.remove(gone)
        assert await gone.is_canceled()
        with pytest.raises(NoSuchJobError, match="nobody"):
            await queue.remove("nobody")
        assert await queue.empty() == 2
        assert [q.name for q in await AsyncQueue.all(redis_url)] == ["default"]
        await queue.delete()
        assert await AsyncQueue.all(redis_url) == []


async def test_what_cannot_be_enqueued_is_refused_before_anything_is_sent(redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        with pytest.raises(UnnamedFunction):
            await queue.enqueue(lambda: 1)
        with pytest.raises(SerializationError, match=r"args\[0\]"):
            await queue.enqueue(jobs.add, object())  # type: ignore[arg-type]
        with pytest.raises(InvalidOption, match="job_timeout"):
            await queue.enqueue(jobs.add, 1, job_timeout=0)


async def test_a_full_server_refuses_the_job_and_says_so(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        await queue.enqueue(jobs.add, 1)
        redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(QueueFull):
                await queue.enqueue(jobs.add, 2)
        finally:
            redis.config_set("maxmemory", 0)
        assert await queue.count() == 1


async def test_scripts_that_the_server_has_forgotten_are_loaded_again(
    redis: redis_py.Redis, redis_url: str
) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        await queue.enqueue(jobs.add, 1)
        redis.script_flush()
        job = await queue.enqueue(jobs.add, 2)
        redis.script_flush()
        await job.cancel()
        assert await queue.count() == 1


# --- connections ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"protocol": 3}, {"max_connections": 1}, {"socket_timeout": 1}])
async def test_a_given_client_is_used_and_stays_open(
    redis: redis_py.Redis, redis_url: str, options: dict[str, int]
) -> None:
    client = AsyncRedis.from_url(redis_url, **options)
    async with AsyncQueue(connection=client) as queue:
        assert queue.connection is client
        job = await queue.enqueue(jobs.add, 1)
        assert await queue.job_ids() == [job.id]
        assert await job.get_meta() == {}
        await run_all(redis)
        assert await job.wait(timeout=10) == 1
        assert await queue.is_paused() is False
    assert await client.ping()
    assert len(client.connection_pool._in_use_connections) == 0
    await client.connection_pool.disconnect()


async def test_a_pool_that_blocks_is_enough(redis: redis_py.Redis, redis_url: str) -> None:
    pool = BlockingConnectionPool.from_url(redis_url, max_connections=1, timeout=5)
    async with AsyncQueue(connection=AsyncRedis(connection_pool=pool)) as queue:
        job = await queue.enqueue(jobs.add, 1)
        await run_all(redis)
        assert await job.wait(timeout=10) == 1
    await pool.disconnect()


def test_a_sync_client_is_refused_and_the_way_out_is_named(redis: redis_py.Redis) -> None:
    with pytest.raises(InvalidOption, match=r"minirq\.Queue"):
        AsyncQueue(connection=redis)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match=r"builtins\.int"):
        AsyncQueue(connection=6379)  # type: ignore[arg-type]


def test_a_client_that_decodes_is_refused(redis_url: str) -> None:
    with pytest.raises(UnsuitableServer, match="decode_responses=True"):
        AsyncQueue(connection=AsyncRedis.from_url(redis_url, decode_responses=True))


async def test_a_url_that_decodes_is_refused(redis_url: str) -> None:
    with pytest.raises(UnsuitableServer, match="decode_responses=True"):
        await AsyncQueue(connection=f"{redis_url}?decode_responses=true").count()


async def test_the_configured_server_is_used(
    redis: redis_py.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIRQ_REDIS_URL", redis_url)
    async with AsyncQueue("here") as queue:
        job = await queue.enqueue(jobs.add, 1)
        assert redis.llen("minirq:{here}:queue") == 1
    found = await AsyncJob.fetch(job.id)
    assert found.origin == "here"
