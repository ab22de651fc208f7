"""The lookout: a thread that sees to the time of runs, to requests to stop them, and to a blocked event loop.

It looks when the next deadline has come, when it is woken, and from time to time while anything runs. What
does not heed an interruption is not its concern.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any

from minirq.text import safe_text
from minirq.worker.board import Board
from minirq.worker.run import STOP, TIMEOUT, Run

logger = logging.getLogger(__name__)

#: while anything runs it looks this often, and never more often than that, seconds
_LOOK_EVERY = 0.25
_LEAST_PAUSE = 0.01
#: an event loop that does nothing for so long is worth a line in the log, seconds
BLOCKED_AFTER = 1.0


class Lookout:
    """Watches the runs in `runs`, one for each slot of the board."""

    def __init__(self, runs: list[Run | None], board: Board, loop: asyncio.AbstractEventLoop) -> None:
        self._runs = runs
        self._board = board
        self._loop = loop
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._next = 0.0
        self._pinged: float | None = None

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._watch, name="minirq-lookout", daemon=True).start()

    def wake(self) -> None:
        """Have it look now. From any thread, and from a signal handler."""
        self._bell.put(None)

    def expect(self, deadline: float) -> None:
        """A run has started: see to it that its deadline is looked at."""
        if (deadline or time.monotonic() + _LOOK_EVERY) < self._next:
            self._next = 0.0
            self.wake()

    def _watch(self) -> None:
        while True:
            soonest = self._look(time.monotonic())
            self._next = soonest
            try:
                pause = None if soonest == float("inf") else max(soonest - time.monotonic(), _LEAST_PAUSE)
                self._bell.get(timeout=pause)
            except Empty:
                continue

    def _look(self, now: float) -> float:
        """Interrupt what has to be; return when to look next."""
        soonest = float("inf")
        is_awaiting = False
        for run in self._runs:
            if run is None or run.is_over:
                continue
            soonest = min(soonest, now + _LOOK_EVERY)
            is_awaiting = is_awaiting or run.atask is not None
            if run.cause is not None:
                continue
            if self._board.is_run_asked_to_stop(run.number):
                run.interrupt(STOP)
            elif run.deadline and now >= run.deadline:
                run.interrupt(TIMEOUT)
            elif run.deadline:
                soonest = min(soonest, run.deadline)
        self._see_to_the_loop(now, is_awaiting)
        return soonest

    # --- the event loop -----------------------------------------------------------------------

    def _see_to_the_loop(self, now: float, is_awaiting: bool) -> None:
        if self._pinged is None:
            if is_awaiting:
                self._pinged = now
                self._loop.call_soon_threadsafe(self._pong)
        elif now - self._pinged >= BLOCKED_AFTER:
            self._say_who_blocks(now - self._pinged)

    def _pong(self) -> None:
        self._pinged = None

    def _say_who_blocks(self, seconds: float) -> None:
        task = asyncio.current_task(self._loop)
        run = next((run for run in self._runs if run is not None and _belongs(task, run)), None)
        if run is None or run.has_blocked:
            return
        run.has_blocked = True
        logger.warning(
            "job %s blocks the event loop for %.1f s so far, and other coroutines wait: %s",
            safe_text(run.claimed.id), seconds, safe_text(run.function),
        )  # fmt: skip


def _belongs(task: asyncio.Task[Any] | None, run: Run) -> bool:
    return task is not None and (run.atask is task or task in tuple(run.children or ()))
