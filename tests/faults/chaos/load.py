"""How often workers call scripts, second by second: a loop that spins is seen in nothing else."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import redis as redis_py

from minirq.connection import connect

#: script calls in a second that need no job, and calls for each line of the trace and each call of a client
_IDLE, _PER_LINE = 250, 6


@dataclass(frozen=True)
class Second:
    """Script calls, and lines of the trace, in about a second."""

    calls: float
    lines: float
    began: float

    @property
    def is_too_much(self) -> bool:
        return self.calls > _IDLE + _PER_LINE * self.lines

    def __str__(self) -> str:
        return f"{self.calls:.0f} a second, while the trace got {self.lines:.0f} lines a second"


class Load(threading.Thread):
    """Looks once a second until the campaign is over."""

    def __init__(self, url: str, trace: Path, over: threading.Event) -> None:
        super().__init__(name="load", daemon=True)
        self._url = url
        self._trace = trace
        self._over = over
        self.seconds: list[Second] = []

    def run(self) -> None:
        before: tuple[float, int, int] | None = None
        while not self._over.wait(1):
            now = self._look()
            if before and now and now[1] >= before[1]:  # the counters begin anew with the server
                took = now[0] - before[0]
                self.seconds.append(
                    Second((now[1] - before[1]) / took, (now[2] - before[2]) / took, before[0])
                )
            before = now

    @property
    def most(self) -> str:
        return str(max(self.seconds, key=lambda second: second.calls)) if self.seconds else "nobody looked"

    @property
    def too_much(self) -> list[str]:
        return [str(second) for second in self.seconds if second.is_too_much]

    def _look(self) -> tuple[float, int, int] | None:
        try:
            with connect(self._url) as client:
                stats = client.info("commandstats")
        except redis_py.RedisError:  # the server is not there right now
            return None
        calls = sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))
        with self._trace.open("rb") as file:
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
        return time.monotonic(), calls, lines
