"""Processes that run many jobs at once, with the faults of the other tests: nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.own_server import OwnServer
from support.proxy import Proxy
from support.timing import recovered, since
from support.waits import is_gone, until
from support.worker import LEASE, StartWorker, assert_all_done, is_waiting, lines

from minirq import Job, JobStatus, Queue
from minirq.connection import connect

AT_ONCE = 20
EACH = pytest.mark.parametrize("function", ["harmful.trace_and_sleep", "harmful.trace_and_await"])


@pytest.fixture
def own(own_server: OwnServer) -> Iterator[Queue]:
    """A queue of a server that the test may kill."""
    with connect(own_server.url) as client:
        yield Queue(connection=client)


def end_well(made: list[Job[str]]) -> list[int]:
    """All return; the losses of each."""
    assert [job.wait(20) for job in made] == ["slept"] * len(made)
    for job in made:
        job.refresh()
    return [job.lost for job in made]


@EACH
@pytest.mark.parametrize(
    ("fault", "most_lost", "most_runs"),
    [
        ("brought:kill", 0, 60),
        ("claimed:kill:2", AT_ONCE, 80),
        ("started:kill:10", AT_ONCE, 80),
        ("ended:kill:5", AT_ONCE, 80),
        ("settled:kill:3", AT_ONCE, 80),
        ("claimed:raise:3", AT_ONCE, 80),
    ],
)
def test_a_concurrent_worker_is_killed_at_any_step(
    queue: Queue,
    start: StartWorker,
    trace: Path,
    tmp_path: Path,
    function: str,
    fault: str,
    most_lost: int,
    most_runs: int,
) -> None:
    start(fault=fault, concurrency=AT_ONCE)
    until(lambda: is_waiting(queue.connection))
    made = [queue.enqueue(function, str(trace), 0.02) for _ in range(60)]
    until((tmp_path / "struck").exists)
    losses = end_well(made)
    assert max(losses) <= 1
    assert sum(losses) <= most_lost
    assert 60 <= len(lines(trace)) <= most_runs
    assert_all_done(queue.connection)


@EACH
def test_a_whole_concurrent_worker_is_killed(
    queue: Queue, start: StartWorker, trace: Path, function: str
) -> None:
    worker = start(concurrency=AT_ONCE)
    made = [queue.enqueue(function, str(trace), 0.6) for _ in range(6)]
    until(lambda: len(lines(trace)) == 6)
    worker.kill_all()
    died = time.monotonic()
    start(concurrency=AT_ONCE, processes=2)
    until(lambda: len(lines(trace)) > 6)
    recovered("all workers killed", since(died), LEASE + 2)
    losses = end_well(made)
    assert max(losses) == 1
    assert len(lines(trace)) == 6 + sum(losses)
    assert_all_done(queue.connection)


@EACH
def test_the_supervisor_of_a_concurrent_worker_is_killed(
    queue: Queue, start: StartWorker, trace: Path, function: str
) -> None:
    first = start(concurrency=AT_ONCE)
    made = [queue.enqueue(function, str(trace), 0.05) for _ in range(AT_ONCE)]
    made += [queue.enqueue(function, str(trace), 0.5) for _ in range(3)]
    until(lambda: len(lines(trace)) == AT_ONCE + 3)
    [child] = first.children
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: is_gone(child), 1)
    start(concurrency=AT_ONCE)
    assert set(end_well(made)) <= {0, 1}
    assert_all_done(queue.connection)


@EACH
def test_a_concurrent_process_freezes_for_longer_than_the_lease(
    queue: Queue, start: StartWorker, trace: Path, function: str
) -> None:
    start(concurrency=AT_ONCE)
    made = [queue.enqueue(function, str(trace), 0.1) for _ in range(AT_ONCE)]
    until(lambda: len(lines(trace)) == AT_ONCE)
    frozen = int(lines(trace)[0])
    os.kill(frozen, signal.SIGSTOP)
    time.sleep(LEASE + 0.4)  # the supervisor beats for it
    os.kill(frozen, signal.SIGCONT)
    assert end_well(made) == [0] * AT_ONCE
    assert len(lines(trace)) == AT_ONCE


@EACH
def test_a_whole_concurrent_worker_freezes_for_longer_than_the_lease(
    queue: Queue, start: StartWorker, trace: Path, function: str
) -> None:
    frozen = start(concurrency=AT_ONCE)
    made = [queue.enqueue(function, str(trace), 0.4) for _ in range(AT_ONCE)]
    until(lambda: len(lines(trace)) == AT_ONCE)
    thaw = frozen.freeze()
    start(concurrency=AT_ONCE, processes=2)
    losses = end_well(made)
    ended = [job.ended_at for job in made]
    for pid in thaw:
        os.kill(pid, signal.SIGCONT)
    until(lambda: "has lost its lease" in frozen.log or "the result was dropped" in frozen.log)
    assert [job.ended_at for job in made if job.refresh() is None] == ended
    assert set(losses) <= {0, 1}
    assert queue.enqueue("jobs.add", 1, 2).wait(10) == 3
    assert_all_done(queue.connection)


@EACH
@pytest.mark.parametrize("command", ["finish", "BLMOVE"])
@pytest.mark.parametrize("action", ["drop_request", "drop_reply"])
def test_a_concurrent_worker_is_cut_off(
    queue: Queue, start: StartWorker, proxy: Proxy, trace: Path, function: str, command: str, action: str
) -> None:
    start(url=proxy.url, concurrency=AT_ONCE)
    until(lambda: is_waiting(queue.connection))
    rule = proxy.rule(command, action, times=2)
    made = []
    for _ in range(12):
        made += [queue.enqueue(function, str(trace), 0.01) for _ in range(5)]
        time.sleep(0.02)
    assert end_well(made) == [0] * 60
    until(lambda: rule.hits == 2)
    assert len(lines(trace)) == 60
    assert_all_done(queue.connection)


@EACH
def test_the_connections_of_a_concurrent_worker_are_reset_while_jobs_run(
    queue: Queue, start: StartWorker, proxy: Proxy, trace: Path, function: str
) -> None:
    start(url=proxy.url, concurrency=AT_ONCE)
    made = [queue.enqueue(function, str(trace), 0.05) for _ in range(200)]
    for _ in range(6):
        time.sleep(0.08)
        proxy.reset()
    assert end_well(made) == [0] * 200
    assert len(lines(trace)) == 200
    assert_all_done(queue.connection)


@EACH
def test_the_server_is_away_while_a_concurrent_worker_runs(
    own_server: OwnServer, own: Queue, start: StartWorker, trace: Path, function: str
) -> None:
    start(url=own_server.url, concurrency=AT_ONCE)
    made = [own.enqueue(function, str(trace), 0.2) for _ in range(2 * AT_ONCE)]
    until(lambda: len(lines(trace)) >= AT_ONCE)
    own_server.kill()
    time.sleep(LEASE + 0.3)
    own_server.start()
    assert end_well(made) == [0] * 2 * AT_ONCE
    assert len(lines(trace)) == 2 * AT_ONCE
    assert_all_done(own.connection)


@EACH
def test_a_concurrent_worker_is_stopped_while_work_comes_in(
    queue: Queue, start: StartWorker, trace: Path, function: str
) -> None:
    worker = start(concurrency=AT_ONCE)
    made = [queue.enqueue(function, str(trace), 0.05) for _ in range(100)]
    until(lambda: len(lines(trace)) >= AT_ONCE)
    worker.signal(signal.SIGTERM)
    made += [queue.enqueue(function, str(trace), 0.05) for _ in range(5)]
    assert worker.process.wait(5) == 0
    statuses = [job.get_status() for job in made]
    assert set(statuses) == {JobStatus.FINISHED, JobStatus.QUEUED}
    assert statuses.count(JobStatus.FINISHED) == len(lines(trace))
    assert queue.job_ids == [job.id for job in made if job.get_status() == JobStatus.QUEUED]
    assert not queue.connection.keys("minirq:{default}:processing:*")


@EACH
def test_a_concurrent_worker_is_replaced_by_a_hangup(
    queue: Queue, start: StartWorker, trace: Path, function: str
) -> None:
    worker = start(concurrency=AT_ONCE)
    made = [queue.enqueue(function, str(trace), 0.02) for _ in range(100)]
    until(lambda: lines(trace))
    worker.signal(signal.SIGHUP)
    assert end_well(made) == [0] * 100
    assert len(lines(trace)) == 100
