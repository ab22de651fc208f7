"""Bounds of time that hold on a busy machine too: they are compared with what the machine does just now."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

#: how long recoveries took in this run of the tests; printed at its end
RECOVERIES: dict[str, list[float]] = {}


def since(began: float) -> float:
    return time.monotonic() - began


def within(seconds: float, began: float) -> bool:
    """Whether no more than that has passed; more only as far as others keep this machine busy."""
    return _is_at_most(seconds, since(began))


def recovered(what: str, seconds: float, limit: float) -> None:
    """Note how long a recovery took: at most `limit`."""
    RECOVERIES.setdefault(what, []).append(seconds)
    assert _is_at_most(limit, seconds), f"{what}: {seconds:.2f} s, and {limit:g} s are promised"


def costs_at_most(seconds: float, act: Callable[[], object]) -> bool:
    """Whether one of five tries takes at most that much CPU time of an idle machine."""

    def spent() -> float:
        started = time.process_time()
        act()
        return time.process_time() - started

    return any(spent() <= seconds * _slowness() for _ in range(5))


def assert_harmless(size: int, read: Callable[[], object]) -> None:
    """Assert that so many hostile bytes cost at most a second per MiB and 128 bytes of memory per byte."""
    assert costs_at_most(0.02 + size / 2**20, read)
    tracemalloc.start()
    read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 128 * size + 65536


def _is_at_most(limit: float, seconds: float) -> bool:
    return seconds <= limit or seconds <= limit * _share_of_others()


def _share_of_others() -> float:
    """How much longer work takes here than it would alone on this machine: 1 if nobody else works."""
    began, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < 0.2:
        pass
    return max(since(began) / 0.2, 1.0)


def _slowness() -> float:
    """How much longer this machine, busy as it is, takes for what an idle one does in 0.1 s; at least 1.

    Like a bomb, it fills memory with small containers that all stay: fresh pages and the
    garbage collector cost a busy machine more than arithmetic does.
    """
    started = time.process_time()
    kept = [{0: {}} for _ in range(200_000)]
    spent = time.process_time() - started
    del kept
    return max(spent / 0.1, 1.0)
