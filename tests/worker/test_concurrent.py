"""Many jobs at once in one process: coroutines on its event loop, functions in its threads."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import jobs
import pytest
import redis as redis_py
from support.timing import within
from support.waits import until
from support.worker import StartWorker, lines

from minirq import Job, JobStatus, Queue, Retry, SimpleWorker
from minirq.command import send_stop_job_command
from minirq.exceptions import InvalidOption, JobCanceledError, JobFailedError

BOTH = pytest.mark.parametrize("kind", ["thread", "coroutine"])


def started(trace: Path, times: int = 1) -> bool:
    return lines(trace).count("started") >= times


# --- running ----------------------------------------------------------------------------------


def test_both_kinds_run_at_once_and_each_knows_which_job_it_is(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker(concurrency=8)
    (tmp_path / "meeting").mkdir()
    met = [
        queue.enqueue(function, str(tmp_path / "meeting"), 8)  # type: ignore[call-overload]
        for function in (jobs.meet, jobs.meet_and_await) * 4
    ]
    assert [job.wait(15) for job in met] == [job.id for job in met]


@pytest.mark.parametrize("function", [jobs.count_those_that_run, jobs.count_those_that_run_and_await])
def test_no_more_run_than_there_is_room_for_and_none_is_held_beyond_that(
    queue: Queue, redis: redis_py.Redis, start_worker: StartWorker, trace: Path, function: object
) -> None:
    all_jobs = [queue.enqueue(function, str(trace), 0.02) for _ in range(60)]  # type: ignore[call-overload]
    start_worker(concurrency=5)
    held = 0
    while not all(job.is_finished for job in all_jobs[-5:]):
        held = max([held, *(redis.llen(key) for key in redis.keys("minirq:{default}:processing:*"))])
    for job in all_jobs:
        job.wait(10)
    at_once = most = 0
    for line in lines(trace):
        at_once += 1 if line == "+" else -1
        most = max(most, at_once)
    assert most == 5
    assert held <= 5
    assert lines(trace).count("+") == 60


def test_results_errors_and_retries_are_as_with_one_at_a_time(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker(concurrency=4)
    good = [queue.enqueue(jobs.add, n, 1) for n in range(20)]
    better = [queue.enqueue(jobs.async_add, n, 1) for n in range(20)]
    bad = [queue.enqueue(jobs.fail, "bad luck"), queue.enqueue(jobs.fail_and_await, "bad luck")]
    again = queue.enqueue(jobs.fail_times, str(trace), 2, retry=Retry(3))
    handed_out = queue.enqueue(jobs.hand_out_a_coroutine, 1, 2)
    unknown = queue.enqueue("jobs.nothing_of_that_name")
    exits = queue.enqueue(jobs.spawn_one_that_exits)
    assert [job.wait(10) for job in good + better] == [*range(1, 21)] * 2
    for job in bad:
        with pytest.raises(JobFailedError, match="bad luck"):
            job.wait(10)
        assert "minirq/worker" not in (job.exc_info or "")
    assert (again.wait(10), handed_out.wait(10), exits.wait(10)) == (3, 3, "still here")
    until(lambda: unknown.get_status() == JobStatus.SCHEDULED)


def test_a_job_that_came_without_a_record_runs(
    queue: Queue, redis: redis_py.Redis, start_worker: StartWorker
) -> None:
    start_worker(concurrency=4)
    payload = b"\x96\xa7greet-1\x01\xaejobs.async_add\xa4json\xc4\x10[null,[1, 2],{}]\x80"
    redis.lpush("minirq:{default}:queue", payload)
    until(lambda: Job.exists("greet-1", redis) and Job.fetch("greet-1", redis).is_finished)
    assert Job.fetch("greet-1", redis).return_value() == 3


def test_thousands_wait_at_once(queue: Queue, redis: redis_py.Redis, start_worker: StartWorker) -> None:
    worker = start_worker(concurrency=2000)
    queue.enqueue(jobs.async_nap, 0).wait(10)
    queue.enqueue_many(Queue.prepare_data(jobs.async_nap, [0.5]) for _ in range(4000))
    began = time.monotonic()
    until(lambda: redis.zcard("minirq:{default}:finished") == 4001, 20)
    assert within(10, began)  # one after the other: 2,000 s
    [child] = worker.children
    peak_kib = Path(f"/proc/{child}/status").read_text().partition("VmHWM:")[2].split()[0]
    assert int(peak_kib) < 250 * 1024


def test_more_than_one_owner_can_hold(queue: Queue, start_worker: StartWorker, tmp_path: Path) -> None:
    start_worker(concurrency=150)
    (tmp_path / "meeting").mkdir()
    met = [queue.enqueue(jobs.meet_and_await, str(tmp_path / "meeting"), 150) for _ in range(150)]
    assert [job.wait(15) for job in met] == [job.id for job in met]


def test_a_worker_of_several_queues_wakes_up_for_each(
    redis: redis_py.Redis, start_worker: StartWorker
) -> None:
    start_worker("high", "low", concurrency=4)
    for name in ("low", "high", "low"):
        began = time.monotonic()
        assert Queue(name, connection=redis).enqueue(jobs.async_add, 1, 1).wait(10) == 2
        assert within(4, began)


def test_work_that_comes_while_jobs_run_is_taken_at_once(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker(concurrency=4)
    long = queue.enqueue(jobs.await_and_trace_how_it_ends, str(trace), 1.5)
    until(lambda: started(trace))
    for _ in range(5):
        time.sleep(0.05)
        began = time.monotonic()
        assert queue.enqueue(jobs.add, 1, 2).wait(10) == 3
        assert within(0.5, began)
    assert long.wait(10) == "returned"


def test_a_burst_ends_when_all_is_done(queue: Queue, start_worker: StartWorker) -> None:
    done = [queue.enqueue(jobs.nap, 0.01) for _ in range(30)]
    done += [queue.enqueue(jobs.async_add, 1, 2) for _ in range(30)]
    assert start_worker(concurrency=8, work={"burst": True}).wait() == 0
    assert all(job.is_finished for job in done)


def test_max_jobs_are_run_and_no_more(queue: Queue, start_worker: StartWorker) -> None:
    for n in range(40):
        queue.enqueue(jobs.add, n)
    assert start_worker(concurrency=8, processes=2, work={"max_jobs": 25}).wait() == 0
    assert queue.count == 15


def test_a_paused_queue_hands_out_nothing(queue: Queue, start_worker: StartWorker) -> None:
    start_worker(concurrency=4)
    queue.enqueue(jobs.add, 1).wait(10)
    queue.pause()
    job = queue.enqueue(jobs.add, 1, 2)
    time.sleep(0.3)
    assert job.get_status() == JobStatus.QUEUED
    queue.resume()
    assert job.wait(5) == 3


def test_tasks_that_a_job_leaves_behind_are_cancelled_and_said(
    queue: Queue, start_worker: StartWorker
) -> None:
    worker = start_worker(concurrency=4)
    job = queue.enqueue(jobs.leave_tasks)
    assert job.wait(10) == "left"
    assert f"job {job.id} left 1 unfinished task behind" in worker.log


def test_a_job_that_cancels_every_task_loses_no_other(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker(concurrency=8)
    naps = [queue.enqueue(jobs.await_and_trace_how_it_ends, str(trace), 30) for _ in range(3)]
    until(lambda: started(trace, 3))
    queue.enqueue(jobs.cancel_all_tasks, str(trace))
    for job in naps:
        with pytest.raises(JobFailedError, match="CancelledError"):
            job.wait(10)
    assert queue.enqueue(jobs.async_add, 1, 2).wait(10) == 3


def test_jobs_that_are_cancelled_before_their_first_step_end(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker(concurrency=8)
    for known in (queue.enqueue(jobs.async_add, 1, 2), queue.enqueue(jobs.cancel_all_tasks, str(trace))):
        until(lambda known=known: known.get_status() in ("finished", "failed"))
    queue.pause()
    queue.enqueue(jobs.cancel_all_tasks, str(trace))
    others = [queue.enqueue(jobs.async_add, 1, 2) for _ in range(5)]
    queue.resume()
    until(lambda: all(job.get_status() in ("finished", "failed") for job in others))
    assert any(job.is_failed for job in others)
    assert queue.enqueue(jobs.async_add, 1, 2).wait(10) == 3


def test_a_blocked_event_loop_is_told_in_the_log(queue: Queue, start_worker: StartWorker) -> None:
    worker = start_worker(concurrency=4)
    job = queue.enqueue(jobs.block_the_loop, 1.8)
    job.wait(10)  # beyond the lease: the supervisor beats
    assert (job.attempts, job.lost) == (1, 0)
    assert f"job {job.id} blocks the event loop" in worker.log
    assert "jobs.block_the_loop" in worker.log


def test_a_simple_worker_runs_one_at_a_time(queue: Queue) -> None:
    with pytest.raises(InvalidOption, match="one job at a time"):
        SimpleWorker([queue], concurrency=2).work(burst=True)


# --- timeouts ---------------------------------------------------------------------------------


def test_a_coroutine_over_its_time_is_cancelled(queue: Queue, start_worker: StartWorker, trace: Path) -> None:
    worker = start_worker(concurrency=4)
    job = queue.enqueue(jobs.await_and_trace_how_it_ends, str(trace), 30, job_timeout=0.2)
    with pytest.raises(JobFailedError, match=r"timeout of 0\.2 s"):
        job.wait(5)
    assert job.errors[0].kind == "timeout"
    assert lines(trace) == ["started", "CancelledError"]
    assert "is replaced" not in worker.log


def test_a_thread_over_its_time_gets_the_exception(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker(concurrency=4)
    child = queue.enqueue(jobs.my_pid).wait(10)
    job = queue.enqueue(jobs.trace_how_it_ends, str(trace), 30, job_timeout=0.2)
    with pytest.raises(JobFailedError, match=r"timeout of 0\.2 s"):
        job.wait(5)
    assert lines(trace) == ["started", "JobTimeoutException"]
    assert queue.enqueue(jobs.my_pid).wait(10) == child


@pytest.mark.parametrize("function", [jobs.trace_and_ignore_everything, jobs.await_and_ignore_everything])
def test_what_ignores_its_timeout_is_settled_beside_others_and_the_process_is_replaced(
    queue: Queue, start_worker: StartWorker, trace: Path, tmp_path: Path, function: object
) -> None:
    worker = start_worker(concurrency=4, kill_grace=0.2, stop_timeout=20)
    child = queue.enqueue(jobs.my_pid).wait(10)
    other = queue.enqueue(jobs.progress, str(tmp_path / "gate"))
    stuck = queue.enqueue(function, str(trace), 60, job_timeout=0.2)  # type: ignore[call-overload]
    until(lambda: other.get_meta() and started(trace))
    with pytest.raises(JobFailedError, match="ignored it"):
        stuck.wait(5)
    assert other.get_status() == JobStatus.STARTED  # it goes on
    (tmp_path / "gate").touch()
    assert other.wait(10) == other.id
    other.refresh()
    assert (other.attempts, other.lost) == (1, 0)
    # nothing progresses any more: it need not wait for the stop timeout
    assert queue.enqueue(jobs.my_pid).wait(10) != child
    assert f"job {stuck.id} ignores its timeout" in worker.log
    assert f"job {stuck.id} failed: minirq.exceptions.JobTimeoutException: " in worker.log


def test_what_outlives_the_stop_timeout_beside_a_stuck_job_runs_again_without_blame(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker(concurrency=4, kill_grace=0.0, stop_timeout=0.5)
    stuck = queue.enqueue(jobs.trace_and_ignore_everything, str(trace), 60, job_timeout=0.2)
    other = queue.enqueue(jobs.append_and_nap, str(trace), "other", 2.5)
    until(lambda: lines(trace).count("other") == 2)
    assert stuck.is_failed
    other.wait(10)
    other.refresh()
    assert (other.attempts, other.lost) == (1, 0)


def test_a_job_that_holds_the_interpreter_is_settled_and_its_neighbours_run_again(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker(concurrency=4, kill_grace=0.0, stop_timeout=0.5)
    other = queue.enqueue(jobs.append_and_nap, str(trace), "other", 0.5)
    until(lambda: "other" in lines(trace))
    stuck = queue.enqueue(jobs.hold_the_interpreter, str(trace), job_timeout=0.2)
    with pytest.raises(JobFailedError, match="ignored it"):
        stuck.wait(10)
    other.wait(10)
    other.refresh()
    assert other.lost == 0


# --- canceling --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "raised"),
    [
        (jobs.trace_how_it_ends, "JobInterrupted"),
        (jobs.await_and_trace_how_it_ends, "CancelledError"),
    ],
)
def test_one_of_many_is_canceled_and_no_other(
    queue: Queue, start_worker: StartWorker, trace: Path, function: object, raised: str
) -> None:
    worker = start_worker(concurrency=80, lease=30)
    child = queue.enqueue(jobs.my_pid).wait(10)
    many = [queue.enqueue(function, str(trace), 1.5) for _ in range(70)]  # type: ignore[call-overload]
    until(lambda: started(trace, 70))
    began = time.monotonic()
    many[3].cancel()
    send_stop_job_command(queue.connection, many[68].id)
    for job in (many[3], many[68]):
        with pytest.raises(JobCanceledError):
            job.wait(5)
    assert within(1, began)
    assert (many[3].get_status(), many[68].get_status()) == (JobStatus.CANCELED, JobStatus.STOPPED)
    assert [job.wait(10) for n, job in enumerate(many) if n not in (3, 68)] == ["returned"] * 68
    assert lines(trace).count(raised) == 2
    assert queue.enqueue(jobs.my_pid).wait(10) == child
    assert "is replaced" not in worker.log


def test_the_same_id_in_two_queues_of_one_process_is_two_jobs(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker("a", "b", concurrency=4)
    a, b = Queue("a", connection=queue.connection), Queue("b", connection=queue.connection)
    long = b.enqueue(jobs.append_and_nap, str(trace), "b", 1.0, job_id="daily")
    until(lambda: lines(trace) == ["b"])
    # the end of the one and what is claimed after it leave the other alone
    a.enqueue(jobs.append_and_nap, str(trace), "a", 0.1, job_id="daily").wait(5)
    a.enqueue(jobs.append, str(trace), "next").wait(5)
    long.wait(5)
    assert lines(trace) == ["b", "a", "next"]


def test_a_stop_is_for_the_job_of_one_queue_and_not_for_its_namesake(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker("a", "b", concurrency=4)
    a, b = Queue("a", connection=queue.connection), Queue("b", connection=queue.connection)
    other = a.enqueue(jobs.trace_how_it_ends, str(trace), 1.0, job_id="daily")
    until(lambda: started(trace))
    stopped = b.enqueue(jobs.trace_how_it_ends, str(trace), 60, job_id="daily")
    until(lambda: started(trace, 2))
    stopped.cancel()
    with pytest.raises(JobCanceledError):
        stopped.wait(5)
    assert other.wait(5) == "returned"
    assert lines(trace).count("started") == 2


@pytest.mark.parametrize("function", [jobs.trace_and_ignore_everything, jobs.await_and_ignore_everything])
def test_what_does_not_stop_ends_as_canceled_and_its_neighbour_ends(
    queue: Queue, start_worker: StartWorker, trace: Path, tmp_path: Path, function: object
) -> None:
    start_worker(concurrency=4, kill_grace=0.2)
    child = queue.enqueue(jobs.my_pid).wait(10)
    other = queue.enqueue(jobs.progress, str(tmp_path / "gate"))
    stuck = queue.enqueue(function, str(trace), 60)  # type: ignore[call-overload]
    until(lambda: other.get_meta() and started(trace))
    stuck.cancel()
    with pytest.raises(JobCanceledError):
        stuck.wait(5)
    (tmp_path / "gate").touch()
    assert other.wait(10) == other.id
    assert queue.enqueue(jobs.my_pid).wait(10) != child


def test_canceling_many_at_their_very_end_settles_each_once(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    start_worker(concurrency=20)
    child = queue.enqueue(jobs.my_pid).wait(10)
    ended = []
    for turn, function in enumerate((jobs.trace_how_it_ends, jobs.await_and_trace_how_it_ends) * 4):
        trace.unlink(missing_ok=True)
        many = [
            queue.enqueue(function, str(trace), 0.05 + n / 1000, retry=Retry(1))  # type: ignore[call-overload]
            for n in range(20)
        ]
        until(lambda: started(trace))
        time.sleep(0.04 + turn // 2 * 0.008)
        for job in many:
            try:
                job.cancel()
            except Exception:
                continue
        until(lambda many=many: all(j.get_status() in ("finished", "canceled") for j in many))
        ended += [job.get_status() for job in many]
    assert set(ended) == {JobStatus.FINISHED, JobStatus.CANCELED}
    assert queue.enqueue(jobs.my_pid).wait(10) == child
    assert not queue.connection.keys("minirq:{default}:processing:*")


# --- ends of processes ------------------------------------------------------------------------


@pytest.mark.parametrize("function", [jobs.append_and_nap, jobs.count_those_that_run_and_await])
def test_the_first_signal_lets_all_that_runs_end(
    queue: Queue, start_worker: StartWorker, trace: Path, function: object
) -> None:
    worker = start_worker(concurrency=5)
    arguments = ("+", 0.5) if function is jobs.append_and_nap else (0.5,)
    running = [queue.enqueue(function, str(trace), *arguments) for _ in range(5)]  # type: ignore[call-overload]
    waiting = [queue.enqueue(jobs.add, 1) for _ in range(3)]
    until(lambda: lines(trace).count("+") == 5)
    worker.signal(signal.SIGTERM)
    assert worker.wait(5) == 0
    assert {job.get_status() for job in running} == {JobStatus.FINISHED}
    assert {job.get_status() for job in waiting} == {JobStatus.QUEUED}


def test_what_comes_after_a_stop_was_asked_for_stays(
    queue: Queue, redis: redis_py.Redis, start_worker: StartWorker, trace: Path
) -> None:
    worker = start_worker(concurrency=4)
    running = queue.enqueue(jobs.append_and_nap, str(trace), "+", 0.8)
    until(lambda: lines(trace) and redis.info("clients")["blocked_clients"])  # it waits for work beside it
    worker.signal(signal.SIGTERM)
    until(lambda: "stopping" in worker.log)
    late = queue.enqueue(jobs.append, str(trace), "late")
    until(lambda: not redis.info("clients")["blocked_clients"])
    until(lambda: queue.job_ids == [late.id])
    assert running.get_status() == JobStatus.STARTED
    assert worker.wait(5) == 0
    assert (running.get_status(), late.get_status()) == (JobStatus.FINISHED, JobStatus.QUEUED)
    assert lines(trace) == ["+"]


def test_the_second_signal_cuts_off_and_all_go_back_in_order_without_blame(
    queue: Queue, start_worker: StartWorker, trace: Path
) -> None:
    worker = start_worker(concurrency=5)
    running = [queue.enqueue(jobs.append_and_nap, str(trace), "+", 30) for _ in range(3)]
    running += [queue.enqueue(jobs.count_those_that_run_and_await, str(trace), 30) for _ in range(2)]
    until(lambda: lines(trace).count("+") == 5)
    worker.signal(signal.SIGTERM)
    until(lambda: "stopping" in worker.log)
    worker.signal(signal.SIGTERM)
    assert worker.wait(5) == 0
    assert {(job.get_status(), job.attempts, job.lost) for job in running} == {(JobStatus.QUEUED, 0, 0)}
    assert set(queue.job_ids) == {job.id for job in running}


def test_an_idle_worker_stops_at_once(queue: Queue, start_worker: StartWorker) -> None:
    worker = start_worker(concurrency=200)
    queue.enqueue(jobs.async_add, 1, 2).wait(10)
    worker.signal(signal.SIGTERM)
    began = time.monotonic()
    assert worker.wait() == 0
    assert within(1.5, began)
    assert not queue.connection.keys("minirq:{default}:processing:*")


def test_what_jobs_changed_is_put_back_once_none_runs(queue: Queue, start_worker: StartWorker) -> None:
    worker = start_worker(concurrency=4)
    child = queue.enqueue(jobs.my_pid).wait(10)
    queue.enqueue(jobs.change_folder, "/").wait(10)
    until(lambda: "has left changed: the working directory; it was put back" in worker.log)
    assert queue.enqueue(jobs.my_pid).wait(10) == child
