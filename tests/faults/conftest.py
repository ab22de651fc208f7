"""Workers that may be hurt, and the proxy and servers to hurt them with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from support import APP, TESTS
from support.own_server import OwnServer
from support.proxy import Proxy
from support.recoveries import RECOVERIES

from minirq import Queue
from minirq.connection import Server

LEASE = 1.0
GRACE = 0.5

_MAIN = """
import json, logging, sys
sys.path[:0] = json.loads(sys.argv[1])
logging.basicConfig(level="INFO", stream=sys.stderr, format="%(message)s")
from minirq.connection import connect
from minirq.worker import link, maintenance, worker
from minirq.worker.link import Outage
from minirq.worker.settings import WorkerSettings
from minirq.worker.supervisor import Supervisor
from faults import points
points.install()
options = json.loads(sys.argv[2])
link.REPLY_TIMEOUT = maintenance.REPLY_TIMEOUT = options.pop("reply_timeout")
client = connect(options.pop("url"))
worker._wait_for(client, Outage())
options["queues"] = tuple(options["queues"])
settings = WorkerSettings(**options)
"""


class HurtWorker:
    """A supervised worker in a process group of its own."""

    main = f"{_MAIN}Supervisor(client, settings).run()"

    def __init__(self, url: str, queues: tuple[str, ...], log: Path, environ: dict[str, str], **options: Any):
        options = {
            "url": url, "queues": queues or ("default",), "lease": LEASE, "kill_grace": GRACE, "block": 1.0,
            "loss_pause": 0.2, "reply_timeout": 1.0, **options,
        }  # fmt: skip
        paths = json.dumps([str(TESTS), str(APP)])
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self.main, paths, json.dumps(options)],
                stderr=file,
                stdout=file,
                cwd=log.parent,
                env={**os.environ, **environ},
            )
        self.pid = self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    @property
    def children(self) -> list[int]:
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        try:
            return [int(pid) for pid in path.read_text().split()]
        except OSError:
            return []

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def freeze(self) -> list[int]:
        """Stop the supervisor, then its children; return what to thaw."""
        os.kill(self.pid, signal.SIGSTOP)
        frozen = [self.pid, *self.children]
        for pid in frozen[1:]:
            os.kill(pid, signal.SIGSTOP)
        return frozen

    def kill_all(self) -> None:
        """As when the host dies: nobody is left to say anything."""
        for pid in self.freeze() if self.process.poll() is None else []:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    @property
    def cpu_seconds(self) -> float:
        """What the supervisor and its children have used so far."""
        ticks = 0
        for pid in (self.pid, *self.children):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


class HurtSimpleWorker(HurtWorker):
    """A worker without children: its jobs run in its own process."""

    main = f"{_MAIN}from minirq.worker.simple import SimpleWork\nSimpleWork(client, settings).run()"


Start = Callable[..., HurtWorker]


@pytest.fixture
def start(redis: redis_py.Redis, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start a worker of these queues; `fault` is its MINIRQ_FAULT, struck once for all processes."""
    started: list[HurtWorker] = []

    def start(*queues: str, fault: str = "", url: str = redis_url, **options: Any) -> HurtWorker:
        environ = {}
        if fault:
            environ = {"MINIRQ_FAULT": fault, "MINIRQ_FAULT_ONCE": str(tmp_path / "struck")}
        log = tmp_path / f"worker-{len(started)}.log"
        started.append(HurtWorker(url, queues, log, environ, **options))
        return started[-1]

    yield start
    for worker in started:
        worker.kill_all()


@pytest.fixture
def queue(redis: redis_py.Redis) -> Queue:
    return Queue(connection=redis)


@pytest.fixture
def proxy(redis_server: Server) -> Iterator[Proxy]:
    proxy = Proxy(str(redis_server.socket))
    yield proxy
    proxy.close()


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    server = OwnServer()
    yield server
    server.close()


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Where jobs leave a line each time they run."""
    return tmp_path / "trace"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def audit(client: redis_py.Redis, namespace: str = "minirq", queue: str = "default") -> None:
    """Nothing waits, runs, or is held by anybody."""
    prefix = f"{namespace}:{{{queue}}}:"
    assert client.llen(f"{prefix}queue") == 0
    assert client.keys(f"{prefix}processing:*") == []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for what, seconds in RECOVERIES.items():
        longest = max(seconds)
        terminalreporter.write_line(f"recovery: {what}: {longest:.2f} s at most in {len(seconds)} cases")


def is_waiting(client: redis_py.Redis) -> bool:
    """Whether a worker waits for work."""
    return int(client.info("clients")["blocked_clients"]) > 0


def since(began: float) -> float:
    return time.monotonic() - began
