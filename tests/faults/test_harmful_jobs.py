"""Jobs that hurt their process, or leave it changed for the next one. All run in one shared worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harmful
import pytest
from support.timing import recovered, since
from support.waits import is_gone, until
from support.worker import GRACE, QUICK, WorkerProcess, assert_all_done, lines, python_worker

from minirq import JobStatus, Queue
from minirq.connection import connect


@pytest.fixture(scope="module")
def worker(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    folder = tmp_path_factory.mktemp("shared")
    with connect(redis_url) as client:
        client.flushall()
    worker = python_worker(redis_url, (), folder / "worker.log", loss_pause=0, **QUICK)
    yield worker
    worker.kill_all()


@pytest.fixture
def queue(worker: WorkerProcess, redis_url: str) -> Iterator[Queue]:
    with connect(redis_url) as client:
        yield Queue(connection=client)
        assert_all_done(client)


def found(queue: Queue) -> dict[str, Any]:
    return queue.enqueue(harmful.surroundings).wait(10)


# --- jobs that take their process along -------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args", "said"),
    [
        (harmful.segfault, (), "SIGSEGV"),
        (harmful.exit_hard, (0,), "exited with code 0"),
        (harmful.exit_hard, (1,), "exited with code 1"),
        (harmful.killed, (), "SIGKILL"),
    ],
)
def test_a_job_takes_its_process_down(queue: Queue, trace: Path, function: Any, args: Any, said: str) -> None:
    job = queue.enqueue(function, str(trace), *args)
    until(lambda: lines(trace))
    began = time.monotonic()
    assert job.wait(10) == "survived"
    recovered("a job that took its process down", since(began), 1.0)
    job.refresh()
    assert (job.attempts, job.lost) == (2, 1)
    assert said in job.errors[0].message


@pytest.mark.parametrize(
    ("function", "args", "exc_type"),
    [
        ("harmful.eat_memory", (), "MemoryError"),
        ("jobs.leave", (0,), "SystemExit"),
        ("jobs.interrupt", (), "KeyboardInterrupt"),
        ("harmful.raise_unusual", (), "harmful.Unusual"),
        ("harmful.recurse", (), "RecursionError"),
    ],
)
def test_a_job_raises_what_is_no_error(queue: Queue, function: str, args: Any, exc_type: str) -> None:
    before = found(queue)["pid"]
    job = queue.enqueue(function, *args)
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert job.errors[0].exc_type == exc_type
    assert (job.attempts, job.lost) == (1, 0)
    assert found(queue)["pid"] == before


@pytest.mark.parametrize(
    "function", ["harmful.match_for_ever", "harmful.hold_the_interpreter", "harmful.swallow"]
)
def test_a_job_cannot_be_interrupted(queue: Queue, function: str) -> None:
    args = (60,) if function.endswith("swallow") else ()
    job = queue.enqueue(function, *args, job_timeout=0.2)
    until(lambda: job.get_status() == JobStatus.STARTED)
    began = time.monotonic()
    until(lambda: job.get_status() == JobStatus.FAILED)
    recovered("a job that ignores its timeout", since(began), 0.2 + GRACE + 1)
    assert job.errors[0].kind == "timeout"
    assert (job.attempts, job.lost) == (1, 0)


def test_each_run_has_a_number_that_never_goes_back(queue: Queue, trace: Path) -> None:
    job = queue.enqueue(harmful.note_the_run, str(trace))
    assert job.wait(10) == "noted"
    job.requeue()
    assert job.wait(10) == "noted"
    assert lines(trace) == ["1", "2", "3"]


# --- jobs that leave their process changed ----------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args", "what"),
    [
        ("change_folder", ("/",), "the working directory"),
        ("remove_folder", ("gone",), "the working directory"),
        ("change_umask", (), "the umask"),
        ("block_signals", (), "the signal mask"),
        ("ignore_signals", (), "the handler of SIGTERM"),
        ("install_handlers", (), "the handler of SIGUSR1"),
        ("set_an_alarm", (), "an alarm"),
        ("leave_an_event_loop", (), None),
        ("run_asyncio", (), None),
        ("replace_stdout", (), "sys.stdout"),
        ("redirect_stdout", ("other",), "descriptor 1"),
        ("print_binary", (), None),
    ],
)
def test_what_a_job_changed_is_put_back(
    queue: Queue, worker: WorkerProcess, function: str, args: Any, what: str | None
) -> None:
    before = found(queue)
    options = {"job_timeout": -1} if function == "set_an_alarm" else {}
    job = queue.enqueue(f"harmful.{function}", *args, **options)
    job.wait(10)
    assert found(queue) == before
    if what is not None:
        [line] = [line for line in worker.log.splitlines() if f"harmful.{function} has left changed" in line]
        assert what in line
        assert "put back" in line


@pytest.mark.parametrize(
    ("function", "args"),
    [("close_stdout", ()), ("close_all_descriptors", ()), ("close_and_open_files", (".",))],
)
def test_a_process_that_cannot_be_put_right_is_replaced(
    queue: Queue, worker: WorkerProcess, function: str, args: Any
) -> None:
    before = found(queue)
    job = queue.enqueue(f"harmful.{function}", *args)
    result = job.wait(10)
    until(lambda: f"job {job.id} has left it unfit" in worker.log)
    after = found(queue)
    assert after["pid"] != before["pid"]
    assert {**after, "pid": 0} == {**before, "pid": 0}
    job.refresh()
    assert (job.attempts, job.lost) == (1, 0)
    if result and function == "close_and_open_files":  # nothing of ours was written into the job's files
        folder = Path(f"/proc/{worker.pid}/cwd").resolve()
        assert [(folder / name).stat().st_size for name in result] == [0] * 20


def test_a_thread_is_left_alone_and_many_are_not(queue: Queue, worker: WorkerProcess) -> None:
    before = found(queue)["pid"]
    queue.enqueue("harmful.leave_a_thread").wait(10)
    assert found(queue)["pid"] == before
    assert "harmful.leave_a_thread has left 1 threads" in worker.log
    queue.enqueue("harmful.leave_threads", 50).wait(10)
    assert found(queue)["pid"] != before


def test_a_process_that_a_job_left_dies_with_the_jobs_process(queue: Queue, worker: WorkerProcess) -> None:
    left = queue.enqueue("harmful.leave_a_process").wait(10)
    assert not is_gone(left)
    assert "harmful.leave_a_process has left 1 processes" in worker.log
    queue.enqueue("harmful.close_all_descriptors").wait(10)
    until(lambda: is_gone(left))


def test_a_job_that_forks_and_returns(queue: Queue, worker: WorkerProcess, trace: Path) -> None:
    job = queue.enqueue("harmful.fork_and_return", str(trace))
    assert job.wait(10) == "returned"
    until(lambda: len(lines(trace)) == 2)
    job.refresh()
    assert job.attempts == 1
    pid = found(queue)["pid"]
    for copy in set(map(int, lines(trace))) - {pid}:
        until(lambda copy=copy: is_gone(copy))


def test_a_daemon_that_a_job_started_holds_no_connection(queue: Queue, trace: Path) -> None:
    of_worker = queue.enqueue("harmful.open_socket_count").wait(10)
    assert of_worker > 0
    pid, count = map(int, queue.enqueue("harmful.daemonise", str(trace)).wait(10).split())
    try:
        assert count == 0
        assert not is_gone(pid)
        # the worker's own connections are as they were
        assert queue.enqueue("harmful.open_socket_count").wait(10) >= of_worker
    finally:
        os.kill(pid, signal.SIGKILL)


def test_short_jobs_in_a_batch_are_looked_after_too(queue: Queue) -> None:
    before = found(queue)
    data = Queue.prepare_data("harmful.change_umask")
    made = queue.enqueue_many([data] * 200)
    made[-1].wait(10)  # not the end of the queue: what is enqueued then may run in the same batch
    assert found(queue) == before


_MEASURE = """
import time
from minirq.worker.cleanup import ProcessState
state, best = ProcessState(list), 1.0
for _ in range(50):
    began = time.perf_counter()
    for _ in range(100):
        state.remember()
        assert state.restore("f")
    best = min(best, (time.perf_counter() - began) / 100)
print(best * 1e6)
"""


def test_the_checks_between_jobs_cost_microseconds() -> None:
    # in a process of its own: this one's timers and threads are pytest's
    ran = subprocess.run([sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True)
    print(f"{float(ran.stdout):.1f} microseconds")
    assert float(ran.stdout) < 100
