"""Interruptions: how a stop request gets into the job that it names, and into nothing else.

A guard is around each run. It lets one exception in while the run is under way; what comes late ends at its
edge. In the main thread a signal brings it, in other threads Python's asynchronous exception. A coroutine is
cancelled instead: an exception out of a signal handler would end its event loop and not the coroutine.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Protocol, TypeVar

from minirq.exceptions import JobInterrupted
from minirq.worker.board import Board
from minirq.worker.injection import STOP_MESSAGE, inject, recall
from minirq.worker.outcome import Finished, Interrupted, Outcome

T = TypeVar("T")

#: ignored by whoever has no handler for it, so it harms nobody who is no child of ours any more
SIGNAL = getattr(signal, "SIGURG", None)

_INTERRUPTED = Interrupted()


class Guard(Protocol):
    """What a loop runs its jobs in."""

    def run(self, job: Callable[[T], Outcome], argument: T) -> Outcome:
        """Run a job. If a stop request got in, it is Interrupted, unless it returned all the same."""
        ...


class MainGuard:
    """Guards the runs of the main thread, where SIGNAL says that the board has a request.

    `cancel_coroutine` cancels the coroutine that runs, False if none does; `stop_alarm` that of its timeout.
    """

    def __init__(
        self, board: Board, cancel_coroutine: Callable[[], bool], stop_alarm: Callable[[], None]
    ) -> None:
        self._board = board
        self._cancel_coroutine = cancel_coroutine
        self._stop_alarm = stop_alarm
        self._is_open = False
        self._let_in = False

    def listen(self) -> None:
        """Hear the signal. In the main thread."""
        if SIGNAL is not None:
            signal.signal(SIGNAL, self._on_signal)

    def run(self, job: Callable[[T], Outcome], argument: T) -> Outcome:
        """See Guard."""
        outcome: Outcome = _INTERRUPTED
        self._let_in = False
        try:
            try:
                self._is_open = True
                if self._board.is_run_asked_to_stop():  # it came before its function was found
                    self._interrupt()
                outcome = job(argument)
            finally:
                self._is_open = False
        except JobInterrupted:
            pass
        if self._let_in:
            self._stop_alarm()  # it may have come while the job's own deadline was being forgotten
            return outcome if isinstance(outcome, Finished) else _INTERRUPTED
        return outcome

    def interrupt(self) -> None:
        """Have the main thread look at the board. From another thread."""
        if SIGNAL is not None:
            signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_open and self._board.is_run_asked_to_stop():
            self._interrupt()

    def _interrupt(self) -> None:
        self._is_open = False  # once: a run that swallows it is killed later
        self._let_in = True
        if not self._cancel_coroutine():
            raise JobInterrupted(STOP_MESSAGE)


class ThreadGuard:
    """Guards one run in any other thread. `interrupt` is for who has the request, in another thread."""

    def __init__(self, cancel_coroutine: Callable[[], bool]) -> None:
        self._cancel_coroutine = cancel_coroutine
        self._lock = threading.Lock()
        self._thread = 0
        self._let_in = False

    def run(self, job: Callable[[T], Outcome], argument: T) -> Outcome:
        """See Guard."""
        outcome: Outcome = _INTERRUPTED
        self._let_in = False
        try:
            try:
                self._thread = threading.get_ident()
                outcome = job(argument)
            finally:
                self._close()
        except JobInterrupted:
            self._close()
        return outcome if isinstance(outcome, Finished) or not self._let_in else _INTERRUPTED

    def interrupt(self) -> None:
        """Let a stop request in, once."""
        with self._lock:
            if self._thread and not self._let_in:
                self._let_in = True
                if not self._cancel_coroutine():
                    inject(self._thread, JobInterrupted, STOP_MESSAGE)

    def _close(self) -> None:
        with self._lock:
            recall(self._thread)
            self._thread = 0
