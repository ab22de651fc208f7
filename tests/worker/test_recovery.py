"""What dies is run again: processes, whole workers, frozen workers."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import jobs
import pytest
import redis as redis_py
from support.timing import within
from support.waits import is_gone, until
from support.worker import StartWorker, lines

from minirq import JobStatus, Queue, Retry
from minirq.protocol.submission import OnWorkerLost


def test_a_job_whose_process_is_killed_runs_again_within_a_second(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker(processes=2)
    trace = tmp_path / "trace"
    job = queue.enqueue(jobs.die_once, str(trace))
    until(lambda: len(lines(trace)) == 1)
    died = time.monotonic()
    assert job.wait(10) == "survived"
    assert within(1.0, died)
    job.refresh()
    assert (job.attempts, job.lost) == (2, 1)
    assert "SIGKILL" in job.errors[0].message
    assert "peak memory" in job.errors[0].message


def test_a_job_that_kills_its_process_each_time_fails_with_the_evidence(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(processes=2)
    trace = tmp_path / "trace"
    poison = queue.enqueue(jobs.append_and_die, str(trace), "run")
    good = [queue.enqueue(jobs.add, n, 1) for n in range(100)]
    assert [job.wait(20) for job in good] == [n + 1 for n in range(100)]
    until(lambda: poison.get_status() == JobStatus.FAILED)
    assert len(lines(trace)) == 3
    assert [error.kind for error in poison.errors] == ["lost"] * 3
    assert worker.process.poll() is None
    until(lambda: len(worker.children) == 2)


@pytest.mark.parametrize(("on_worker_lost", "runs"), [("fail", 1), (0, 1), (1, 2), ("retry", 3)])
def test_how_often_a_job_is_run_again_after_a_death_is_its_own_choice(
    queue: Queue, start_worker: StartWorker, tmp_path: Path, on_worker_lost: OnWorkerLost, runs: int
) -> None:
    start_worker()
    trace = tmp_path / "trace"
    job = queue.enqueue(jobs.append_and_die, str(trace), "run", on_worker_lost=on_worker_lost)
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert (len(lines(trace)), job.attempts, job.lost) == (runs, runs, runs)
    assert "SIGKILL" in job.errors[0].message
    assert queue.enqueue(jobs.add, 1, 2).wait(10) == 3


def test_a_queue_can_choose_for_its_jobs_and_each_job_for_itself(
    redis: redis_py.Redis, start_worker: StartWorker, tmp_path: Path
) -> None:
    careful = Queue(connection=redis, on_worker_lost="fail")
    start_worker()
    first = careful.enqueue(jobs.append_and_die, str(tmp_path / "a"), "run")
    second = careful.enqueue(jobs.append_and_die, str(tmp_path / "b"), "run", on_worker_lost=1)
    [third] = careful.enqueue_many([Queue.prepare_data(jobs.append_and_die, [str(tmp_path / "c"), "run"])])
    until(lambda: {job.get_status() for job in (first, second, third)} == {JobStatus.FAILED})
    assert [len(lines(tmp_path / name)) for name in "abc"] == [1, 2, 1]


def test_a_running_job_that_must_not_run_again_fails_when_its_worker_cuts_it_off(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(stop_timeout=0.2)
    trace = tmp_path / "trace"
    job = queue.enqueue(jobs.append_and_nap, str(trace), "run", 30, on_worker_lost="fail")
    waiting = queue.enqueue(jobs.add, 1, on_worker_lost="fail")
    until(lambda: len(lines(trace)) == 1)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert (job.get_status(), waiting.get_status()) == (JobStatus.FAILED, JobStatus.QUEUED)
    assert "was ended by its worker" in job.errors[0].message


def test_short_jobs_that_must_not_run_again_are_settled_before_the_next_one_can_do_harm(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    queue.enqueue_many(Queue.prepare_data(jobs.append_or_die, [str(trace), f"warm {n}"]) for n in range(200))
    once = []
    for n in range(30):
        once.append(queue.enqueue(jobs.append_or_die, str(trace), f"once {n}", on_worker_lost="fail"))
        queue.enqueue(jobs.append_or_die, str(trace), "die" if n == 20 else f"any {n}")
    start_worker()
    until(lambda: queue.count == 0 and {job.get_status() for job in once} == {JobStatus.FINISHED})
    ran = Counter(line for line in lines(trace) if line.startswith("once"))
    assert ran == Counter(f"once {n}" for n in range(30))


@pytest.mark.parametrize("code", [0, 1])
def test_an_exit_inside_a_job_is_not_taken_for_success(
    queue: Queue, start_worker: StartWorker, code: int
) -> None:
    start_worker()
    job = queue.enqueue(jobs.quick_exit, code)
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert job.lost == 3
    assert f"exited with code {code}" in job.errors[0].message


def test_jobs_of_a_killed_worker_are_taken_over_within_lease_and_two_seconds(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    first = start_worker()
    job = queue.enqueue(jobs.append_and_nap, str(trace), "run", 5)
    until(lambda: len(lines(trace)) == 1)
    start_worker()
    until(lambda: len(workers_of(queue)) == 2)
    first.kill_all()
    died = time.monotonic()
    until(lambda: len(lines(trace)) == 2)
    assert within(1.0 + 2.0, died)
    assert job.get_status() == JobStatus.STARTED
    assert job.lost == 1


def test_children_die_with_their_supervisor(queue: Queue, start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker(processes=2)
    trace = tmp_path / "trace"
    queue.enqueue(jobs.append_and_nap, str(trace), "run", 30)
    until(lambda: len(lines(trace)) == 1)
    children = worker.children
    assert len(children) == 2
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    for pid in children:
        until(lambda pid=pid: is_gone(pid), 2)


def test_the_late_result_of_a_frozen_worker_is_dropped(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    frozen = start_worker()
    job = queue.enqueue(jobs.append_and_nap, str(trace), "run", 0.5)
    until(lambda: len(lines(trace)) == 1)
    pids = [frozen.pid, *frozen.children]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    start_worker()
    until(lambda: job.get_status() == JobStatus.FINISHED)
    job.refresh()
    ended = job.ended_at
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)
    until(lambda: "the result was dropped" in frozen.log or "has lost its lease" in frozen.log)
    job.refresh()
    assert job.ended_at == ended
    assert (job.attempts, job.lost) == (2, 1)
    # the frozen worker works on, as a new owner
    until(lambda: frozen.children and frozen.children[0] not in pids)


def test_a_frozen_child_alone_is_not_mistaken_for_a_dead_one(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    worker = start_worker()
    job = queue.enqueue(jobs.append_and_nap, str(trace), "run", 0.1)
    until(lambda: len(lines(trace)) == 1)
    [child] = worker.children
    os.kill(child, signal.SIGSTOP)
    start_worker()
    until(lambda: len(workers_of(queue)) == 2)
    # its supervisor beats for it
    time.sleep(1.5)
    assert job.get_status() == JobStatus.STARTED
    os.kill(child, signal.SIGCONT)
    job.wait(10)
    assert len(lines(trace)) == 1


def test_a_job_that_ignores_its_timeout_is_killed_after_the_grace(
    queue: Queue, start_worker: StartWorker
) -> None:
    start_worker()
    job = queue.enqueue(jobs.ignore_everything, 30, job_timeout=0.3)
    until(lambda: job.get_status() == JobStatus.STARTED)
    started = time.monotonic()
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert within(0.3 + 0.5 + 1.0, started)
    assert (job.attempts, job.lost) == (1, 0)
    assert job.errors[0].kind == "timeout"


def test_a_blocked_alarm_does_not_save_a_job_from_its_timeout(
    queue: Queue, start_worker: StartWorker
) -> None:
    start_worker()
    job = queue.enqueue(jobs.block_alarm_and_nap, 30, job_timeout=0.3)
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert job.errors[0].kind == "timeout"
    assert queue.enqueue(jobs.add, 1, 2).wait(10) == 3


def test_a_killed_timeout_counts_as_a_failure_that_may_be_retried(
    queue: Queue, start_worker: StartWorker
) -> None:
    start_worker()
    job = queue.enqueue(jobs.ignore_everything, 30, job_timeout=0.2, retry=Retry(1))
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert [error.kind for error in job.errors] == ["timeout", "timeout"]


def test_what_a_job_left_running_in_its_group_dies_with_its_process(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker()
    job = queue.enqueue("jobs.start_a_sleeper_and_die", str(tmp_path / "pid"))
    until(lambda: job.get_status() == JobStatus.FAILED)
    for pid in (tmp_path / "pid").read_text().split():
        until(lambda pid=pid: is_gone(pid))


def workers_of(queue: Queue) -> list[str]:
    """The workers that have beaten."""
    return [name.decode() for name in queue.connection.zrange("minirq:workers", 0, -1)]


def test_a_module_that_never_finishes_its_import_is_over_time_too(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    (tmp_path / "hanging.py").write_text("import time\ntime.sleep(60)\n")
    start_worker(paths=[str(tmp_path)])
    job = queue.enqueue("hanging.f", job_timeout=0.3)
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert job.errors[0].kind == "timeout"
