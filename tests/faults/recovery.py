"""Recoveries with a worker's defaults (lease 15 s, grace 5 s), measured and printed: `bin/recovery`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jobs
import redis as redis_py
from support.own_server import OwnServer
from support.waits import until
from support.worker import WorkerProcess, python_worker

from minirq import Queue
from minirq.connection import connect
from minirq.protocol.keys import Keys
from minirq.protocol.payload import id_of
from minirq.worker.settings import WorkerSettings

DEFAULTS = WorkerSettings()
_KEYS = Keys().of("default")
#: what takes the server longer than this, and more than once, has looked at too much, microseconds
SLOW = 20_000
KILLS = 20


def fill(queue: Queue, trace: Path, count: int, seconds: float) -> None:
    """Have so many jobs wait, each of which leaves its number and takes a while."""
    queue.enqueue_many(
        Queue.prepare_data(jobs.append_and_nap, [str(trace), str(n), seconds], job_id=str(n))
        for n in range(count)
    )


def runs_again(
    client: redis_py.Redis, worker: WorkerProcess, trace: Path, kill: Callable[[], None], seconds: float
) -> float:
    """Kill while a job of this worker has just begun; return how long after that the same job runs again."""
    before = set(_lines(trace))
    victim = until(lambda: (_held(client, worker) & set(_lines(trace))) - before).pop()
    kill()
    died = time.monotonic()
    until(lambda: _lines(trace).count(victim) == 2, seconds)
    return time.monotonic() - died


def _held(client: redis_py.Redis, worker: WorkerProcess) -> set[str]:
    """The jobs that a worker's processes hold, with few looks: keys are not searched for."""
    owners = [owner for owner in client.zrange(_KEYS.owners, 0, -1) if f".{worker.pid}:".encode() in owner]
    lists = [client.lrange(_KEYS.processing(owner.decode()), 0, -1) for owner in owners]
    return {id_of(raw) for held in lists for raw in held}


def watch_the_server(client: redis_py.Redis) -> None:
    """From now on the server notes what is slow."""
    client.config_resetstat()
    client.config_set("slowlog-log-slower-than", SLOW)
    client.slowlog_reset()


def slow_commands(client: redis_py.Redis) -> list[str]:
    """What has taken the server long since then, and what looks at lists with how much it took on average."""
    seen = Counter(b" ".join(entry["command"].split()[:2]).decode() for entry in client.slowlog_get(100))
    slow = [f"{command} {times} times" for command, times in seen.items() if times > 1]
    stats: dict[str, Any] = client.info("commandstats")
    for name in ("lrange", "lrem", "lpos", "evalsha"):
        spent = stats.get(f"cmdstat_{name}")
        if spent and spent["usec_per_call"] > SLOW / 10:
            slow.append(f"{name} takes {spent['usec_per_call']} us on average")
    return slow


@dataclass
class Figure:
    what: str
    seconds: list[float]
    limit: float

    def __str__(self) -> str:
        spread = f"median {median(self.seconds):.2f} s, " if len(self.seconds) > 1 else ""
        return f"{self.what:<58}{spread}max {max(self.seconds):.2f} s (promised {self.limit:g} s)"

    @property
    def is_good(self) -> bool:
        return max(self.seconds) <= self.limit


class Recovery:
    """The figures of one server, with so many jobs that wait meanwhile."""

    def __init__(self, waiting: int) -> None:
        self._waiting = waiting
        self._folder = Path(tempfile.mkdtemp(prefix="minirq-recovery-"))
        self._server = OwnServer(fsync="everysec")
        self._started: list[WorkerProcess] = []

    def measure(self) -> list[Figure]:
        with connect(self._server.url) as client:
            queue = Queue(connection=client)
            trace = self._folder / "trace"
            began = time.monotonic()
            fill(queue, trace, max(self._waiting, 1000), 0.3)
            print(f"{queue.count:,} jobs wait (enqueued in {time.monotonic() - began:.1f} s)", flush=True)
            watch_the_server(client)
            figures = [self._processes(client, trace), self._worker(client, trace)]
            self.slow = slow_commands(client)
            client.flushall()
            figures += [
                self._overrun(queue, what) for what in ("swallows its timeout", "holds the interpreter")
            ]
        self._server.close()
        return figures

    def _start(self) -> WorkerProcess:
        worker = python_worker(
            self._server.url, (), self._folder / f"{len(self._started)}.log",
            lease=DEFAULTS.lease, kill_grace=DEFAULTS.kill_grace, block=DEFAULTS.block,
            loss_pause=DEFAULTS.loss_pause, reply_timeout=5.0,
        )  # fmt: skip
        self._started.append(worker)
        return worker

    def _processes(self, client: redis_py.Redis, trace: Path) -> Figure:
        worker = self._start()
        times = [
            runs_again(client, worker, trace, lambda: os.kill(worker.children[0], signal.SIGKILL), 10)
            for _ in range(KILLS)
        ]
        return Figure(f"a process is killed ({KILLS} times), its job runs again", times, 1)

    def _worker(self, client: redis_py.Redis, trace: Path) -> Figure:
        [victim] = self._started
        # another one, which has beaten for a while when the first one dies
        peer = self._start()
        until(lambda: "started" in peer.log)
        time.sleep(2 * DEFAULTS.beat + 1)
        held = runs_again(client, victim, trace, victim.kill_all, DEFAULTS.lease + 10)
        peer.kill_all()
        return Figure("a worker is killed, its job runs again", [held], DEFAULTS.lease + 2)

    def _overrun(self, queue: Queue, what: str) -> Figure:
        worker = self._start()
        name, args = {
            "swallows its timeout": ("jobs.ignore_everything", (60,)),
            "holds the interpreter": ("harmful.hold_the_interpreter", ()),
        }[what]
        job = queue.enqueue(name, *args, job_timeout=1)
        until(lambda: job.is_failed, 30)
        job.refresh()
        assert job.errors[0].kind == "timeout"
        assert job.started_at
        assert job.ended_at
        worker.kill_all()
        over = (job.ended_at - job.started_at).total_seconds() - 1
        return Figure(f"a job {what}, its end after that", [over], DEFAULTS.kill_grace + 1)


def _lines(trace: Path) -> list[str]:
    return trace.read_text().splitlines() if trace.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--waiting", type=int, default=1000, help="jobs that wait meanwhile (1000)")
    waiting: int = parser.parse_args().waiting
    print(f"bin/recovery --waiting {waiting}", flush=True)
    recovery = Recovery(waiting)
    figures = recovery.measure()
    print(*figures, sep="\n")
    print(
        f"commands above {SLOW / 1000:g} ms in the server, repeated".ljust(58)
        + (", ".join(recovery.slow) or "none")
    )
    sys.exit(0 if all(figure.is_good for figure in figures) and not recovery.slow else 1)


if __name__ == "__main__":
    main()
