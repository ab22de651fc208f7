"""Stopping: warm, cold, and what becomes of the jobs."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import jobs
import pytest
from support.timing import since, within
from support.waits import until
from support.worker import StartWorker, lines

from minirq import JobStatus, Queue, SimpleWorker
from minirq.command import send_shutdown_command


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_the_running_job_end(
    queue: Queue, start_worker: StartWorker, tmp_path: Path, number: int
) -> None:
    worker = start_worker()
    trace = tmp_path / "trace"
    running = queue.enqueue(jobs.append_and_nap, str(trace), "run", 0.5)
    waiting = queue.enqueue(jobs.add, 1, 2)
    until(lambda: len(lines(trace)) == 1)
    worker.signal(number)
    assert worker.wait() == 0
    assert running.get_status() == JobStatus.FINISHED
    assert waiting.get_status() == JobStatus.QUEUED


def test_the_second_signal_cuts_the_job_off_and_it_goes_back_to_the_front_without_blame(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker()
    trace = tmp_path / "trace"
    running = queue.enqueue(jobs.append_and_nap, str(trace), "run", 30)
    queue.enqueue(jobs.add, 1, 2)
    until(lambda: len(lines(trace)) == 1)
    worker.signal(signal.SIGTERM)
    until(lambda: "stopping" in worker.log)
    worker.signal(signal.SIGTERM)
    assert worker.wait(5) == 0
    assert running.get_status() == JobStatus.QUEUED
    assert (running.attempts, running.lost) == (0, 0)
    assert queue.job_ids[0] == running.id


def test_a_job_longer_than_the_stop_timeout_is_cut_off(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(stop_timeout=0.5)
    trace = tmp_path / "trace"
    job = queue.enqueue(jobs.append_and_nap, str(trace), "run", 30)
    until(lambda: len(lines(trace)) == 1)
    worker.signal(signal.SIGTERM)
    began = time.monotonic()
    assert worker.wait() == 0
    assert since(began) > 0.4
    assert within(2.5, began)
    assert job.get_status() == JobStatus.QUEUED


@pytest.mark.parametrize("options", [{}, {"concurrency": 20}, {"kind": "SimpleWorker"}])
def test_without_a_limit_a_running_job_may_end(
    queue: Queue, start_worker: StartWorker, tmp_path: Path, options: dict[str, Any]
) -> None:
    worker = start_worker(stop_timeout=-1, **options)
    trace = tmp_path / "trace"
    running = queue.enqueue(jobs.append_and_nap, str(trace), "run", 1)
    until(lambda: len(lines(trace)) == 1)
    worker.signal(signal.SIGTERM)
    until(lambda: "stopping" in worker.log)
    waiting = queue.enqueue(jobs.add, 1, 2)
    assert worker.wait() == 0
    assert running.get_status() == JobStatus.FINISHED
    assert (waiting.get_status(), waiting.attempts) == (JobStatus.QUEUED, 0)


@pytest.mark.parametrize("options", [{}, {"kind": "SimpleWorker"}])
def test_the_rest_of_a_batch_goes_back_at_once_and_in_its_order(
    queue: Queue, start_worker: StartWorker, tmp_path: Path, options: dict[str, Any]
) -> None:
    worker = start_worker(stop_timeout=-1, **options)
    switch = tmp_path / "switch"
    short = [Queue.prepare_data(jobs.sometimes_long, (str(switch), 1)) for _ in range(30)]
    queue.enqueue_many(short)[-1].wait(10)  # they were measured, so they are claimed together
    switch.touch()
    long, *rest = queue.enqueue_many(short)
    until((tmp_path / "switch.started").exists)
    worker.signal(signal.SIGTERM)
    until(lambda: queue.job_ids == [job.id for job in rest])
    assert long.get_status() == JobStatus.STARTED
    assert worker.wait() == 0
    assert long.get_status() == JobStatus.FINISHED
    assert queue.job_ids == [job.id for job in rest]


def test_the_second_signal_gives_the_job_of_a_simple_worker_back(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(kind="SimpleWorker", stop_timeout=-1)
    trace = tmp_path / "trace"
    done = queue.enqueue(jobs.add, 1, 2)
    running = queue.enqueue(jobs.append_and_nap, str(trace), "run", 30)
    once = queue.enqueue(jobs.append_and_nap, str(trace), "run", 30, on_worker_lost="fail")
    until(lambda: len(lines(trace)) == 1)
    worker.signal(signal.SIGTERM)
    until(lambda: "stopping" in worker.log)
    worker.signal(signal.SIGINT)
    assert worker.wait(10) == 0
    assert (running.get_status(), running.attempts, running.lost) == (JobStatus.QUEUED, 0, 0)
    assert queue.job_ids == [running.id, once.id]
    assert done.return_value() == 3


def test_a_simple_worker_that_stops_runs_no_job_twice_that_must_not(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(kind="SimpleWorker", stop_timeout=0.3)
    trace = tmp_path / "trace"
    once = queue.enqueue(jobs.append_and_nap, str(trace), "run", 30, on_worker_lost="fail")
    until(lambda: len(lines(trace)) == 1)
    worker.signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert once.get_status() == JobStatus.FAILED
    assert "the worker was stopped" in once.errors[0].summary


def test_a_simple_worker_in_a_thread_is_cut_off(queue: Queue, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    worker = SimpleWorker([queue], name="threaded")
    thread = threading.Thread(target=worker.work)
    job = queue.enqueue(jobs.trace_how_it_ends, str(trace), 30)
    thread.start()
    until(lambda: len(lines(trace)) == 1)
    send_shutdown_command(queue.connection, "threaded", now=True)
    thread.join(10)
    assert not thread.is_alive()
    assert (job.get_status(), job.attempts, job.lost) == (JobStatus.QUEUED, 0, 0)


def test_an_idle_worker_stops_at_once(queue: Queue, start_worker: StartWorker) -> None:
    worker = start_worker(processes=2)
    queue.enqueue(jobs.add, 1).wait(10)
    until(lambda: len(worker.children) == 2)
    worker.signal(signal.SIGTERM)
    began = time.monotonic()
    assert worker.wait() == 0
    assert within(1.5, began)


def test_a_stopped_worker_leaves_nothing_behind(queue: Queue, start_worker: StartWorker) -> None:
    worker = start_worker()
    queue.enqueue(jobs.add, 1).wait(10)
    worker.signal(signal.SIGTERM)
    worker.wait()
    assert queue.connection.zcard("minirq:workers") == 0
    assert not queue.connection.keys("minirq:{default}:processing:*")


def test_max_jobs_are_run_and_no_more(queue: Queue, start_worker: StartWorker) -> None:
    for n in range(10):
        queue.enqueue(jobs.add, n)
    worker = start_worker(processes=2, work={"max_jobs": 5})
    assert worker.wait() == 0
    assert queue.count == 5


def test_burst_ends_when_the_queues_are_empty(queue: Queue, start_worker: StartWorker) -> None:
    done = [queue.enqueue(jobs.add, n) for n in range(20)]
    worker = start_worker(processes=2, work={"burst": True})
    assert worker.wait() == 0
    assert all(job.is_finished for job in done)


def test_burst_runs_the_job_of_a_process_that_died(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    job = queue.enqueue(jobs.die_once, str(tmp_path / "trace"))
    worker = start_worker(processes=2, work={"burst": True})
    assert worker.wait() == 0
    assert job.return_value() == "survived"
