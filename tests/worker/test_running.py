"""Jobs that run: results, errors, retries, timeouts, delays, meta."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jobs
import pytest
import redis as redis_py
from support.timing import within
from support.waits import until
from support.worker import StartWorker, lines

from minirq import Job, JobStatus, Queue, Retry, SimpleWorker
from minirq.exceptions import JobCanceledError, JobFailedError, NoSuchJobError, UnsuitableServer
from minirq.worker.interrupts import BaseDeathPenalty, TimerDeathPenalty, UnixSignalDeathPenalty


def run_all(queue: Queue, **options: object) -> None:
    SimpleWorker([queue], **options).work(burst=True)  # type: ignore[arg-type]


def test_a_result_comes_back(queue: Queue) -> None:
    job = queue.enqueue(jobs.add, 1, b=2)
    run_all(queue)
    assert job.get_status() == JobStatus.FINISHED
    assert job.return_value() == job.result == 3
    assert job.attempts == 1
    assert job.args == (1,)
    assert job.kwargs == {"b": 2}
    assert job.started_at is not None
    assert job.created_at is not None
    assert job.ended_at is not None
    assert job.created_at <= job.started_at <= job.ended_at
    assert job.ended_at.tzinfo is UTC
    assert job.worker_name


def test_a_failed_job_keeps_its_traceback_from_the_job_on(queue: Queue) -> None:
    job = queue.enqueue(jobs.fail, "bad luck")
    run_all(queue)
    assert job.get_status() == JobStatus.FAILED
    assert job.exc_info is not None
    assert "ValueError: bad luck" in job.exc_info
    assert "in fail" in job.exc_info
    assert "minirq/worker" not in job.exc_info


@pytest.mark.parametrize(
    ("function", "args", "exc_type"),
    [
        (jobs.leave, (0,), "SystemExit"),
        (jobs.interrupt, (), "KeyboardInterrupt"),
        (jobs.recurse, (), "RecursionError"),
    ],
)
def test_whatever_a_job_raises_fails_it_and_the_worker_goes_on(
    queue: Queue, function: object, args: tuple[object, ...], exc_type: str
) -> None:
    bad = queue.enqueue(function, *args)  # type: ignore[call-overload]
    good = queue.enqueue(jobs.add, 1)
    run_all(queue)
    assert bad.errors[0].exc_type == exc_type
    assert len(bad.exc_info) < 20_000
    assert good.is_finished


def test_a_result_that_cannot_be_kept_fails_the_job_once(queue: Queue) -> None:
    job = queue.enqueue(jobs.unserializable, retry=Retry(3))
    run_all(queue)
    assert job.get_status() == JobStatus.FAILED
    assert job.attempts == 1
    assert "SerializationError" in job.errors[0].exc_type
    assert "SerializationError: the job has done its work, but its result" in job.errors[0].summary


def test_coroutine_functions_are_run(queue: Queue) -> None:
    first, second = queue.enqueue(jobs.async_add, 1, 2), queue.enqueue(jobs.async_add, 3, b=4)
    run_all(queue)
    assert (first.result, second.result) == (3, 7)


def test_tasks_that_a_coroutine_leaves_behind_are_cancelled_and_said(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    job = queue.enqueue(jobs.leave_tasks)
    run_all(queue)
    assert job.result == "left"
    assert "left 1 unfinished task behind" in caplog.text


@pytest.mark.parametrize("function", [jobs.nap, jobs.async_nap])
def test_a_timeout_ends_a_job(queue: Queue, function: object) -> None:
    job = queue.enqueue(function, 30, job_timeout=0.2)  # type: ignore[call-overload]
    began = time.monotonic()
    run_all(queue)
    assert within(2, began)
    assert job.get_status() == JobStatus.FAILED
    assert job.errors[0].kind == "timeout"
    assert "0.2 s" in job.errors[0].message


def test_a_timeout_in_another_thread_ends_a_job_too(queue: Queue) -> None:
    job = queue.enqueue(jobs.ignore_nothing, 5, job_timeout=0.2)
    thread = threading.Thread(target=run_all, args=(queue,))
    thread.start()
    thread.join(10)
    assert job.errors[0].kind == "timeout"


@pytest.mark.parametrize("penalty", [UnixSignalDeathPenalty, TimerDeathPenalty])
def test_a_worker_may_bring_its_own_death_penalty(queue: Queue, penalty: type[BaseDeathPenalty]) -> None:
    class Tenfold(penalty):  # type: ignore[misc, valid-type]
        def __init__(self, timeout: float, *args: object) -> None:
            super().__init__(timeout / 10, *args)

    class Strict(SimpleWorker):
        death_penalty_class = Tenfold

    late, early = (queue.enqueue(jobs.ignore_nothing, seconds, job_timeout=2) for seconds in (5, 0))
    began = time.monotonic()
    Strict([queue]).work(burst=True)
    assert within(1.5, began)
    assert (late.errors[0].kind, late.errors[0].exc_type) == (
        "timeout",
        "minirq.exceptions.JobTimeoutException",
    )
    assert early.is_finished


def test_a_death_penalty_leaves_coroutines_to_the_worker(queue: Queue) -> None:
    class Strict(SimpleWorker):
        death_penalty_class = TimerDeathPenalty

    made = [queue.enqueue(nap, 30, job_timeout=0.2) for nap in (jobs.async_nap, jobs.return_a_nap)]
    Strict([queue]).work(burst=True)
    assert [job.errors[0].kind for job in made] == ["timeout"] * 2


def test_retries_run_until_one_succeeds(queue: Queue, tmp_path: Path) -> None:
    job = queue.enqueue(jobs.fail_times, str(tmp_path / "trace"), 2, retry=Retry(3))
    run_all(queue)
    assert job.result == 3
    assert job.attempts == 3
    assert [error.message for error in job.errors] == ["run 2", "run 1"]


def test_retries_are_limited(queue: Queue) -> None:
    job = queue.enqueue(jobs.fail, retry=Retry(2))
    run_all(queue)
    assert job.get_status() == JobStatus.FAILED
    assert job.attempts == 3


def test_a_retry_waits_for_its_interval(queue: Queue, start_worker: StartWorker) -> None:
    job = queue.enqueue(jobs.fail, retry=Retry(1, interval=0.4))
    start_worker()
    until(lambda: job.get_status() == JobStatus.FAILED)
    first, second = (error.at for error in reversed(job.errors))
    assert first is not None
    assert second is not None
    assert timedelta(seconds=0.4) <= second - first < timedelta(seconds=1)


def test_a_retry_may_be_for_certain_errors_only(queue: Queue) -> None:
    job = queue.enqueue(jobs.fail, retry=Retry(3, only=(ConnectionError,)))
    run_all(queue)
    assert job.attempts == 1


def test_only_the_last_ten_errors_are_kept(queue: Queue) -> None:
    job = queue.enqueue(jobs.fail, retry=Retry(12))
    run_all(queue)
    assert job.attempts == 13
    assert len(job.errors) == 10


def test_delayed_jobs_start_soon_after_their_time_and_never_early(
    queue: Queue, start_worker: StartWorker
) -> None:
    start_worker()
    queue.enqueue(jobs.add, 1).wait(10)
    later = [queue.enqueue_in(timedelta(seconds=0.2 + n / 20), jobs.add, n) for n in range(10)]
    for job in later:
        job.wait(10)
        job.refresh()
        assert job.created_at is not None
        assert job.started_at is not None
    late = sorted(
        (job.started_at - job.created_at).total_seconds() - (0.2 + n / 20)  # type: ignore[operator]
        for n, job in enumerate(later)
    )
    assert round(late[0], 6) >= 0
    assert late[5] < 0.05


def test_a_job_for_a_time_in_the_past_runs_at_once(queue: Queue) -> None:
    job = queue.enqueue_at(datetime.now(UTC) - timedelta(hours=1), jobs.add, 1)
    run_all(queue)
    assert job.is_finished


def test_a_job_not_started_within_its_ttl_expires_and_says_so(queue: Queue) -> None:
    job = queue.enqueue(jobs.add, 1, ttl=0.05)
    kept = queue.enqueue(jobs.add, 2, ttl=60)
    until(lambda: job.get_status() == JobStatus.EXPIRED)
    run_all(queue)
    assert job.is_expired
    assert job.attempts == 0
    assert kept.result == 2
    with pytest.raises(JobCanceledError, match="expired"):
        job.wait(1)


def test_result_ttl_zero_keeps_nothing(queue: Queue, redis: redis_py.Redis) -> None:
    job = queue.enqueue(jobs.add, 1, result_ttl=0)
    run_all(queue)
    assert job.result is None
    assert 0 < redis.pttl(f"minirq:{{default}}:job:{job.id}") <= 60_000
    assert not redis.exists(f"minirq:{{default}}:payload:{job.id}")


def test_a_waiter_gets_a_result_that_is_not_kept(queue: Queue, start_worker: StartWorker) -> None:
    job = queue.enqueue(jobs.nap, 0.5, result_ttl=0)
    start_worker()
    assert job.wait(10) == 0.5


def test_progress_is_seen_from_outside(queue: Queue, start_worker: StartWorker, tmp_path: Path) -> None:
    start_worker()
    job = queue.enqueue(jobs.progress, str(tmp_path / "gate"), meta={"who": "me"})
    until(lambda: job.get_meta().get("percent") == 50)
    assert job.meta == {"who": "me", "percent": 50}
    (tmp_path / "gate").touch()
    assert job.wait(10) == job.id


@pytest.mark.parametrize("mode", ["one at a time", "many at once", "SimpleWorker"])
@pytest.mark.parametrize(
    "function", [jobs.know_myself, jobs.know_myself_and_await, jobs.know_myself_and_hand_out]
)
def test_each_run_knows_itself_and_nothing_of_those_before(
    queue: Queue, start_worker: StartWorker, mode: str, function: object
) -> None:
    if mode != "SimpleWorker":
        start_worker(concurrency=4 if mode == "many at once" else 1)
    processes = set()
    for n in range(3):
        job = queue.enqueue(function, n + 1, retry=Retry(3), meta={"name": n})  # type: ignore[call-overload]
        if mode == "SimpleWorker":
            run_all(queue)
        job_id, run, name, others, process = job.wait(10)
        assert (job_id, run, name, others) == (job.id, n + 1, n, "")
        assert job.get_meta() == {"name": n, "seen by": job.id}
        processes.add(process)
    assert len(processes) == 1


def test_there_is_no_current_job_outside_of_jobs() -> None:
    assert jobs.current_id() is None


def test_waiting_raises_the_remote_error(queue: Queue, start_worker: StartWorker) -> None:
    start_worker()
    job = queue.enqueue(jobs.fail, "bad luck")
    with pytest.raises(JobFailedError, match="bad luck") as caught:
        job.wait(10)
    assert caught.value.exc_type == "ValueError"
    assert "in fail" in caught.value.exc_info
    said = f"job {job.id} (jobs.fail) failed: ValueError: bad luck"
    assert str(caught.value) == f"{said} (the traceback: exc_info, or minirq job {job.id})"


def test_waiting_times_out_and_leaves_nothing_behind(queue: Queue, redis: redis_py.Redis) -> None:
    job = queue.enqueue(jobs.add, 1)
    with pytest.raises(TimeoutError, match=job.id):
        job.wait(0.1)
    assert not redis.hexists(f"minirq:{{default}}:job:{job.id}", "waiters")
    assert not redis.keys("*mailbox*")


def test_waiting_for_a_job_that_is_canceled_meanwhile_ends(queue: Queue) -> None:
    job = queue.enqueue(jobs.add, 1)
    timer = threading.Timer(0.2, job.cancel)
    timer.start()
    with pytest.raises(JobCanceledError, match="canceled"):
        job.wait(10)
    timer.join()


def test_waiting_for_a_job_that_never_was_is_an_error(queue: Queue) -> None:
    job = queue.enqueue(jobs.add, 1)
    job.delete()
    with pytest.raises(NoSuchJobError):
        job.wait(1)


def test_queues_are_served_in_strict_order(redis: redis_py.Redis, tmp_path: Path) -> None:
    low, high = Queue("low", connection=redis), Queue("high", connection=redis)
    trace = tmp_path / "trace"
    for queue, line in ((low, "low 1"), (high, "high 1"), (low, "low 2"), (high, "high 2")):
        queue.enqueue(jobs.append, str(trace), line)
    SimpleWorker([high, low]).work(burst=True)
    assert lines(trace) == ["high 1", "high 2", "low 1", "low 2"]


def test_a_worker_of_several_queues_wakes_up_for_each(
    redis: redis_py.Redis, start_worker: StartWorker
) -> None:
    start_worker("high", "low")
    for name in ("low", "high", "low"):
        job = Queue(name, connection=redis).enqueue(jobs.add, 1, 1)
        began = time.monotonic()
        assert job.wait(10) == 2
        assert within(4, began)


def test_static_and_class_methods_run(queue: Queue) -> None:
    static, of_class = queue.enqueue(jobs.Greeter.shout, "a"), queue.enqueue(jobs.Greeter.whisper, "B")
    run_all(queue)
    assert (static.result, of_class.result) == ("A", "Greeter b")


def test_bound_methods_need_pickle_on_both_sides(redis: redis_py.Redis) -> None:
    queue = Queue(connection=redis, serializer="pickle")
    greeter = jobs.Greeter("hi")
    refused = queue.enqueue(greeter.greet, "Ann")
    run_all(queue)
    assert "--accept pickle" in refused.errors[0].message
    accepted, called = queue.enqueue(greeter.greet, "Bob"), queue.enqueue(greeter, "Cid")
    run_all(queue, accept=["pickle"])
    assert accepted.result == "hi! Bob"
    assert called.result == "called Cid"


def test_an_instance_is_unpickled_anew_for_each_attempt(redis: redis_py.Redis) -> None:
    queue = Queue(connection=redis, serializer="pickle")
    job = queue.enqueue(jobs.Greeter("x").greet, "Ann")
    run_all(queue, accept=["pickle"])
    job.requeue()
    run_all(queue, accept=["pickle"])
    assert job.result == "x! Ann"


def test_what_was_pickled_is_not_read_unasked(redis: redis_py.Redis) -> None:
    job = Queue(connection=redis, serializer="pickle").enqueue(jobs.add, 1)
    unasked = Job.fetch(job.id, redis)
    with pytest.raises(ValueError, match="serializer='pickle'"):
        _ = unasked.args
    assert Job.fetch(job.id, redis, serializer="pickle").args == (1,)


def test_the_standard_library_is_refused_unless_allowed(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.warns(UserWarning, match="workers refuse os.getpid"):
        first, second = queue.enqueue("os.getpid"), queue.enqueue("os.getpid")
    run_all(queue)
    told = [record for record in caplog.records if "--allow 'os.getpid'" in record.getMessage()]
    assert [record.levelname for record in told] == ["ERROR", "ERROR"]
    run_all(queue, allow=["os.getpid"])
    assert isinstance(first.result, int)
    assert isinstance(second.result, int)


def test_a_requeued_job_runs_again_from_zero(queue: Queue) -> None:
    job = queue.enqueue(jobs.fail)
    run_all(queue)
    job.requeue()
    assert job.get_status() == JobStatus.QUEUED
    assert job.attempts == 0
    run_all(queue)
    assert job.is_failed
    assert job.attempts == 1


def test_a_server_that_may_throw_jobs_away_is_refused_unless_allowed(
    queue: Queue, redis: redis_py.Redis
) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(UnsuitableServer, match="noeviction"):
            run_all(queue)
        run_all(queue, allow_eviction=True)
    finally:
        redis.config_set("maxmemory-policy", "noeviction")


def test_a_server_without_append_only_file_gets_a_warning(
    queue: Queue, redis: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis.config_set("appendonly", "no")
    try:
        run_all(queue)
    finally:
        redis.config_set("appendonly", "yes")
    assert "append-only file" in caplog.text


def test_a_burst_does_not_wait_for_a_paused_queue(queue: Queue, redis: redis_py.Redis) -> None:
    queue.enqueue(jobs.add, 1)
    redis.hset("minirq:{default}:meta", "paused", -1)
    run_all(queue)
    assert queue.count == 1


def test_a_queue_name_that_is_not_text_does_not_stop_a_worker(queue: Queue, redis: redis_py.Redis) -> None:
    redis.sadd("minirq:queues", b"\xff")
    job = queue.enqueue(jobs.add, 1)
    run_all(queue)
    assert job.is_finished


def test_a_job_that_started_in_time_does_not_expire_before_its_retry(queue: Queue, tmp_path: Path) -> None:
    job = queue.enqueue(jobs.fail_slowly, str(tmp_path / "trace"), 0.3, ttl=0.2, retry=Retry(1))
    run_all(queue)
    assert job.result == "second"
