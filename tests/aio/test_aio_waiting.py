"""Waiting for many jobs under asyncio, and what is left when nobody waits any more: nothing."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import jobs
import pytest
import redis as redis_py
from redis.asyncio import Redis as AsyncRedis
from support.loops import assert_nothing_left, blocked, registered, run_all, soon

from minirq.aio import AsyncJob, AsyncQueue
from minirq.exceptions import JobFailedError, NoSuchJobError, ServerUnavailable
from minirq.protocol import waiting as waiting_protocol


async def test_jobs_come_in_the_order_of_their_ends(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        made = [await queue.enqueue(jobs.add, n) for n in range(3)]
        last = await queue.enqueue(jobs.add, 3, at_front=True)
        worker = asyncio.create_task(soon(lambda: registered(redis) == 4 and blocked(redis)))
        worker.add_done_callback(lambda _: runs.append(asyncio.create_task(run_all(redis))))
        runs: list[asyncio.Task[None]] = []
        ended = [job async for job in queue.as_completed([*made, last], timeout=20)]
        assert ended == [last, *made]
        assert [await job.return_value(refresh=False) for job in ended] == [3, 0, 1, 2]
        await runs[0]
    assert_nothing_left(redis)


async def test_thousands_are_waited_for_over_one_connection(redis: redis_py.Redis, redis_url: str) -> None:
    async with (
        AsyncQueue(connection=redis_url) as queue,
        AsyncQueue("other", connection=redis_url) as other,
    ):
        calls = [AsyncQueue.prepare_data(jobs.add, [n]) for n in range(1500)]
        made = [*await queue.enqueue_many(calls), *await other.enqueue_many(calls)]
        before = len(redis.client_list())
        waiting = asyncio.create_task(queue.wait_many([*made, made[0]], timeout=40))
        await soon(lambda: blocked(redis) == 1)
        assert len(redis.client_list()) <= before + 1
        await run_all(redis, "default", "other")
        assert await waiting == [*range(1500), *range(1500), 0]
    assert_nothing_left(redis)


async def test_nothing_to_wait_for_is_no_wait() -> None:
    assert await AsyncQueue(connection="redis://127.0.0.1:1").wait_many([]) == []


async def test_a_job_that_fails_ends_the_wait_for_all(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        failing, waiting = await queue.enqueue(jobs.fail), await queue.enqueue_in(60, jobs.add, 1)
        await run_all(redis)
        with pytest.raises(JobFailedError) as caught:
            await queue.wait_many([waiting, failing], timeout=20)
        assert caught.value.job_id == failing.id
        assert_nothing_left(redis)


async def test_deleted_jobs_are_told_of(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        gone, going = [await queue.enqueue_in(60, jobs.add, n) for n in range(2)]
        await gone.delete()
        seen: list[AsyncJob[int]] = []
        async for job in queue.as_completed([going, gone], timeout=20):
            seen.append(job)
            if job is gone:
                await going.delete()
        assert seen == [gone, going]
        with pytest.raises(NoSuchJobError):
            await queue.wait_many([going])
    assert_nothing_left(redis)


async def test_a_wait_that_takes_too_long_says_for_how_many_jobs(
    redis: redis_py.Redis, redis_url: str
) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        made = [await queue.enqueue(jobs.add, n) for n in range(3)]
        with pytest.raises(TimeoutError, match=r"3 of 3 jobs have not ended within 0\.1 s"):
            await queue.wait_many(made, timeout=0.1)
        with pytest.raises(TimeoutError, match="it is queued, and no worker serves the queue default"):
            await made[0].wait(timeout=0.1)
    assert_nothing_left(redis)


async def test_mail_that_was_lost_is_made_up_for(
    redis: redis_py.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_protocol, "LOOK_EVERY", 0.3)
    async with AsyncQueue(connection=redis_url) as queue:
        made = [await queue.enqueue(jobs.add, n) for n in range(2)]
        waiting = asyncio.create_task(queue.wait_many(made, timeout=20))
        await soon(lambda: registered(redis) == 2)
        for key in redis.keys("*:job:*"):
            redis.hdel(key, "waiters")
        await run_all(redis)
        assert await waiting == [0, 1]


async def test_a_wait_survives_the_loss_of_its_connections(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        job = await queue.enqueue(jobs.add, 1)
        waiting = asyncio.create_task(job.wait(timeout=20))
        for _ in range(3):
            await soon(lambda: blocked(redis) == 1)
            redis.client_kill_filter(_type="normal", skipme=True)
        await soon(lambda: blocked(redis) == 1)
        await run_all(redis)
        assert await waiting == 1
    assert_nothing_left(redis)


# --- who goes away ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["url", "client"])
async def test_a_cancelled_wait_leaves_nothing_behind(
    redis: redis_py.Redis, redis_url: str, kind: str
) -> None:
    client = AsyncRedis.from_url(redis_url)
    async with AsyncQueue(connection=redis_url if kind == "url" else client) as queue:
        job = await queue.enqueue(jobs.add, 1)
        others = [await queue.enqueue(jobs.add, n) for n in range(150)]
        for n in range(10):
            waiting = asyncio.create_task(queue.wait_many([job, *others]) if n % 2 else job.wait())
            await soon(lambda: blocked(redis) == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await soon(lambda: not blocked(redis))
            assert_nothing_left(redis)
        await queue.count()
        # besides ours: one for calls, at most one that has blocked
        assert len(redis.client_list()) <= 3
        await run_all(redis)
        assert await job.wait(timeout=10) == 1
    if kind == "client":
        assert len(client.connection_pool._in_use_connections) == 0
        assert await client.ping()
    await client.connection_pool.disconnect()


async def test_a_wait_that_is_cancelled_at_any_moment_leaves_nothing_behind(
    redis: redis_py.Redis, redis_url: str
) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        made = [await queue.enqueue(jobs.add, n) for n in range(250)]
        for turns in range(40):
            waiting = asyncio.create_task(queue.wait_many(made))
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            for _ in range(turns % 7):
                await asyncio.sleep(0)
            waiting.cancel()  # also while it cleans up
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await queue.count() == 250  # what was sent for the one that went is not read by the next
        await soon(lambda: not blocked(redis))
        await soon(lambda: not redis.keys("*mailbox*") and not registered(redis))
    assert_nothing_left(redis)


async def test_who_stops_listening_leaves_nothing_behind(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        ended = await queue.enqueue(jobs.add, 1)
        await run_all(redis)
        waiting = await queue.enqueue(jobs.add, 2)
        async with aclosing(queue.as_completed([waiting, ended])) as completed:  # type: ignore[type-var]
            async for job in completed:
                assert job is ended
                assert registered(redis) == 1
                break
        assert_nothing_left(redis)


async def test_a_timeout_of_asyncio_ends_a_wait(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        job = await queue.enqueue(jobs.add, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.wait(), 0.1)
        await soon(lambda: not blocked(redis))
        assert_nothing_left(redis)


async def test_a_wait_ends_when_its_queue_is_closed(redis: redis_py.Redis, redis_url: str) -> None:
    queue = AsyncQueue(connection=redis_url)
    job = await queue.enqueue(jobs.add, 1)
    before = len(redis.client_list()) - 1
    waiting = asyncio.create_task(job.wait())
    await soon(lambda: blocked(redis) == 1)
    await queue.close()
    with pytest.raises(ServerUnavailable, match="closed"):
        await waiting
    await soon(lambda: len(redis.client_list()) == before)
    assert await queue.count() == 1  # and it can be used again
    await queue.close()
