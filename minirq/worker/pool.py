"""A pool of threads, made as they are needed and kept. It knows no jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Does `work` for each thing that is handed in, in a thread and a context of its own.

    `work` raises nothing.
    """

    def __init__(self, work: Callable[[T], None]) -> None:
        self._work = work
        self._things: SimpleQueue[T] = SimpleQueue()
        self._lock = threading.Lock()
        self._asked = self._threads = 0

    def hand_in(self, thing: T) -> None:
        """Have something done."""
        with self._lock:
            self._asked += 1
            is_short = self._asked > self._threads
            if is_short:
                self._threads += 1
                name = f"minirq-job-{self._threads}"
        if is_short:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._things.put(thing)

    def _serve(self) -> None:
        while True:
            thing = self._things.get()
            copy_context().run(self._work, thing)
            with self._lock:
                self._asked -= 1
