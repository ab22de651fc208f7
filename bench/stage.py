"""Stage: one system on the bench's server, with what all cases do: fill, start workers, wait."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.marks import Marks
from bench.processes import ProducerProcess, Trouble, Worker, can_pin
from bench.server import Server
from bench.systems import System

#: a worker is given so long for its first job, seconds
_START = 30.0
#: further processes are waited for so long after the first has begun
_MORE = 3.0


@dataclass
class Stage:
    """`seconds` is how much work a timed part is meant to be for the system; `most` bounds counts of jobs."""

    system: System
    python: Path
    server: Server
    log: IO[str]
    seconds: float = 1.0
    most: int = 1_000_000

    def jobs(self, *, seconds: float = 1.0, least: int = 100, most: int = 200_000) -> int:
        """How many jobs: what the system does in this time, roughly, within bounds."""
        wanted = int(self.system.speed * seconds * self.seconds)
        return min(max(least, min(wanted, most)), self.most)

    @contextmanager
    def pinned(self, wanted: bool) -> Iterator[int | None]:
        """The server on one core, which is returned for what shall share it; None where nothing is pinned."""
        if not wanted:
            yield None
            return
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(self.server.pid, {min(cores)})
        try:
            yield min(cores)
        finally:
            os.sched_setaffinity(self.server.pid, cores)

    @contextmanager
    def producer(self, *, core: int | None = None) -> Iterator[ProducerProcess]:
        """The process that enqueues, on an empty server."""
        self.server.empty()
        producer = ProducerProcess(self.system, self.python, self.server.url, self.log, core=core)
        try:
            yield producer
        finally:
            producer.close()

    @contextmanager
    def marks(self) -> Iterator[Marks]:
        folder = Path(tempfile.mkdtemp(prefix="minirq-marks-", dir=_in_memory()))
        try:
            yield Marks(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def worker(
        self, marks: Marks, *, processes: int = 1, concurrency: int = 1, core: int | None = None
    ) -> Iterator[Worker]:
        """A worker, killed at the end."""
        worker = Worker(
            self.system, self.python, self.server.url, marks.folder, self.log,
            processes=processes, concurrency=concurrency, core=core,
        )  # fmt: skip
        try:
            yield worker
        finally:
            worker.kill()

    def at_the_gate(self, worker: Worker, marks: Marks, processes: int) -> None:
        """Wait until all processes of a worker have begun a job, which waits for the gate."""
        self.wait(worker, lambda: bool(marks.boards()), "has begun no job", _START)
        deadline = time.monotonic() + _MORE
        while len(marks.boards()) < processes and time.monotonic() < deadline:
            time.sleep(0.005)

    def count(self, worker: Worker, marks: Marks, jobs: int, timeout: float) -> None:
        """Wait until so many jobs have been counted."""
        self.wait(worker, lambda: marks.counted() >= jobs, f"has not run {jobs} jobs", timeout)

    def wait(self, worker: Worker, is_done: Callable[[], bool], what: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not is_done():
            if worker.has_ended():
                raise Trouble("the worker has ended by itself")
            if time.monotonic() > deadline:
                raise Trouble(f"the worker {what} within {timeout:.0f} s")
            time.sleep(0.005)

    def drain(
        self, producer: ProducerProcess, job: str, jobs: int, *,
        size: int = 0, processes: int = 1, concurrency: int = 1, core: int | None = None,
    ) -> float:  # fmt: skip
        """Fill the queue, then let a worker run it dry; the seconds from the gate to the last job."""
        self.server.empty()
        producer.ask("fill", job=job, n=jobs, size=size)
        with self.marks() as marks:
            return self.run_dry(marks, jobs, processes=processes, concurrency=concurrency, core=core)

    def run_dry(
        self, marks: Marks, jobs: int, *, processes: int = 1, concurrency: int = 1, core: int | None = None
    ) -> float:
        """Let a worker run what waits; the seconds from the gate to the last job."""
        with self.worker(marks, processes=processes, concurrency=concurrency, core=core) as worker:
            self.at_the_gate(worker, marks, processes)
            marks.open_gate()
            self.count(worker, marks, jobs, 20 + 4 * jobs / self.system.speed)
            return (marks.last_ns() - marks.opened_ns) / 1e9


def pinnings() -> dict[str, bool]:
    """The ways to measure what depends on cores: a prefix for the metrics, and whether to pin."""
    return {"pinned": True, "free": False} if can_pin() else {"free": False}


def _in_memory() -> str | None:
    """A folder in memory for the boards, where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
