"""Processes: workers and producers, started on a core of their own or not, ended with all their children."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil

from bench.marks import FOLDER_VARIABLE
from bench.systems.system import URL_VARIABLE, System, Unsupported


class Trouble(Exception):
    """A system did not do what was asked; says what."""


def can_pin() -> bool:
    return hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started in here runs on this core alone."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Worker:
    """A system's worker and all its processes."""

    def __init__(  # noqa: PLR0913 - what a command line takes
        self, system: System, python: Path, url: str, marks: Path, log: IO[str], *,
        processes: int = 1, concurrency: int = 1, core: int | None = None,
    ) -> None:  # fmt: skip
        environment = _environment(system, url, {FOLDER_VARIABLE: str(marks)})
        command = [str(python), *system.worker_command(url, processes, concurrency)]
        self.started_ns = time.monotonic_ns()
        with on_core(core):
            self._process = subprocess.Popen(
                command, env=environment, cwd=system.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def tree(self) -> list[psutil.Process]:
        """The worker's processes, itself first."""
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def memory(self) -> int:
        """Bytes: PSS of all its processes where there is such a thing, else RSS."""
        total = 0
        for process in self.tree():
            try:
                full = process.memory_full_info()
            except psutil.Error:
                continue
            total += getattr(full, "pss", full.rss)
        return total

    def kill(self) -> None:
        """Send SIGKILL to all of it at once."""
        tree = self.tree()
        # stopped first: no process may see another die and act on it
        for process in tree:
            _signal(process, "suspend")
        for process in dict.fromkeys([*tree, *self.tree()]):
            _signal(process, "kill")
        self._process.wait()
        deadline = time.monotonic() + 5
        # whoever inherits the children may be slow to reap them; a zombie is dead enough
        while any(map(_lives, tree)) and time.monotonic() < deadline:
            time.sleep(0.001)


class ProducerProcess:
    """The process that enqueues for a system."""

    def __init__(
        self, system: System, python: Path, url: str, log: IO[str], *, core: int | None = None
    ) -> None:
        environment = _environment(system, url, {})
        with on_core(core):
            self._process = subprocess.Popen(
                [str(python), "-m", "bench.producer", "serve", system.name], env=environment, cwd=system.root,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, **request: Any) -> Any:
        """Send one request of bench.producer and return its answer. Raises Unsupported or Trouble."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise Trouble("the process that enqueues has ended") from None
        line = self._process.stdout.readline()
        if not line:
            raise Trouble("the process that enqueues has ended")
        said = json.loads(line)
        if "unsupported" in said:
            raise Unsupported(said["unsupported"])
        if "error" in said:
            raise Trouble(said["error"])
        return said["answer"]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _environment(system: System, url: str, more: dict[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MINIRQ_", "REDIS", "BENCH_"))
    }
    own = {"PYTHONPATH": str(system.root), "PYTHONWARNINGS": "ignore", URL_VARIABLE: url}
    return {**kept, **own, **more, **system.environment(url)}


def end_children() -> None:
    """End everything that this process has started, and what that has started."""
    for process in psutil.Process().children(recursive=True):
        _signal(process, "kill")


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, how: str) -> None:
    try:
        getattr(process, how)()
    except psutil.NoSuchProcess:
        pass
