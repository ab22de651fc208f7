"""Canceling what runs: the job is interrupted, or its process is killed, and it ends once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import jobs
import pytest
import redis as redis_py
from support.timing import since, within
from support.waits import until
from support.worker import StartWorker, WorkerProcess, lines

from minirq import Job, JobStatus, Queue, Retry, SimpleWorker
from minirq.command import send_stop_job_command
from minirq.exceptions import InvalidJobOperation, JobCanceledError, NoSuchJobError


def started(trace: Path) -> bool:
    return "started" in lines(trace)


def goes_on(worker: WorkerProcess, queue: Queue, child: int) -> None:
    """The same process runs the next job."""
    assert queue.enqueue(jobs.my_pid).wait(10) == child


@pytest.mark.parametrize(
    ("function", "raised"),
    [
        (jobs.trace_how_it_ends, "JobInterrupted"),
        (jobs.nap_and_trace_how_it_ends, "JobInterrupted"),
        (jobs.await_and_trace_how_it_ends, "CancelledError"),
    ],
)
def test_a_canceled_job_is_interrupted_at_once_and_its_process_goes_on(
    queue: Queue, start_worker: StartWorker, trace: Path, function: object, raised: str
) -> None:
    worker = start_worker(lease=30)  # no look at the records comes in time
    child = queue.enqueue(jobs.my_pid).wait(10)
    job = queue.enqueue(function, str(trace), 30, retry=Retry(3))  # type: ignore[call-overload]
    until(lambda: started(trace))
    began = time.monotonic()
    job.cancel()
    with pytest.raises(JobCanceledError, match="canceled"):
        job.wait(10)
    assert within(1, began)
    assert lines(trace) == ["started", raised]
    assert (job.get_status(), job.attempts, job.lost, job.errors) == (JobStatus.CANCELED, 0, 0, [])
    assert queue.count == 0
    goes_on(worker, queue, child)
    assert f"job {job.id} was interrupted" in worker.log


def test_a_stopped_job_ends_as_stopped(
    queue: Queue, redis: redis_py.Redis, start_worker: StartWorker, trace: Path
) -> None:
    start_worker()
    job = queue.enqueue(jobs.nap_and_trace_how_it_ends, str(trace), 30, retry=Retry(3))
    until(lambda: started(trace))
    send_stop_job_command(redis, job.id)
    with pytest.raises(JobCanceledError, match="stopped"):
        job.wait(10)
    assert job.is_stopped
    assert job.requeue().get_status() in (JobStatus.QUEUED, JobStatus.STARTED)


def test_only_what_runs_can_be_stopped(queue: Queue, redis: redis_py.Redis) -> None:
    job = queue.enqueue(jobs.add, 1)
    with pytest.raises(InvalidJobOperation, match="queued"):
        send_stop_job_command(redis, job.id)
    with pytest.raises(NoSuchJobError):
        send_stop_job_command(redis, "nobody")
    assert job.get_status() == JobStatus.QUEUED


@pytest.mark.parametrize("function", [jobs.trace_and_ignore_everything, jobs.await_and_ignore_everything])
def test_a_job_that_ignores_the_interruption_is_killed_after_the_grace(
    queue: Queue, start_worker: StartWorker, trace: Path, function: object
) -> None:
    worker = start_worker(kill_grace=0.4)
    child = queue.enqueue(jobs.my_pid).wait(10)
    job = queue.enqueue(function, str(trace), 30, retry=Retry(3))  # type: ignore[call-overload]
    until(lambda: started(trace))
    began = time.monotonic()
    job.cancel()
    with pytest.raises(JobCanceledError):
        job.wait(10)
    assert since(began) >= 0.4
    assert within(2, began)
    assert (job.get_status(), job.attempts, job.lost) == (JobStatus.CANCELED, 0, 0)
    assert queue.enqueue(jobs.my_pid).wait(10) != child
    assert f"job {job.id} does not stop" in worker.log
    assert lines(trace) == ["started"]


def test_a_job_that_holds_the_interpreter_is_killed(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker(kill_grace=0.2)
    job = queue.enqueue(jobs.hold_the_interpreter, str(trace))
    until(lambda: started(trace))
    job.cancel()
    with pytest.raises(JobCanceledError):
        job.wait(10)
    assert queue.enqueue(jobs.add, 1, 2).wait(10) == 3


def test_a_job_that_returns_all_the_same_has_finished(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker()
    job = queue.enqueue(jobs.swallow_one_and_return, str(trace))
    until(lambda: started(trace))
    job.cancel()
    assert job.wait(10) == "returned"


def test_a_job_that_makes_an_error_of_the_interruption_is_canceled_and_not_tried_again(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker()
    job = queue.enqueue(jobs.turn_it_into_an_error, str(trace), retry=Retry(3))
    until(lambda: started(trace))
    job.cancel()
    with pytest.raises(JobCanceledError):
        job.wait(10)
    assert len(lines(trace)) == 1


def test_canceling_twice_is_canceling_once(queue: Queue, start_worker: StartWorker, trace: Path) -> None:
    start_worker()
    first = queue.enqueue(jobs.nap_and_trace_how_it_ends, str(trace), 30)
    until(lambda: started(trace))
    second = queue.enqueue(jobs.nap_and_trace_how_it_ends, str(trace) + ".2", 0.3)
    for _ in range(3):
        first.cancel()
    with pytest.raises(JobCanceledError):
        first.wait(10)
    assert second.wait(10) == "returned"  # nothing of it gets into the next job
    assert lines(trace) == ["started", "JobInterrupted"]


@pytest.mark.parametrize("function", [jobs.clean_up_slowly, jobs.clean_up_slowly_and_await])
def test_canceling_again_does_not_disturb_what_cleans_up(
    queue: Queue, start_worker: StartWorker, trace: Path, function: object
) -> None:
    start_worker(kill_grace=2.0)
    job = queue.enqueue(function, str(trace))  # type: ignore[call-overload]
    until(lambda: started(trace))
    job.cancel()
    until(lambda: "cleaning" in lines(trace))
    for _ in range(5):
        job.cancel()
        time.sleep(0.02)
    with pytest.raises(JobCanceledError):
        job.wait(10)
    assert lines(trace) == ["started", "cleaning", "cleaned"]


def test_a_request_that_nobody_heard_is_found(
    queue: Queue, redis: redis_py.Redis, start_worker: StartWorker, trace: Path
) -> None:
    start_worker()
    job = queue.enqueue(jobs.nap_and_trace_how_it_ends, str(trace), 30)
    until(lambda: started(trace))
    redis.hset(f"minirq:{{default}}:job:{job.id}", "stop", "canceled")
    with pytest.raises(JobCanceledError):
        job.wait(5)


def test_a_request_for_another_run_interrupts_nothing(
    queue: Queue, redis: redis_py.Redis, start_worker: StartWorker, trace: Path
) -> None:
    worker = start_worker()
    job = queue.enqueue(jobs.nap_and_trace_how_it_ends, str(trace), 0.5)
    until(lambda: started(trace))
    owner = redis.hget(f"minirq:{{default}}:job:{job.id}", "owner")
    for request in (b"2 %d %b%b" % (len(owner), owner, job.id.encode()), b"garbage", b"1 x y", b""):
        redis.publish("minirq:stops", request)
    assert job.wait(10) == "returned"
    assert worker.process.poll() is None


def test_a_deleted_job_that_runs_goes_on_and_is_forgotten(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker()
    job = queue.enqueue(jobs.trace_how_it_ends, str(trace), 0.8)
    until(lambda: started(trace))
    job.delete()
    until(lambda: "returned" in lines(trace))
    until(lambda: not Job.exists(job.id, queue.connection))


def test_canceling_at_the_very_end_settles_once(queue: Queue, start_worker: StartWorker, trace: Path) -> None:
    worker = start_worker()
    child = queue.enqueue(jobs.my_pid).wait(10)
    statuses = []
    for number in range(60):
        path = f"{trace}.{number}"
        job = queue.enqueue(jobs.trace_how_it_ends, path, 0.02, retry=Retry(1))
        until(lambda path=path: started(Path(path)))
        time.sleep(0.012 + number % 20 / 1000)
        try:
            job.cancel()
        except InvalidJobOperation:
            pass
        until(lambda job=job: job.get_status() in (JobStatus.FINISHED, JobStatus.CANCELED))
        statuses.append(job.get_status())
        said = lines(Path(path))
        if job.is_finished:
            assert said == ["started", "returned"]
    assert set(statuses) == {JobStatus.FINISHED, JobStatus.CANCELED}
    goes_on(worker, queue, child)
    assert not queue.connection.keys("minirq:{default}:processing:*")


def test_the_job_of_a_simple_worker_is_interrupted(queue: Queue) -> None:
    job = queue.enqueue(jobs.cancel_myself)
    after = queue.enqueue(jobs.add, 1, 2)
    began = time.monotonic()
    SimpleWorker([queue]).work(burst=True)
    assert within(5, began)
    assert (job.get_status(), after.result) == (JobStatus.CANCELED, 3)


@pytest.mark.parametrize("function", [jobs.trace_how_it_ends, jobs.await_and_trace_how_it_ends])
def test_the_job_of_a_simple_worker_in_another_thread_is_interrupted(
    queue: Queue, trace: Path, function: object
) -> None:
    job = queue.enqueue(function, str(trace), 20)  # type: ignore[call-overload]
    after = queue.enqueue(jobs.add, 1, 2)
    thread = threading.Thread(target=SimpleWorker([queue]).work, kwargs={"burst": True})
    thread.start()
    until(lambda: started(trace))
    job.cancel()
    thread.join(10)
    assert (job.get_status(), after.result) == (JobStatus.CANCELED, 3)
