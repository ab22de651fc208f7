"""Workers in processes of their own, as Python code starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from support import APP
from support.waits import is_gone, until

from minirq import Queue

_MAIN = """
import json, logging, sys
sys.path.insert(0, sys.argv[1])
logging.basicConfig(level="INFO", stream=sys.stderr, format="%(message)s")
import minirq
options = json.loads(sys.argv[2])
work = options.pop("work", {})
getattr(minirq, options.pop("kind", "Worker"))(options.pop("queues"), **options).work(**work)
"""


class RunningWorker:
    """A worker process of this test."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def children(self) -> list[int]:
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 15) -> int:
        return self.process.wait(seconds)

    def kill_all(self) -> None:
        """As when the host dies: the supervisor, and the children with it."""
        pids = [self.pid, *self.children]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        for pid in pids[1:]:
            until(lambda pid=pid: is_gone(pid))


StartWorker = Callable[..., RunningWorker]


@pytest.fixture
def start_worker(redis: redis_py.Redis, redis_url: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Start `Worker(queues, **options)` with a lease of 1 s, or another `kind`. What is left is killed."""
    started: list[RunningWorker] = []

    def start(*queues: str, **options: Any) -> RunningWorker:
        options = {
            "queues": list(queues) or ["default"],
            "connection": redis_url,
            "lease": 1.0,
            "kill_grace": 0.5,
            "loss_pause": 0.3,
            **options,
        }
        log = tmp_path / f"worker-{len(started)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, str(APP), json.dumps(options)],
                stderr=file,
                stdout=file,
                cwd=tmp_path,
            )
        worker = RunningWorker(process, log)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill_all()


@pytest.fixture
def queue(redis: redis_py.Redis) -> Queue:
    return Queue(connection=redis)


def lines(path: Path) -> list[str]:
    """What jobs have appended to a file so far."""
    return path.read_text().splitlines() if path.exists() else []
