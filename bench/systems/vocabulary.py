"""RQ's words for a queue, which are minirq's too."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bench import jobs
from bench.systems.system import System


class RqVocabulary(System):
    """A system whose `_queue` is told what to do in RQ's words."""

    _queue: Any

    def enqueue(self, job: str, *args: Any) -> None:
        self._queue.enqueue(getattr(jobs, job), *args)

    def enqueue_bulk(self, job: str, calls: Sequence[tuple[Any, ...]]) -> None:
        function = getattr(jobs, job)
        self._queue.enqueue_many([self._queue.prepare_data(function, args) for args in calls])

    def enqueue_at(self, job: str, when: float, *args: Any) -> None:
        self._queue.enqueue_at(datetime.fromtimestamp(when, UTC), getattr(jobs, job), *args)
