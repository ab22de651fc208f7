"""The command line against a real server."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import redis as redis_py
from click.testing import CliRunner, Result
from support.command_line import Invoke, OnTerminal, Run, folder, minirq, start_worker

from minirq import SimpleWorker
from minirq.cli.main import cli

__all__ = ["folder", "start_worker"]


@pytest.fixture
def run(redis: redis_py.Redis, redis_url: str, folder: Path) -> Run:
    """Run `minirq` with these arguments against the test's server."""
    return partial(minirq, cwd=folder, MINIRQ_REDIS_URL=redis_url)


@pytest.fixture
def invoke(redis: redis_py.Redis, redis_url: str) -> Invoke:
    """Run `minirq` with these arguments in this very process, without a terminal."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments, env={"MINIRQ_REDIS_URL": redis_url})

    return invoke


@pytest.fixture
def work(redis: redis_py.Redis) -> Callable[..., None]:
    """Run all jobs that wait in the queues, in this process."""

    def work(*queues: str) -> None:
        SimpleWorker(list(queues) or ["default"], connection=redis).work(burst=True)

    return work


@pytest.fixture
def on_terminal(redis_url: str, folder: Path) -> OnTerminal:
    """Run `minirq` with a terminal as its stdout and stderr; return what it wrote there."""

    def on_terminal(*arguments: str, **environ: str) -> str:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "minirq", *arguments],
            cwd=folder,
            env={**os.environ, "MINIRQ_REDIS_URL": redis_url, **environ},
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 65536):
                written += chunk
        except OSError:  # how Linux says that the other side was closed
            pass
        os.close(ours)
        process.wait(15)
        return written.decode()

    return on_terminal
