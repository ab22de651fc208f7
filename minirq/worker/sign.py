"""The sign at the door: what people get to see of a worker. Nothing decides on it."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

from minirq.protocol import reads
from minirq.worker.fleet import QUEUES_EVERY
from minirq.worker.settings import WorkerSettings

#: beats after which all of it is said again though nothing has changed
_AGAIN_AFTER = 2.5
#: which queues there are and are served is said at this pace, seconds
_NAMES_EVERY = 30.0


class Sign:
    """What a worker says about itself with its beats."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._started = time.time()
        self._shown: dict[str, str | int | float] = {}
        self._next = self._next_names = 0.0

    def calls(self, report: dict[str, Any], now: float, server_ms: float) -> list[Any]:
        """What is to be said now, `server_ms`: all of it when something has changed, or some beats later."""
        portrait = self._portrait(report)
        if portrait == self._shown and now < self._next:
            return []
        settings = self._settings
        self._shown = portrait
        self._next = now + _AGAIN_AFTER * settings.beat
        ttl = settings.lease * 2
        # workers of other queues need not look after these as long as this one does
        others_from_ms = int(server_ms + max(QUEUES_EVERY, settings.lease) * 1000)
        calls = [
            *reads.show_worker(settings.keys, settings.id, portrait, now_ms=int(server_ms), ttl=ttl),
            reads.maintain_from(settings.keys, settings.queues, others_from_ms),
        ]
        if now >= self._next_names:
            self._next_names = now + _NAMES_EVERY
            calls.append(reads.know_queues(settings.keys, settings.queues))
            calls.append(reads.note_served(settings.keys, settings.queues, int(server_ms)))
        return calls

    def _portrait(self, report: dict[str, Any]) -> dict[str, str | int | float]:
        return {
            "name": self._settings.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": json.dumps(list(self._settings.queues)),
            "started": self._started,
            **{name: json.dumps(value) for name, value in report.items()},
        }
