"""Requests to stop runs, on their way from Redis to the board of the child that has the run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from minirq.protocol.operations import StopRequest
from minirq.worker.process import Process


class Requests:
    """Those that no board shows the run of (yet): it may be about to start. They are kept for `patience`."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._pending: dict[StopRequest, float] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def pass_on(self, came: Iterable[StopRequest], children: Sequence[Process]) -> None:
        """Ask the runs to stop that shall."""
        now = time.monotonic()
        for request in came:
            self._pending.setdefault(request, now + self._patience)
        for request, until in list(self._pending.items()):
            child = next((child for child in children if child.watch.ask_to_stop(request, now)), None)
            if child is not None:
                child.interrupt()
            if child is not None or now >= until:
                del self._pending[request]
