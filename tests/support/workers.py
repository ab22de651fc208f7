"""`python -m minirq` in processes of its own: any command, and workers that run while a test goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import Result

from support.waits import until

TASKS = '''
"""Functions that the tests of the command line run as jobs."""

import os
import signal
import time
from pathlib import Path


def add(a, b):
    return a + b


def fail(message="no"):
    raise ValueError(message)


def wait_for(gate):
    """Say that it runs, and wait until the test opens the gate."""
    Path(gate + ".started").touch()
    while not Path(gate).exists():
        time.sleep(0.005)
    return "opened"


def die():
    os.kill(os.getpid(), signal.SIGKILL)
'''


def minirq(*arguments: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "minirq", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environ},
        timeout=30,
    )


class WorkerProcess:
    """A `minirq worker` that runs. Its log is what it wrote to stderr."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self.process = process
        self._log_file = log_file

    @property
    def log(self) -> str:
        return self._log_file.read_text()

    def wait_for_log(self, text: str, times: int = 1) -> None:
        """Wait until the text was logged so often."""
        until(lambda: self.log.count(text) >= times)

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 15) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Kill the worker; its children die with it."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


class Run(Protocol):
    def __call__(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]: ...


class Invoke(Protocol):
    def __call__(self, *arguments: str) -> Result: ...


class OnTerminal(Protocol):
    def __call__(self, *arguments: str, **environ: str) -> str: ...


class StartWorker(Protocol):
    def __call__(self, *arguments: str, url: str | None = None, **environ: str) -> WorkerProcess: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory in which workers are started, with the module `tasks` in it."""
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


@pytest.fixture
def start_worker(redis_url: str, folder: Path) -> Iterator[StartWorker]:
    """Start `minirq worker` with these arguments in `folder`. What still runs at the end is killed."""
    started: list[WorkerProcess] = []

    def start(*arguments: str, url: str | None = None, **environ: str) -> WorkerProcess:
        log_file = folder / f"worker-{len(started)}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "minirq", "worker", *arguments, "--url", url or redis_url],
                cwd=folder,
                env={**os.environ, **environ},
                stdout=log,
                stderr=log,
            )
        worker = WorkerProcess(process, log_file)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()
