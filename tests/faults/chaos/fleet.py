"""The workers of a campaign, of every kind that there is, each behind a proxy of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.chaos.calls import CALM
from support.own_server import OwnServer
from support.proxy import Proxy
from support.worker import QUICK, python_worker


@dataclass(frozen=True)
class Role:
    """A kind of worker, and the queues that it serves, in this order."""

    name: str
    queues: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    kind: str = "Worker"


def roles(processes: int, concurrency: int) -> list[Role]:
    """The supervisor of the first one is spared, and the last one suffers only what happens to the server."""
    return [
        Role("first", ("high", "low"), {"processes": processes, "concurrency": concurrency}),
        Role("crowd", ("low", "high", "bulk"), {"concurrency": 8}),
        Role("concurrent", ("bulk", "low"), {"processes": 2, "concurrency": 3}),
        Role("fresh", ("bulk", "high"), {"max_jobs_per_child": 15}),
        Role("simple", ("high",), kind="SimpleWorker"),
        Role(CALM, (CALM,)),
    ]


class Member:
    """A worker that is replaced when it has ended."""

    def __init__(self, role: Role, server: OwnServer, folder: Path) -> None:
        self.role = role
        self.proxy = Proxy(server.socket)
        self._folder = folder
        self._count = 0
        #: whether it was told to end, or killed
        self.is_doomed = False
        #: ended without having been told to
        self.faults: list[str] = []
        self.start()

    def start(self) -> None:
        """Start it, under a new name."""
        name = f"{self.role.name}-{self._count}"
        self._count += 1
        self.is_doomed = False
        options = {"name": name, "kind": self.role.kind, **QUICK, **self.role.options}
        log = self._folder / f"{name}.log"
        self.worker = python_worker(self.proxy.url, self.role.queues, log, **options)

    @property
    def is_simple(self) -> bool:
        return self.role.kind == "SimpleWorker"

    @property
    def has_ended(self) -> bool:
        return self.worker.process.poll() is not None

    @property
    def pids(self) -> set[int]:
        return {self.worker.pid, *self.worker.children}

    @property
    def has_ended_by_itself(self) -> bool:
        code = self.worker.process.poll()
        if self.is_doomed:
            return code not in (None, 0, -9, -15)  # -15: it had not come so far yet that it hears signals
        # a job that kills its process kills a simple worker
        return code is not None and not (self.is_simple and code == -9)

    def replace(self) -> None:
        """Start it anew if it has ended."""
        if self.has_ended:
            self.note_its_end()
            self.start()

    def note_its_end(self) -> None:
        """Keep in mind that it has ended though nobody had asked for that."""
        if self.has_ended_by_itself:
            code, log = self.worker.process.poll(), self.worker.log[-600:]
            self.faults.append(f"{self.role.name} has ended with {code}: {log}")

    def close(self) -> None:
        self.worker.kill_all()
        self.proxy.close()
