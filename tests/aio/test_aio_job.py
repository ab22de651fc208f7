"""A job under asyncio: found, waited for, canceled, requeued, deleted."""

from __future__ import annotations

import asyncio

import jobs
import pytest
import redis as redis_py
from redis.asyncio import Redis as AsyncRedis
from support.loops import assert_nothing_left, blocked, registered, run_all, soon

from minirq import Job, JobStatus
from minirq.aio import AsyncJob, AsyncQueue
from minirq.exceptions import InvalidJobOperation, JobCanceledError, JobFailedError, NoSuchJobError


async def test_a_job_is_waited_for(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        job = await queue.enqueue(jobs.add, 1, 2)
        waiting = asyncio.create_task(job.wait(timeout=20))
        await soon(lambda: blocked(redis) == 1)
        await run_all(redis)
        assert await waiting == 3
        assert (job.attempts, await job.get_status()) == (1, JobStatus.FINISHED)
        assert await job.wait() == 3  # one that has ended answers at once
    assert_nothing_left(redis)


async def test_the_wait_for_a_job_that_fails_raises_its_error(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        job = await queue.enqueue(jobs.fail, "bad luck")
        await run_all(redis)
        with pytest.raises(JobFailedError, match="bad luck") as caught:
            await job.wait(timeout=10)
        assert (caught.value.exc_type, caught.value.job_id) == ("ValueError", job.id)
        assert (await job.errors())[0].summary == "ValueError: bad luck"
        assert "Traceback" in (await job.exc_info() or "")
        assert await job.is_failed()
        assert await job.return_value() is None


async def test_a_wait_that_takes_too_long_ends_and_leaves_nothing(
    redis: redis_py.Redis, redis_url: str
) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        job = await queue.enqueue(jobs.add, 1)
        with pytest.raises(TimeoutError, match=r"has not ended within 0\.1 s"):
            await job.wait(timeout=0.1)
    assert_nothing_left(redis)


async def test_a_job_is_canceled_requeued_and_deleted(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        job = await queue.enqueue(jobs.add, 1)
        await job.cancel()
        with pytest.raises(JobCanceledError, match="canceled"):
            await job.wait()
        assert await job.requeue() is job
        with pytest.raises(InvalidJobOperation, match="queued"):
            await job.requeue()
        assert await job.get_position() == 0
        await run_all(redis)
        with pytest.raises(InvalidJobOperation, match="finished"):
            await job.cancel()
        await job.delete()
        with pytest.raises(NoSuchJobError):
            await job.refresh()
        with pytest.raises(NoSuchJobError):
            await job.wait()
        with pytest.raises(NoSuchJobError):
            await job.cancel()


async def test_meta_is_kept(redis: redis_py.Redis, redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        job = await queue.enqueue(jobs.add, 1, meta={"a": 1})
        await job.refresh()
        job.meta["b"] = 2
        await job.save_meta()
        assert Job.fetch(job.id, redis).meta == {"a": 1, "b": 2}
        job.meta = {"c": 3}
        await job.save_meta()
        assert await job.get_meta() == {"c": 3}


async def test_facts_that_were_not_read_say_what_to_do(redis_url: str) -> None:
    async with AsyncQueue(connection=redis_url) as queue:
        job = await queue.enqueue(jobs.add, 1)
        with pytest.raises(InvalidJobOperation, match=r"await job\.refresh\(\)"):
            _ = job.created_at
        await job.refresh()
        assert job.created_at is not None
        assert job.started_at is None


@pytest.mark.parametrize("kind", ["url", "client"])
async def test_jobs_are_found_without_a_queue_and_nothing_stays_open(
    redis: redis_py.Redis, redis_url: str, kind: str
) -> None:
    async with AsyncQueue("mail", connection=redis_url) as queue:
        made = [await queue.enqueue(jobs.add, n) for n in range(3)]
    before = len(redis.client_list())
    client = AsyncRedis.from_url(redis_url)
    connection = redis_url if kind == "url" else client
    found = await AsyncJob.fetch_many([made[0].id, "nobody"], connection)
    assert [job and job.origin for job in found] == ["mail", None]
    assert await AsyncJob.exists(made[1].id, connection)
    assert not await AsyncJob.exists("nobody", connection)
    with pytest.raises(NoSuchJobError, match="nobody"):
        await AsyncJob.fetch("nobody", connection)
    job = await AsyncJob.fetch(made[2].id, connection)
    waiting = asyncio.create_task(job.wait(timeout=20))
    await soon(lambda: registered(redis) == 1)
    assert not await job.is_finished()  # what one operation closes is not what another one uses
    await run_all(redis, "mail")
    assert await waiting == 2
    assert await client.ping()
    await client.connection_pool.disconnect()
    await soon(lambda: len(redis.client_list()) <= before)
