"""`python -m minirq` as people call it: any command, and `minirq worker` while a test goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import Result

from support import TESTS
from support.worker import StartWorker, WorkerProcess, killed_at_the_end, worker_command


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


class Run(Protocol):
    def __call__(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]: ...


class Invoke(Protocol):
    def __call__(self, *arguments: str) -> Result: ...


class OnTerminal(Protocol):
    def __call__(self, *arguments: str, **environ: str) -> str: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory in which commands are run, with the module `tasks` in it."""
    shutil.copy(TESTS / "support" / "tasks.py", tmp_path)
    return tmp_path


@pytest.fixture
def start_worker(redis_url: str, folder: Path) -> Iterator[StartWorker]:
    """Start `minirq worker` with these arguments in `folder`."""
    with killed_at_the_end() as started:

        def start(*arguments: str, url: str | None = None, **environ: str) -> WorkerProcess:
            log = folder / f"worker-{len(started)}.log"
            started.append(worker_command(url or redis_url, arguments, log, **environ))
            return started[-1]

        yield start
