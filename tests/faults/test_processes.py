"""Processes that die or freeze: at each step of a job's way, and each process of a worker."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from pathlib import Path
from typing import NoReturn

import harmful
import pytest
from faults.recovery import runs_again, slow_commands, watch_the_server
from support.timing import recovered, since
from support.waits import is_gone, is_stopped, until
from support.worker import LEASE, StartWorker, assert_all_done, is_waiting, lines

from minirq import JobStatus, Queue
from minirq.protocol.payload import Payload
from minirq.protocol.serializers import resolve_serializer
from minirq.worker.process import Process
from minirq.worker.settings import WorkerSettings


@pytest.mark.parametrize(
    ("fault", "runs", "attempts", "lost"),
    [
        ("brought:kill", 1, 1, 0),
        ("claimed:kill", 1, 1, 0),
        ("started:kill", 1, 2, 1),
        ("ended:kill", 2, 2, 1),
        ("settled:kill", 1, 1, 0),
        ("claimed:kill:2", 1, 1, 0),
    ],
)
def test_a_process_killed_at_any_step(
    queue: Queue,
    start: StartWorker,
    trace: Path,
    tmp_path: Path,
    fault: str,
    runs: int,
    attempts: int,
    lost: int,
) -> None:
    jobs = [] if fault == "brought:kill" else [queue.enqueue("harmful.trace_and_sleep", str(trace), 0.002)]
    start(fault=fault)
    if fault.startswith(("brought", "claimed:kill:2")):
        until(lambda: is_waiting(queue.connection))
        jobs.append(queue.enqueue("harmful.trace_and_sleep", str(trace), 0.002))
    struck = tmp_path / "struck"
    until(struck.exists)
    assert [job.wait(10) for job in jobs] == ["slept"] * len(jobs)
    recovered("a killed process", time.time() - struck.stat().st_mtime, 1.0)
    for job in jobs:
        job.refresh()
    assert (max(job.attempts for job in jobs), max(job.lost for job in jobs)) == (attempts, lost)
    assert len(lines(trace)) == runs + len(jobs) - 1
    assert_all_done(queue.connection)


def test_a_process_that_freezes_between_wait_and_claim(
    queue: Queue, start: StartWorker, trace: Path, tmp_path: Path
) -> None:
    worker = start(fault="brought:stop")
    until(lambda: is_waiting(queue.connection))
    job = queue.enqueue("harmful.trace_and_sleep", str(trace), 0.0)
    until((tmp_path / "struck").exists)
    [child] = worker.children
    time.sleep(0.2)
    assert job.get_status() == JobStatus.QUEUED
    os.kill(child, signal.SIGCONT)
    assert job.wait(10) == "slept"
    assert len(lines(trace)) == 1


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_idle_process_that_is_frozen_for_good_keeps_no_job(
    queue: Queue, start: StartWorker, trace: Path, concurrency: int
) -> None:
    worker = start(concurrency=concurrency, block=0.5)
    until(lambda: is_waiting(queue.connection))
    [child] = worker.children
    os.kill(child, signal.SIGSTOP)
    until(lambda: is_stopped(child))  # one of several threads might claim the job before it stands still
    job = queue.enqueue("harmful.trace_and_sleep", str(trace), 0.0)
    until(lambda: queue.connection.keys("*processing*"))
    assert job.wait(10) == "slept"
    assert is_gone(child)
    job.refresh()
    assert (len(lines(trace)), job.lost) == (1, 0)
    assert f"process {child} was handed a job and does not claim it" in worker.log
    assert_all_done(queue.connection)


def test_a_process_that_waits_or_works_is_not_taken_for_frozen(
    queue: Queue, start: StartWorker, trace: Path
) -> None:
    worker = start(block=0.5)
    until(lambda: is_waiting(queue.connection))
    children = worker.children
    queue.enqueue("harmful.trace_and_sleep", str(trace), 4.0).wait(10)
    until(lambda: is_waiting(queue.connection))
    assert (worker.children, worker.log.count("is replaced")) == (children, 0)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_host_that_slept_does_not_start_what_has_ended(
    queue: Queue, start: StartWorker, trace: Path, tmp_path: Path, concurrency: int
) -> None:
    asleep = start(fault="claimed:stop", concurrency=concurrency)
    until(lambda: is_waiting(queue.connection))
    job = queue.enqueue("harmful.trace_and_sleep", str(trace), 0.0)
    until((tmp_path / "struck").exists)
    [child] = asleep.children
    asleep.signal(signal.SIGSTOP)
    start()
    assert job.wait(10) == "slept"
    os.kill(child, signal.SIGCONT)
    until(lambda: is_gone(child))  # it has looked what is there, and found that it was given up
    asleep.signal(signal.SIGCONT)
    until(lambda: asleep.children not in ([], [child]))
    assert len(lines(trace)) == 1
    assert f"job {job.id} was claimed" in asleep.log
    assert_all_done(queue.connection)


def test_an_error_of_the_worker_itself(queue: Queue, start: StartWorker, trace: Path) -> None:
    job = queue.enqueue("harmful.trace_and_sleep", str(trace), 0.0)
    worker = start(fault="claimed:raise")
    assert job.wait(10) == "slept"
    assert "MINIRQ_FAULT struck at claimed" in worker.log
    assert "exited with code 70" in worker.log


def test_a_job_that_kills_its_process_after_its_end_each_time(
    queue: Queue, start: StartWorker, trace: Path
) -> None:
    job = queue.enqueue("harmful.die_after_the_end", str(trace))
    start()
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert len(lines(trace)) == 3
    assert job.lost == 3


def test_the_supervisor_is_killed_and_its_children_live(
    queue: Queue, start: StartWorker, trace: Path
) -> None:
    first = start()
    job = queue.enqueue("harmful.trace_and_sleep", str(trace), 5.0)  # longer than the next one takes to start
    until(lambda: len(lines(trace)) == 1)
    start()
    until(lambda: queue.connection.zcard("minirq:workers") == 2)
    [child] = first.children
    os.kill(first.pid, signal.SIGKILL)
    died = time.monotonic()
    until(lambda: is_gone(child), 1)
    until(lambda: len(lines(trace)) == 2)
    recovered("a killed supervisor", since(died), LEASE + 2)
    job.wait(10)
    job.refresh()
    assert (job.attempts, job.lost) == (2, 1)
    assert_all_done(queue.connection)


def test_everything_is_killed(queue: Queue, start: StartWorker, trace: Path) -> None:
    workers = [start(processes=2), start()]
    until(lambda: is_waiting(queue.connection, 3))
    jobs = [queue.enqueue("harmful.trace_and_sleep", str(trace), 0.7) for _ in range(4)]
    until(lambda: len(lines(trace)) == 3)
    for worker in workers:
        worker.kill_all()
    died = time.monotonic()
    start(processes=2)
    until(lambda: len(lines(trace)) == 6)
    recovered("all workers killed", since(died), LEASE + 2)
    assert [job.wait(10) for job in jobs] == ["slept"] * 4
    assert_all_done(queue.connection)


def test_a_process_freezes_for_longer_than_the_lease(queue: Queue, start: StartWorker, trace: Path) -> None:
    worker = start()
    start()
    job = queue.enqueue("harmful.trace_and_sleep", str(trace), 0.1)
    until(lambda: len(lines(trace)) == 1)
    frozen = int(lines(trace)[0])
    os.kill(frozen, signal.SIGSTOP)
    time.sleep(LEASE + 0.4)  # the supervisor beats for it
    assert job.get_status() == JobStatus.STARTED
    os.kill(frozen, signal.SIGCONT)
    assert job.wait(10) == "slept"
    assert len(lines(trace)) == 1
    assert worker.process.poll() is None


def test_the_supervisor_freezes_for_longer_than_the_lease(
    queue: Queue, start: StartWorker, trace: Path
) -> None:
    frozen = start()
    job = queue.enqueue("harmful.trace_and_sleep", str(trace), LEASE + 1.5)
    until(lambda: len(lines(trace)) == 1)
    frozen.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    start()
    until(lambda: len(lines(trace)) == 2)
    recovered("a frozen supervisor", since(stopped), LEASE + 2)
    frozen.signal(signal.SIGCONT)
    until(lambda: "has lost its lease" in frozen.log or "the result was dropped" in frozen.log)
    assert job.wait(10) == "slept"
    job.refresh()
    assert (job.attempts, job.lost) == (2, 1)
    assert queue.enqueue("jobs.add", 1, 2).wait(10) == 3
    assert_all_done(queue.connection)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_to_stop(queue: Queue, start: StartWorker, trace: Path, number: int) -> None:
    worker = start()
    running = queue.enqueue("harmful.trace_and_sleep", str(trace), 1.5)
    waiting = queue.enqueue("jobs.add", 1)
    until(lambda: len(lines(trace)) == 1)
    worker.signal(number)
    assert worker.process.wait(5) == 0
    assert (running.get_status(), waiting.get_status()) == (JobStatus.FINISHED, JobStatus.QUEUED)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_signals_to_stop(queue: Queue, start: StartWorker, trace: Path, number: int) -> None:
    worker = start()
    running = queue.enqueue("harmful.trace_and_sleep", str(trace), 30)
    until(lambda: len(lines(trace)) == 1)
    worker.signal(number)
    until(lambda: "stopping" in worker.log)
    worker.signal(number)
    assert worker.process.wait(5) == 0
    assert (running.get_status(), running.attempts, running.lost) == (JobStatus.QUEUED, 0, 0)


def test_a_hangup(queue: Queue, start: StartWorker, trace: Path) -> None:
    worker = start()
    jobs = [queue.enqueue("harmful.trace_and_sleep", str(trace), 0.02) for _ in range(20)]
    until(lambda: lines(trace))
    worker.signal(signal.SIGHUP)
    assert [job.wait(10) for job in jobs] == ["slept"] * 20
    assert len(lines(trace)) == 20
    until(lambda: len(set(lines(trace))) == 2 or worker.children != [int(lines(trace)[0])])


@pytest.mark.parametrize("victim", ["process", "worker"])
def test_a_job_that_must_not_run_again(queue: Queue, start: StartWorker, trace: Path, victim: str) -> None:
    worker = start()
    job = queue.enqueue("harmful.trace_and_sleep", str(trace), 30, on_worker_lost="fail")
    until(lambda: len(lines(trace)) == 1)
    if victim == "process":
        os.kill(worker.children[0], signal.SIGKILL)
    else:
        worker.kill_all()
        start()
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert (job.attempts, job.lost, len(lines(trace))) == (1, 1, 1)
    assert ("SIGKILL" if victim == "process" else "stopped beating") in job.errors[0].message
    assert_all_done(queue.connection)


def test_what_the_kernel_killed_for_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a real one would take the machine's memory first: the count of the control group is a file
    events, group = tmp_path / "jobs" / "memory.events", tmp_path / "cgroup"
    events.parent.mkdir()
    events.write_text("low 0\noom 2\noom_kill 2\n")
    group.write_text("1:cpu:/other\n0::/jobs\n")
    monkeypatch.setattr("minirq.worker.process._GROUP", group)
    monkeypatch.setattr("minirq.worker.process._GROUPS", tmp_path)
    for risen, number in ((True, signal.SIGKILL), (False, signal.SIGKILL), (True, signal.SIGSEGV)):
        process = Process(WorkerSettings(), ("owner",))
        process.start(lambda number=number: _end_quietly_by(number))
        if risen:
            events.write_text(f"low 0\noom 3\noom_kill {int(events.read_text().split()[-1]) + 1}\n")
        death = process.reap(wait=True)
        assert death is not None
        process.board.close()
        said = death.as_failure([], "worker").message
        assert ("possible OOM" in said) == (risen and number == signal.SIGKILL)


def test_a_poison_job_among_a_thousand_good_ones(queue: Queue, start: StartWorker, trace: Path) -> None:
    good = [Queue.prepare_data(harmful.trace_and_sleep, [f"{trace}.good", 0.0]) for _ in range(1000)]
    deadly = Queue.prepare_data("jobs.append_and_die", [str(trace), "run"])
    made = queue.enqueue_many([*good[:500], deadly, *good[500:]])
    poison = made.pop(500)
    workers = [start(), start()]
    until(lambda: poison.get_status() == JobStatus.FAILED)
    until(lambda: queue.connection.zcard("minirq:{default}:finished") == 1000)
    assert {job.wait(5) for job in made} == {"slept"}
    assert (len(lines(trace)), poison.lost) == (3, 3)
    assert "SIGKILL" in poison.errors[0].message
    assert [worker.process.poll() for worker in workers] == [None, None]
    assert_all_done(queue.connection)


def test_a_hundred_thousand_jobs_wait_while_a_process_and_a_worker_die(
    queue: Queue, start: StartWorker, trace: Path
) -> None:
    client = queue.connection
    dumps = resolve_serializer("msgpack").dumps
    for first_id in range(0, 100_000, 10_000):  # as a foreign producer pushes them: quickly
        ids = map(str, range(first_id, first_id + 10_000))
        args = {job_id: dumps([None, [str(trace), job_id, 0.3], {}], ("args",) * 3) for job_id in ids}
        client.lpush(
            "minirq:{default}:queue",
            *(
                Payload(job_id, "jobs.append_and_nap", "msgpack", blob).encode()
                for job_id, blob in args.items()
            ),
        )
    watch_the_server(client)
    first = start()
    kill_a_child = lambda: os.kill(first.children[0], signal.SIGKILL)  # noqa: E731
    recovered("a killed process of a long queue", runs_again(client, first, trace, kill_a_child, 5), 1.0)
    start()
    until(lambda: client.zcard("minirq:workers") == 2)
    held = runs_again(client, first, trace, first.kill_all, 10)
    recovered("a killed worker of a long queue", held, LEASE + 2)
    assert slow_commands(client) == []


def _end_quietly_by(number: int) -> NoReturn:
    faulthandler.disable()
    os.kill(os.getpid(), number)
    os._exit(0)
