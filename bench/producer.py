"""Producer: the process in a system's own environment that enqueues when it is told to.

Requests come as lines of JSON on stdin, answers go to stdout; `work` instead is the system's worker.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from bench.marks import Marks
from bench.systems import System, Unsupported, named

#: jobs whose latency is measured however long it takes
_LEAST = 100


class Producer:
    """What the driver may ask for; each method is one request."""

    def __init__(self, system: System) -> None:
        self._system = system

    def enqueue(self, job: str, n: int, size: int = 0, bulk: bool = False, args: Any = ()) -> float:
        """Enqueue n calls; the seconds that it took. With a size, each has its own text of so many bytes."""
        calls = [(_text(size),) for _ in range(n)] if size else [tuple(args)] * n
        return self._timed(job, calls, bulk)

    def fill(self, job: str, n: int, size: int = 0) -> float:
        """Enqueue n calls in the fastest way there is."""
        try:
            return self.enqueue(job, n, size, bulk=True)
        except Unsupported:
            return self.enqueue(job, n, size)

    def listed(self, job: str, calls: list[list[Any]]) -> float:
        """Enqueue these calls."""
        return self._timed(job, [tuple(args) for args in calls], bulk=False)

    def one_by_one(self, n: int, folder: str, pause: float, seconds: float) -> list[int]:
        """Send jobs to an idle worker, each after the one before has run; nanoseconds until each started."""
        marks = Marks(Path(folder))
        enough = time.monotonic() + seconds
        for sent in range(n):
            if sent >= _LEAST and time.monotonic() > enough:
                break
            self._system.enqueue("stamp", time.monotonic_ns())
            deadline = time.monotonic() + 20
            while marks.counted() <= sent:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"job {sent} of {n} was not run within 20 s")
                time.sleep(0.0005)
            time.sleep(pause)
        return marks.notes()

    def each_latency(self, n: int) -> list[int]:
        """Enqueue calls one at a time; nanoseconds for each."""
        taken = []
        for _ in range(n):
            began = time.perf_counter_ns()
            self._system.enqueue("noop")
            taken.append(time.perf_counter_ns() - began)
        return taken

    def at(self, when: list[float]) -> float:
        """Enqueue a call for each of these times; the time when the last was enqueued."""
        for moment in when:
            self._system.enqueue_at("due", moment, int(moment * 1e9))
        return time.time()

    def _timed(self, job: str, calls: list[tuple[Any, ...]], bulk: bool) -> float:
        enqueue = self._system.enqueue_bulk if bulk else self._system.enqueue_each
        prepared = self._system.prepared(job, calls)
        began = time.perf_counter()
        enqueue(job, prepared)
        return time.perf_counter() - began


def _text(size: int) -> str:
    """A text that does not compress, for systems that speak JSON too."""
    return base64.b64encode(os.urandom(size * 3 // 4)).decode()


def serve(system: System, requests: TextIO, replies: TextIO) -> None:
    """Answer requests until there are no more."""
    system.connect()
    producer = Producer(system)
    for line in requests:
        request = json.loads(line)
        try:
            answer = {"answer": getattr(producer, request.pop("do"))(**request)}
        except Unsupported as error:
            answer = {"unsupported": str(error)}
        except Exception as error:  # the driver reports what a peer raises, whatever it is
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


def main() -> None:
    what, name, *counts = sys.argv[1:]
    if what == "work":
        processes, concurrency = map(int, counts)
        named(name).work(processes, concurrency)
    else:
        # what a peer prints must not be taken for an answer
        replies = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        serve(named(name), sys.stdin, replies)


if __name__ == "__main__":
    main()
