"""An injection: an exception that another thread raises by itself, and what it says.

It is raised as soon as that thread runs Python code; a sleep or a blocking read is not cut short.

Death penalties: what raises JobTimeoutException inside a job that runs too long.

The names are RQ's, so a worker class may bring its own. A timer raises only while its own block is
under way: what comes late is ignored. What a job swallows, or never lets through because C code
holds the interpreter, is the supervisor's to end.

Interruptions: how a stop request gets into the job that it names, and into nothing else.

A guard is around each run. It lets one exception in while the run is under way; what comes late ends at its
edge. In the main thread a signal brings it, in other threads Python's asynchronous exception. A coroutine is
cancelled instead: an exception out of a signal handler would end its event loop and not the coroutine.

A run beside others: one job under way in a process that runs many, on its event loop or in a thread.

It knows how to be interrupted, once, and by whatever way fits; what comes late ends at its edge.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from types import FrameType, TracebackType
from typing import Any, Protocol, TypeVar

from minirq.exceptions import JobInterrupted, JobTimeoutException
from minirq.protocol.commands import Claimed
from minirq.protocol.payload import Payload
from minirq.protocol.record import Failure
from minirq.worker.outcome import Failed, Finished, Interrupted, Outcome, Task, after_error
from minirq.worker.scoreboard import Scoreboard

#: what a JobInterrupted says
STOP_MESSAGE = "the job was asked to stop"


def timeout_message(timeout: float) -> str:
    """Return what a JobTimeoutException says; `timeout` in seconds."""
    return f"the job ran longer than its timeout of {timeout:g} s"


def raise_in_thread(thread: int, exception: type[BaseException], message: str) -> None:
    """Have a thread raise an exception."""
    # it is raised without arguments, so a class of its own carries the message
    told = type(exception.__name__, (exception,), {"__str__": lambda _: message})
    told.__module__, told.__qualname__ = exception.__module__, exception.__qualname__
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(told))


def take_back_exception(thread: int) -> None:
    """Take back what a thread has not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)


#: how far a timer may be off before somebody else must have set it, seconds
_TIMER_SLACK = 0.05


class BaseDeathPenalty:
    """A context manager: the block inside is interrupted after `timeout` seconds (-1 never)."""

    def __init__(
        self, timeout: float, exception: type[BaseException] = JobTimeoutException, **kwargs: Any
    ) -> None:
        self._timeout = timeout
        self._exception = exception
        self._is_under_way = False

    def __enter__(self) -> BaseDeathPenalty:
        self._is_under_way = True
        if self._timeout != -1:
            self.setup_death_penalty()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_under_way = False
        if self._timeout != -1:
            self.cancel_death_penalty()

    def setup_death_penalty(self) -> None:
        """Start the timer."""
        raise NotImplementedError

    def cancel_death_penalty(self) -> None:
        """Stop the timer."""
        raise NotImplementedError

    @property
    def message(self) -> str:
        """What the exception says."""
        return timeout_message(self._timeout)


class UnixSignalDeathPenalty(BaseDeathPenalty):
    """SIGALRM: for functions in the main thread. It also ends a sleep and a blocking read."""

    def setup_death_penalty(self) -> None:
        """Set the alarm. The handler is set each time: a job may have taken it."""
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self._timeout)

    def cancel_death_penalty(self) -> None:
        """Stop the alarm."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, signum: int, frame: FrameType | None) -> None:
        if self._is_under_way:
            raise self._exception(self.message)


class Timer:
    """SIGALRM too, for a thread that runs one job after another: a timer that is not set anew for each.

    It rings when the first job that it was set for would be late, and goes on for what is left of the one
    that runs by then. So a thousand jobs of a millisecond cost one system call. What a job does to timer and
    handler is seen by `put_back`, which is called when jobs are looked after.
    """

    def __init__(self) -> None:
        self._deadline = 0.0  # of the block that is under way; 0 without one
        self._timeout = 0.0
        self._rings_at = inf

    def within(self, timeout: float) -> Timer:
        """Bound the block that is entered next; -1 is no bound."""
        self._timeout = timeout
        return self

    def __enter__(self) -> None:
        if self._timeout != -1:
            # set first: an alarm that rings from here on has to find it
            self._deadline = deadline = time.monotonic() + self._timeout
            if deadline < self._rings_at:
                self._set(self._timeout, deadline)

    def __exit__(self, *_: object) -> None:
        self._deadline = 0.0

    def put_back(self) -> bool:
        """Take handler and timer back from a job; True if it had changed them."""
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        expected = self._rings_at - time.monotonic() if self._rings_at != inf else 0.0
        is_ours = self._rings_at == inf or signal.getsignal(signal.SIGALRM) == self._ring
        if is_ours and abs(left - expected) < _TIMER_SLACK:
            return False
        self.stop()
        return True

    def stop(self) -> None:
        """Switch the timer off; the next block sets it."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._rings_at = inf
        self._deadline = 0.0

    def _set(self, seconds: float, at: float) -> None:
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
        self._rings_at = at

    def _ring(self, signum: int, frame: FrameType | None) -> None:
        self._rings_at = inf
        deadline = self._deadline
        if not deadline:
            return
        left = deadline - time.monotonic()
        if left > 0:
            self._set(left, deadline)
        else:
            self._deadline = 0.0
            raise JobTimeoutException(timeout_message(self._timeout))


class TimerDeathPenalty(BaseDeathPenalty):
    """An exception put into the running thread: for any thread and any system. A sleep is not cut short."""

    def setup_death_penalty(self) -> None:
        """Start a timer thread."""
        self._thread = threading.get_ident()
        self._timer = threading.Timer(self._timeout, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def cancel_death_penalty(self) -> None:
        """Stop the timer thread."""
        self._timer.cancel()

    def _ring(self) -> None:
        if self._is_under_way:
            raise_in_thread(self._thread, self._exception, self.message)


def get_default_death_penalty_class() -> type[BaseDeathPenalty]:
    """Return the penalty that works here: by signal in the main thread of a Unix process, else by timer."""
    if hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread():
        return UnixSignalDeathPenalty
    return TimerDeathPenalty


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
        self, board: Scoreboard, cancel_coroutine: Callable[[], bool], stop_alarm: Callable[[], None]
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
                    raise_in_thread(self._thread, JobInterrupted, STOP_MESSAGE)

    def _close(self) -> None:
        with self._lock:
            take_back_exception(self._thread)
            self._thread = 0


#: why a run is interrupted
TIMEOUT, STOP = JobTimeoutException, JobInterrupted


class RunningJob:
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
                raise_in_thread(self._thread, cause, self.reason)
            elif self.atask is not None:
                self.atask.get_loop().call_soon_threadsafe(self.atask.cancel)

    @property
    def reason(self) -> str:
        """What the exception says."""
        if self.cause is STOP or not isinstance(self.envelope, Payload):
            return STOP_MESSAGE
        return timeout_message(self.envelope.options.timeout)

    def in_thread(
        self, job: Callable[[RunningJob], Outcome], describe: Callable[[BaseException], Failure]
    ) -> Outcome:
        """Run `job` in this thread, with the door open for an interruption. It raises nothing."""
        try:
            try:
                with self._lock:
                    self._thread = threading.get_ident()
                    if self.cause is not None:  # it came before the job began
                        raise_in_thread(self._thread, self.cause, self.reason)
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
            take_back_exception(threading.get_ident())
            self._thread = 0


#: the run that this thread or task belongs to
current_job: ContextVar[RunningJob | None] = ContextVar("minirq_run", default=None)
