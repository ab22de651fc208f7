"""Workers in processes of their own, for tests to watch, kill, freeze and break."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis as redis_py

from support import APP, TESTS
from support.waits import is_gone, until

LEASE = 1.0
GRACE = 0.5
#: options for a worker that is to notice soon that a connection leads nowhere
QUICK = {"block": 1.0, "reply_timeout": 1.0}

_MAIN = """
import json, logging, os, sys
sys.path[:0] = json.loads(sys.argv[1])
logging.basicConfig(level="INFO", stream=sys.stderr, format="%(message)s")
import minirq
from minirq.worker import link, maintenance
if "MINIRQ_FAULT" in os.environ:
    from support import fault_points
    fault_points.install()
options = json.loads(sys.argv[2])
if reply_timeout := options.pop("reply_timeout", None):
    link.REPLY_TIMEOUT = maintenance.REPLY_TIMEOUT = reply_timeout
kind, work = options.pop("kind"), options.pop("work")
settings = {name: options.pop(name) for name in ("block", "max_payload") if name in options}
worker = getattr(minirq, kind)(**options)
worker._options.update(settings)  # these have no option of their own
worker.work(**work)
"""


class WorkerProcess:
    """A worker that runs. Its log is what it wrote to stdout and stderr."""

    def __init__(self, command: Sequence[str], log: Path, **environ: str) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, cwd=log.parent, env={**os.environ, **environ}
            )
        self.pid = self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def wait_for_log(self, text: str, times: int = 1) -> None:
        """Wait until the text was logged so often."""
        until(lambda: self.log.count(text) >= times)

    @property
    def children(self) -> list[int]:
        try:
            return [
                int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            ]
        except OSError:
            return []

    @property
    def cpu_seconds(self) -> float:
        """What the worker and its children have used so far."""
        ticks = 0
        for pid in (self.pid, *self.children):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 15) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(seconds)

    def freeze(self) -> list[int]:
        """Stop the worker, then its children; return what to continue."""
        os.kill(self.pid, signal.SIGSTOP)
        frozen = [self.pid, *self.children]
        for pid in frozen[1:]:
            os.kill(pid, signal.SIGSTOP)
        return frozen

    def kill_all(self) -> None:
        """Kill the worker and its children, as when the host dies."""
        pids = self.freeze() if self.process.poll() is None else []
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        for pid in pids:
            until(lambda pid=pid: is_gone(pid))


StartWorker = Callable[..., WorkerProcess]


def python_worker(
    url: str, queues: Sequence[str], log: Path, environ: dict[str, str] | None = None, **options: Any
) -> WorkerProcess:
    """Start `Worker(queues, **options).work(**work)`, or another `kind`, with a lease of 1 s."""
    options = {
        "queues": queues or ["default"], "connection": url, "kind": "Worker", "work": {}, "lease": LEASE,
        "kill_grace": GRACE, "loss_pause": 0.2, **options,
    }  # fmt: skip
    paths = json.dumps([str(APP), str(TESTS)])
    return WorkerProcess([sys.executable, "-c", _MAIN, paths, json.dumps(options)], log, **environ or {})


def worker_command(url: str, arguments: Sequence[str], log: Path, **environ: str) -> WorkerProcess:
    """Start `minirq worker` with these arguments, in the folder of its log."""
    return WorkerProcess([sys.executable, "-m", "minirq", "worker", *arguments, "--url", url], log, **environ)


@contextmanager
def killed_at_the_end() -> Iterator[list[WorkerProcess]]:
    """A list for the workers of a test. Those that run when it ends are killed."""
    started: list[WorkerProcess] = []
    yield started
    for worker in started:
        worker.kill_all()


def is_waiting(client: redis_py.Redis, processes: int = 1) -> bool:
    """Whether so many processes wait for jobs."""
    return int(client.info("clients")["blocked_clients"]) >= processes


def lines(path: Path) -> list[str]:
    """What jobs have appended to a file so far."""
    return path.read_text().splitlines() if path.exists() else []


def assert_all_done(client: redis_py.Redis, namespace: str = "minirq", queue: str = "default") -> None:
    """Fail if a job is waiting, running, or held by a process."""
    prefix = f"{namespace}:{{{queue}}}:"
    assert client.llen(f"{prefix}queue") == 0
    assert client.keys(f"{prefix}processing:*") == []
