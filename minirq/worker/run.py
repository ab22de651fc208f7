"""A run beside others: one job under way in a process that runs many, on its event loop or in a thread.

It knows how to be interrupted, once, and by whatever way fits; what comes late ends at its edge.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from minirq.exceptions import JobInterrupted, JobTimeoutException
from minirq.protocol.failure import Failure
from minirq.protocol.operations import Claimed
from minirq.protocol.payload import Payload
from minirq.worker.executor import Task
from minirq.worker.injection import STOP_MESSAGE, inject, recall, timeout_message
from minirq.worker.outcome import Failed, Finished, Interrupted, Outcome, after_error

#: why a run is interrupted
TIMEOUT, STOP = JobTimeoutException, JobInterrupted


class Run:
    """A job in a slot of the board. `cause` says why it was interrupted, if it was."""

    __slots__ = (
        "_lock", "_thread", "atask", "cause", "children", "claimed", "claimed_at", "deadline", "envelope",
        "function", "has_blocked", "is_over", "number", "started", "task",
    )  # fmt: skip

    def __init__(self, claimed: Claimed, envelope: Payload | Failed, number: int, claimed_at: float) -> None:
        self.claimed = claimed
        self.claimed_at = claimed_at
        self.envelope = envelope
        self.number = number
        self.function = envelope.function if isinstance(envelope, Payload) else ""
        self.started = self.deadline = 0.0
        self.cause: type[BaseException] | None = None
        self.task: Task | None = None
        #: the asyncio task that runs it, and those that it has started
        self.atask: asyncio.Task[Any] | None = None
        self.children: set[asyncio.Task[Any]] | None = None
        self.has_blocked = self.is_over = False
        self._lock = threading.Lock()
        self._thread = 0

    def interrupt(self, cause: type[BaseException]) -> None:
        """Interrupt it, unless it was before. From any thread."""
        with self._lock:
            if self.cause is not None or self.is_over:
                return
            self.cause = cause
            if self._thread:
                inject(self._thread, cause, self.reason)
            elif self.atask is not None:
                self.atask.get_loop().call_soon_threadsafe(self.atask.cancel)

    @property
    def reason(self) -> str:
        """What the exception says."""
        if self.cause is STOP or not isinstance(self.envelope, Payload):
            return STOP_MESSAGE
        return timeout_message(self.envelope.options.timeout)

    def in_thread(
        self, job: Callable[[Run], Outcome], describe: Callable[[BaseException], Failure]
    ) -> Outcome:
        """Run `job` in this thread, with the door open for an interruption. It raises nothing."""
        try:
            try:
                with self._lock:
                    self._thread = threading.get_ident()
                    if self.cause is not None:  # it came before the job began
                        inject(self._thread, self.cause, self.reason)
                outcome = job(self)
            finally:
                self._close()
        except BaseException as late:
            self._close()
            outcome = self.failed(late, describe(late))
        return self.ends_as(outcome)

    def failed(self, error: BaseException, failure: Failure) -> Outcome:
        """What follows from an exception."""
        if isinstance(self.envelope, Failed):
            return self.envelope
        return after_error(error, failure, self.claimed, self.envelope.options)

    def ends_as(self, outcome: Outcome) -> Outcome:
        """The outcome, if it was not asked to stop, or returned all the same."""
        return outcome if self.cause is not STOP or isinstance(outcome, Finished) else Interrupted()

    def _close(self) -> None:
        with self._lock:
            recall(threading.get_ident())
            self._thread = 0


#: the run that this thread or task belongs to
current_run: ContextVar[Run | None] = ContextVar("minirq_run", default=None)
