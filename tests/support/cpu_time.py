"""Bounds of CPU time that hold on a busy machine as well."""

import time
from collections.abc import Callable


def costs_at_most(seconds: float, act: Callable[[], object]) -> bool:
    """Whether one of five tries takes at most that much CPU time of an idle machine."""

    def spent() -> float:
        started = time.process_time()
        act()
        return time.process_time() - started

    return any(spent() <= seconds * _slowness() for _ in range(5))


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
