"""Processes of many jobs that die: who runs again beside whom, and who need not wait for that."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jobs
import pytest
import redis as redis_py
from support.timing import within
from support.waits import until
from support.worker import StartWorker, WorkerProcess, lines

from minirq import Job, JobStatus, Queue

#: what workers send by themselves, as the server counts it; what scripts do is not counted
SENT = ("evalsha", "blmove", "bzpopmin", "ping", "eval")


def kill_child(worker: WorkerProcess) -> None:
    [child] = worker.children
    os.kill(child, signal.SIGKILL)


def runs(trace: Path, name: str) -> int:
    return lines(trace).count("+" + name)


def enqueue(queue: Queue, trace: Path, name: str, seconds: float, **options: object) -> Job:
    function = jobs.begin_and_end_and_await if name.startswith("async") else jobs.begin_and_end
    return queue.enqueue(function, str(trace), name, seconds, **options)  # type: ignore[arg-type]


def enqueue_lost(queue: Queue, trace: Path, name: str) -> Job:
    """A job that runs next, and has taken a process down before."""
    queue.pause()
    job = enqueue(queue, trace, name, 0.1, at_front=True)
    queue.connection.hset(f"minirq:{{default}}:job:{job.id}", mapping={"lost": 1, "run": 1})
    queue.resume()
    return job


def at_once(trace: Path, name: str) -> set[str]:
    """The names of all that ran while a job of this name did."""
    running: dict[str, set[str]] = {}
    met: set[str] = set()
    for line in lines(trace):
        if line[0] == "+":
            running[line[1:]] = set(running)
            for others in running.values():
                others.add(line[1:])
        elif line[1:] in running:
            others = running.pop(line[1:])
            met |= others if line[1:] == name else set()
    return met - {name}


@contextmanager
def constant_load(queue: Queue, trace: Path) -> Iterator[None]:
    """More jobs than a worker of four can run at a time, always."""
    over = threading.Event()

    def feed() -> None:
        number = 0
        while not over.wait(0.05):
            while queue.count < 20:
                number += 1
                enqueue(queue, trace, f"load-{number}", 0.5)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_jobs_of_a_dead_process_run_together_once_more(queue: Queue, start: StartWorker, trace: Path) -> None:
    worker = start(concurrency=20)
    queue.enqueue(jobs.nothing).wait(10)
    began = time.monotonic()
    naps = [enqueue(queue, trace, f"{'async-' * (n % 2)}{n}", 2) for n in range(20)]
    until(lambda: len(lines(trace)) == 20)
    kill_child(worker)
    behind = enqueue(queue, trace, "behind", 0)
    for job in naps:
        job.wait(10)
    assert within(6, began)
    behind.wait(10)
    assert {(job.get_status(), job.lost, job.attempts) for job in map(fresh, naps)} == {
        (JobStatus.FINISHED, 1, 2)
    }
    assert at_once(trace, "behind") == set()  # never beside others


def test_those_behind_start_at_once_in_other_processes(queue: Queue, start: StartWorker, trace: Path) -> None:
    first = start(concurrency=4)
    lost = [enqueue(queue, trace, f"lost-{n}", 4) for n in range(4)]
    until(lambda: len(lines(trace)) == 4)
    start(concurrency=4)
    enqueue(queue, trace, "long", 8)
    until(lambda: runs(trace, "long"))
    kill_child(first)
    until(lambda: all(runs(trace, f"lost-{n}") == 2 for n in range(4)))
    behind = [enqueue(queue, trace, f"behind-{n}", 0) for n in range(8)]
    began = time.monotonic()
    for job in behind:
        job.wait(10)
    assert within(2, began)
    for job in lost:
        job.wait(10)
    assert at_once(trace, "lost-0") == {f"lost-{n}" for n in range(4)} - {"lost-0"} | {"long"} | {
        f"behind-{n}" for n in range(8)
    }


def fresh(job: Job) -> Job:
    job.refresh()
    return job


@pytest.mark.parametrize("queues", [("default",), ("default", "other")])
def test_a_process_looks_past_lost_jobs_and_sends_little_meanwhile(
    queue: Queue,
    redis: redis_py.Redis,
    start: StartWorker,
    trace: Path,
    queues: tuple[str, ...],
) -> None:
    start(*queues, concurrency=4)
    long = enqueue(queue, trace, "long", 6)
    until(lambda: runs(trace, "long"))
    lost = [enqueue_lost(queue, trace, f"lost-{n}") for n in range(3)]
    began = time.monotonic()
    for n in range(5):
        enqueue(queue, trace, f"behind-{n}", 0.1).wait(10)
    assert within(4, began)
    sent = sent_in(redis, lambda: time.sleep(2))
    assert sent < 2 * 20
    assert long.get_status() == JobStatus.STARTED
    for job in lost:
        job.wait(10)
        assert at_once(trace, f"lost-{lost.index(job)}") == set()


def sent_in(redis: redis_py.Redis, what: Callable[[], object]) -> int:
    def count() -> int:
        stats = redis.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in SENT)

    before = count()
    what()
    return count() - before


def test_a_process_under_constant_load_runs_a_lost_job_within_fifteen_seconds(
    queue: Queue, redis: redis_py.Redis, start: StartWorker, trace: Path
) -> None:
    start(concurrency=4)
    with constant_load(queue, trace):
        until(lambda: len(lines(trace)) > 8)
        lost = enqueue_lost(queue, trace, "lost")
        began = time.monotonic()
        lost.wait(20)
        assert within(15 + 0.5, began)
        assert at_once(trace, "lost") == set()
        ran = len(lines(trace))
        until(lambda: len(lines(trace)) > ran + 8)  # and then it goes on
    assert not redis.hexists("minirq:{default}:meta", "drained_by")


def test_an_innocent_job_that_bears_one_death_outlives_a_job_that_kills_each_time(
    queue: Queue, start: StartWorker, trace: Path
) -> None:
    start(concurrency=6, loss_pause=0.1)
    innocent = enqueue(queue, trace, "innocent", 0.5, on_worker_lost=1)
    naps = [enqueue(queue, trace, f"nap-{n}", 0.5) for n in range(3)]
    until(lambda: len(lines(trace)) == 4)
    poison = queue.enqueue(jobs.append_and_die, str(trace), "+poison")
    until(lambda: poison.get_status() == JobStatus.FAILED)
    innocent.wait(10)
    assert runs(trace, "poison") == 3
    for job in naps:
        job.wait(10)
    assert (fresh(innocent).lost, innocent.attempts) == (1, 2)
    # with the poison once more, and then alone
    assert {job.lost for job in map(fresh, naps)} <= {1, 2}


@pytest.mark.parametrize("function", [jobs.die_once, jobs.die_once_and_await])
def test_what_ran_beside_a_job_that_killed_once_runs_again_beside_it(
    queue: Queue, start: StartWorker, trace: Path, function: object
) -> None:
    start(concurrency=6)
    naps = [enqueue(queue, trace, f"nap-{n}", 0.5) for n in range(4)]
    until(lambda: len(lines(trace)) == 4)
    killer = queue.enqueue(function, str(trace) + ".killer")  # type: ignore[call-overload]
    late = enqueue(queue, trace, "late", 0.05)
    assert killer.wait(10) == "survived"
    for job in naps:
        job.wait(10)
    assert {(job.lost, job.attempts) for job in map(fresh, naps)} == {(1, 2)}
    late.wait(10)


def test_what_has_taken_a_process_down_waits_until_nothing_else_runs(
    queue: Queue, redis: redis_py.Redis, start: StartWorker, trace: Path
) -> None:
    start(concurrency=4)
    queue.enqueue(jobs.add, 1).wait(10)
    dangerous = queue.enqueue_in(0.3, jobs.begin_and_end, str(trace), "dangerous", 0.1)
    redis.hset(f"minirq:{{default}}:job:{dangerous.id}", mapping={"lost": 1, "run": 1})
    running = enqueue(queue, trace, "running", 0.8)
    dangerous.wait(10)
    running.wait(10)
    assert lines(trace) == ["+running", "-running", "+dangerous", "-dangerous"]
