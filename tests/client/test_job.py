"""A job: found by its id, canceled, requeued, deleted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jobs
import pytest
import redis as redis_py
from support.timing import within

from minirq import Job, JobStatus, Queue, SimpleWorker, cancel_job, requeue_job
from minirq.connection.client import Sender
from minirq.exceptions import (
    DeserializationError,
    InvalidJobOperation,
    NoSuchJobError,
    SerializationError,
)
from minirq.protocol import commands
from minirq.protocol.keys import Keys


def run_all(queue: Queue) -> None:
    SimpleWorker([queue]).work(burst=True)


def test_a_job_is_found_by_its_id_in_whichever_queue(redis: redis_py.Redis) -> None:
    made = [Queue(name, connection=redis).enqueue(jobs.add, 1) for name in ("a", "b", "c")]
    found = Job.fetch_many([job.id for job in made] + ["nobody"], redis)
    assert [job and job.origin for job in found] == ["a", "b", "c", None]
    assert Job.exists(made[1].id, redis)
    assert not Job.exists("nobody", redis)


def test_an_unknown_id_is_named(redis: redis_py.Redis) -> None:
    with pytest.raises(NoSuchJobError, match="nobody"):
        Job.fetch("nobody", redis)


def test_a_canceled_job_does_not_run(queue: Queue) -> None:
    job, other = queue.enqueue(jobs.add, 1), queue.enqueue(jobs.add, 2)
    job.cancel()
    assert job.is_canceled
    assert queue.job_ids == [other.id]
    run_all(queue)
    assert job.is_canceled
    assert job.attempts == 0
    assert other.is_finished


def test_a_delayed_job_can_be_canceled_and_requeued(queue: Queue) -> None:
    job = queue.enqueue_in(60, jobs.add, 1, 2)
    cancel_job(job.id, queue.connection)
    assert job.is_canceled
    requeue_job(job.id, queue.connection)
    run_all(queue)
    assert job.result == 3


def test_an_ended_job_cannot_be_canceled(queue: Queue) -> None:
    job = queue.enqueue(jobs.add, 1)
    run_all(queue)
    with pytest.raises(InvalidJobOperation, match="finished"):
        job.cancel()


def test_a_job_that_waits_cannot_be_requeued(queue: Queue) -> None:
    job = queue.enqueue(jobs.add, 1)
    with pytest.raises(InvalidJobOperation, match="queued"):
        job.requeue()


def test_requeued_at_the_front_a_job_is_next(queue: Queue) -> None:
    job = queue.enqueue(jobs.fail)
    run_all(queue)
    queue.enqueue(jobs.add, 1)
    job.requeue(at_front=True)
    assert queue.job_ids[0] == job.id


@pytest.mark.parametrize("state", ["queued", "scheduled", "failed", "finished", "canceled"])
def test_a_deleted_job_is_gone_without_trace(queue: Queue, redis: redis_py.Redis, state: str) -> None:
    job = queue.enqueue_in(60, jobs.add, 1) if state == "scheduled" else queue.enqueue(jobs.fail)
    if state == "failed":
        run_all(queue)
    if state == "finished":
        job = queue.enqueue(jobs.add, 1)
        run_all(queue)
    if state == "canceled":
        job.cancel()
    assert job.get_status() == state
    job.delete()
    assert not Job.exists(job.id, redis)
    assert not redis.keys(f"*{job.id}*")
    assert not redis.zscore(f"minirq:{{default}}:{state}", job.id)
    with pytest.raises(NoSuchJobError):
        job.refresh()


def test_meta_of_a_deleted_job_cannot_be_saved(queue: Queue, redis: redis_py.Redis) -> None:
    job = queue.enqueue(jobs.add, 1, meta={"a": 1})
    assert job.meta == {"a": 1}
    job.delete()
    with pytest.raises(NoSuchJobError):
        job.save_meta()
    assert not redis.exists(f"minirq:{{default}}:job:{job.id}")


def test_a_job_shows_no_arguments_unless_asked(queue: Queue) -> None:
    job = queue.enqueue(jobs.echo, "secret")
    assert "secret" not in repr(job)
    assert job.description == "jobs.echo"


def test_reading_changes_nothing(queue: Queue, redis: redis_py.Redis) -> None:
    job = queue.enqueue(jobs.add, 1, ttl=0.01)
    redis.wait(0, 20)
    before = {key: redis.dump(key) for key in redis.keys()}
    assert job.get_status() in (JobStatus.EXPIRED, JobStatus.QUEUED)
    assert len(queue.get_jobs()) <= 1
    job.get_position()
    job.get_meta()
    _ = (job.args, job.errors, job.result)
    assert {key: redis.dump(key) for key in redis.keys()} == before


def test_a_requeue_whose_reply_is_lost_is_not_an_error(queue: Queue, redis: redis_py.Redis) -> None:
    job = queue.enqueue(jobs.fail)
    run_all(queue)
    execute = redis.execute_command
    lost = iter([True])

    def lose_the_first_reply(*words: object, **options: object) -> object:
        reply = execute(*words, **options)
        if words[0] == "EVALSHA" and next(lost, False):
            raise redis_py.ConnectionError("the reply was lost")
        return reply

    redis.execute_command = lose_the_first_reply  # type: ignore[method-assign]
    job.requeue()
    assert queue.count == 1


def test_a_job_among_a_million_is_canceled_and_taken_out(queue: Queue, redis: redis_py.Redis) -> None:
    fill = "for i = 1, ARGV[1] do redis.call('LPUSH', KEYS[1], '\\150\\169' .. string.format('%09d', i)) end"
    redis.eval(fill, 1, "minirq:{default}:queue", 500_000)
    job = queue.enqueue(jobs.add, 1)
    redis.eval(fill, 1, "minirq:{default}:queue", 500_000)
    began = time.monotonic()
    job.cancel()
    assert within(5, began)
    assert queue.count == 1_000_000
    assert job.is_canceled
    assert job.args == (1,)
    assert redis.pttl(f"minirq:{{default}}:job:{job.id}") > 0


def test_a_canceled_job_that_was_not_found_in_the_list_is_cleared_by_the_claim_that_meets_it(
    queue: Queue, redis: redis_py.Redis
) -> None:
    job = queue.enqueue(jobs.add, 1)
    # as if the canceling process died between its two steps
    Sender(redis).send(commands.cancel(Keys().of("default"), job.id))
    assert queue.count == 1
    assert job.is_canceled
    assert redis.pttl(f"minirq:{{default}}:job:{job.id}") == -1
    run_all(queue)
    assert queue.count == 0
    assert job.attempts == 0
    assert redis.pttl(f"minirq:{{default}}:job:{job.id}") > 0
    job.requeue()
    run_all(queue)
    assert job.result == 1


# --- what is too large to be read -------------------------------------------------------------


LARGE = 100_000


@pytest.fixture
def large(redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch) -> Job[Any]:
    """A finished job whose arguments, result and meta this process may not read any more."""
    queue = Queue(connection=redis)
    job = queue.enqueue("jobs.echo", "x" * LARGE, meta={"notes": "y" * LARGE})
    SimpleWorker([queue]).work(burst=True)
    assert len(job.result[0][0]) == LARGE
    monkeypatch.setenv("MINIRQ_MAX_PAYLOAD", "64K")
    return Job.fetch(job.id, redis)


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (lambda job: job.return_value(), "the result: "),
        (lambda job: job.result, "the result: "),
        (lambda job: job.wait(5), "the result: "),
        (lambda job: job.meta, "meta: "),
        (lambda job: job.args, "the arguments: "),
    ],
)
def test_what_is_larger_than_the_limit_is_not_read(
    large: Job[Any], read: Callable[[Job[Any]], Any], what: str
) -> None:
    with pytest.raises(DeserializationError, match=f"^{what}10.,... bytes, and 65,536 are read at most"):
        read(large)


def test_meta_beyond_the_limit_is_not_written(redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIRQ_MAX_PAYLOAD", "64K")
    queue = Queue(connection=redis)
    with pytest.raises(SerializationError, match=r"^meta of jobs\.echo: 100,... bytes, and 65,536"):
        queue.enqueue("jobs.echo", 1, meta={"notes": "y" * LARGE})
    assert queue.count == 0
    job = queue.enqueue("jobs.echo", 1, meta={"notes": "short"})
    job.meta["notes"] = "y" * LARGE
    with pytest.raises(SerializationError, match=r"^meta: 100,... bytes, and 65,536 are written at most"):
        job.save_meta()
    assert Job.fetch(job.id, redis).meta == {"notes": "short"}
