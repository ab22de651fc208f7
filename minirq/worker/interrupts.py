"""How a timeout, or a request to stop, gets into the run that it is meant for, and into no other code.

A guard is entered around each call of a job's function. While it is open it lets one interruption in, and
`cause` says which; one that comes late is dropped at its edge. How it gets in depends on where the job runs:

    a job runs                         its deadline     a stop request      it gets in as
    one at a time, in the main thread  SIGALRM          SIGURG              an exception of the signal handler
    one at a time, in another thread   threading.Timer  maintenance thread  an asynchronous exception
    beside others, in a thread         Watchdog         Watchdog            an asynchronous exception
    as a coroutine                     as above         as above            task.cancel()

The two signals share one handler, which looks at the deadline and at the scoreboard. It raises nothing while
an event loop is running: that would end the loop, and not the coroutine. A job that swallows its
interruption, or runs C code that never lets it in, is killed by the supervisor.
"""

from __future__ import annotations

import asyncio  # redis imports it too
import ctypes
import signal
import threading
import time
from math import inf
from types import FrameType
from typing import Any

from minirq.exceptions import JobInterrupted, JobTimeoutException
from minirq.protocol.commands import Claimed
from minirq.protocol.payload import Payload
from minirq.worker.outcome import Failed, Finished, Interrupted, Outcome
from minirq.worker.scoreboard import Scoreboard

#: why a run is interrupted
TIMEOUT, STOP = JobTimeoutException, JobInterrupted
#: makes a process look at its scoreboard; a process without a handler ignores it
STOP_SIGNAL = getattr(signal, "SIGURG", None)
#: how far a timer may be off before a job must have set it, seconds
_TIMER_SLACK = 0.05


def timeout_message(timeout: float) -> str:
    """Return the message of a JobTimeoutException; `timeout` in seconds."""
    return f"the job ran longer than its timeout of {timeout:g} s"


class Guard:
    """Lets one interruption into the block inside. A guard may be entered again for the next run."""

    __slots__ = ("atask", "cause", "is_awaiting", "timeout")

    def __init__(self) -> None:
        self.cause: type[BaseException] | None = None
        self.timeout = -1.0
        #: the asyncio task to cancel instead; while `is_awaiting` there is one, or will be, or was
        self.atask: asyncio.Task[Any] | None = None
        self.is_awaiting = False

    def within(self, timeout: float) -> Guard:
        """Bound the block that is entered next to so many seconds; -1 is no bound."""
        self.timeout = timeout
        return self

    def __enter__(self) -> None:
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError

    @property
    def message(self) -> str:
        """The message of the exception that gets in."""
        return "the job was asked to stop" if self.cause is STOP else timeout_message(self.timeout)

    def ends_as(self, outcome: Outcome) -> Outcome:
        """Return the outcome of the run: of one that was asked to stop only a result counts."""
        return outcome if self.cause is not STOP or isinstance(outcome, Finished) else Interrupted()

    def _cancel_task(self) -> None:
        if self.atask is not None:
            self.atask.get_loop().call_soon_threadsafe(self.atask.cancel)


class SerialGuard(Guard):
    """Guards runs that follow one another. What is kept between them is put back after a job changed it."""

    #: the run is not to be settled if it ends interrupted: who takes its job back puts the loss on record
    is_cut_off = False

    def look(self) -> None:
        """Interrupt the run that is under way if it is late, or asked to stop. From another thread."""
        raise NotImplementedError

    def put_back_alarm(self) -> bool:
        """Make sure that timeouts work after a job that may have set alarms; True if it had."""
        return False

    def close(self) -> None:
        """Stop the timer until the next block is entered."""


class SignalGuard(SerialGuard):
    """Guards the runs of the main thread. It also ends a sleep and a blocking read.

    The timer is not set for each run: it rings when the first one for which it was set would be late, and is
    then set to what is left of the run that is under way. So a thousand short jobs cost one system call.
    """

    def __init__(self, board: Scoreboard) -> None:
        super().__init__()
        self._board = board
        self._is_open = False
        self._deadline = self._rings_at = inf
        assert STOP_SIGNAL is not None
        signal.signal(STOP_SIGNAL, self._look)

    def __enter__(self) -> None:
        self.cause = None
        self._deadline = time.monotonic() + self.timeout if self.timeout != -1 else inf
        self._is_open = True  # first: an alarm that rings from here on has to find the deadline
        if self._deadline < self._rings_at:
            self._set_alarm(self.timeout)
        if self._board.is_run_asked_to_stop():  # it came before the function was found
            self._interrupt(STOP)

    def __exit__(self, *_: object) -> None:
        self._is_open = False

    def look(self) -> None:
        """Make the main thread look."""
        if STOP_SIGNAL is not None:
            signal.pthread_kill(threading.main_thread().ident or 0, STOP_SIGNAL)

    def put_back_alarm(self) -> bool:
        """Take handler and timer back from a job; True if it had changed them."""
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        expected = self._rings_at - time.monotonic() if self._rings_at != inf else 0.0
        is_ours = self._rings_at == inf or signal.getsignal(signal.SIGALRM) == self._look
        if is_ours and abs(left - expected) < _TIMER_SLACK:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Stop the timer until the next block is entered."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._rings_at = inf

    def _set_alarm(self, seconds: float) -> None:
        self._rings_at = self._deadline
        signal.signal(signal.SIGALRM, self._look)  # a job may have taken it
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))

    def _look(self, signum: int, frame: FrameType | None) -> None:
        """Interrupt the run that is under way if it is late, or asked to stop."""
        if signum == signal.SIGALRM:
            self._rings_at = inf
        if not self._is_open:
            return
        left = self._deadline - time.monotonic()
        if self._board.is_run_asked_to_stop():
            self._interrupt(STOP)
        elif left <= 0:
            self._interrupt(TIMEOUT)
        elif self._deadline < self._rings_at:
            self._set_alarm(left)

    def _interrupt(self, cause: type[BaseException]) -> None:
        self._is_open = False  # once: a run that swallows it is killed later
        self.cause = cause
        if not self.is_awaiting:
            raise cause(self.message)
        self._cancel_task()


class ThreadGuard(Guard):
    """Guards one run in any thread.

    The exception is raised once that thread runs Python code: a sleep or a blocking read is not cut short.
    """

    __slots__ = ("_lock", "_thread", "is_over")

    def __init__(self) -> None:
        super().__init__()
        #: no interruption is let in any more
        self.is_over = False
        self._lock = threading.Lock()
        self._thread = 0

    def __enter__(self) -> None:
        with self._lock:
            self._thread = threading.get_ident()
            if self.cause is not None:  # it came before the function was called
                raise_in_thread(self._thread, self.cause, self.message)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            take_back_exception(threading.get_ident())
            self._thread = 0

    def interrupt(self, cause: type[BaseException]) -> None:
        """Interrupt the run, unless it was interrupted before. From any thread."""
        with self._lock:
            if self.cause is not None or self.is_over:
                return
            self.cause = cause
            if self._thread and not self.is_awaiting:
                raise_in_thread(self._thread, cause, self.message)
            else:
                self._cancel_task()


class SerialThreadGuard(ThreadGuard, SerialGuard):
    """Guards the runs of a thread that is not the main one, with a timer for each."""

    def __init__(self, board: Scoreboard) -> None:
        super().__init__()
        self.is_over = True
        self._board = board
        self._deadline = inf
        self._timer: threading.Timer | None = None

    def __enter__(self) -> None:
        self.close()
        self.cause, self.is_over, self._deadline = None, False, inf
        if self.timeout != -1:
            self._deadline = time.monotonic() + self.timeout
            self._timer = threading.Timer(self.timeout, self.look)
            self._timer.daemon = True
            self._timer.start()
        super().__enter__()

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        super().__exit__()
        self.close()

    def look(self) -> None:
        """Interrupt the run that is under way if it is late, or asked to stop. From another thread."""
        if self._board.is_run_asked_to_stop():
            self.interrupt(STOP)
        elif time.monotonic() >= self._deadline:
            self.interrupt(TIMEOUT)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class RunningJob(ThreadGuard):
    """A job in a slot of the scoreboard, in a process that runs many: on its event loop or in a thread."""

    __slots__ = (
        "children", "claimed", "claimed_at", "deadline", "envelope", "function", "has_blocked", "number",
        "started",
    )  # fmt: skip

    def __init__(self, claimed: Claimed, envelope: Payload | Failed, number: int, claimed_at: float) -> None:
        super().__init__()
        self.claimed = claimed
        self.claimed_at = claimed_at
        self.envelope = envelope
        self.number = number
        self.function = envelope.function if isinstance(envelope, Payload) else ""
        self.started = self.deadline = 0.0
        #: the asyncio tasks that it has started
        self.children: set[asyncio.Task[Any]] | None = None
        self.has_blocked = False


def serial_guard(board: Scoreboard) -> SerialGuard:
    """Return the guard that works in this thread."""
    is_main = threading.current_thread() is threading.main_thread()
    return SignalGuard(board) if is_main and STOP_SIGNAL is not None else SerialThreadGuard(board)


def raise_in_thread(thread: int, exception: type[BaseException], message: str) -> None:
    """Make a thread raise an exception."""
    # it is raised without arguments, so a class made for it carries the message
    kind = type(exception.__name__, (exception,), {"__str__": lambda _: message})
    kind.__module__, kind.__qualname__ = exception.__module__, exception.__qualname__
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


def take_back_exception(thread: int) -> None:
    """Take back what a thread has not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)


# --- RQ's names, for a worker class that brings its own ---------------------------------------


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

    def __exit__(self, *_: object) -> None:
        self._is_under_way = False
        if self._timeout != -1:
            self.cancel_death_penalty()

    def setup_death_penalty(self) -> None:
        """Start the timer."""
        raise NotImplementedError

    def cancel_death_penalty(self) -> None:
        """Stop the timer."""
        raise NotImplementedError


class UnixSignalDeathPenalty(BaseDeathPenalty):
    """SIGALRM: for the main thread."""

    def setup_death_penalty(self) -> None:
        """Set the alarm."""
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self._timeout)

    def cancel_death_penalty(self) -> None:
        """Stop the alarm."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, signum: int, frame: FrameType | None) -> None:
        if self._is_under_way:
            raise self._exception(timeout_message(self._timeout))


class TimerDeathPenalty(BaseDeathPenalty):
    """An asynchronous exception: for any thread and any system. A sleep is not cut short."""

    def setup_death_penalty(self) -> None:
        """Start a timer thread."""
        self._lock, self._thread = threading.Lock(), threading.get_ident()
        self._timer = threading.Timer(self._timeout, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def cancel_death_penalty(self) -> None:
        """Stop the timer thread, and take back what it has not raised yet."""
        self._timer.cancel()
        with self._lock:
            take_back_exception(self._thread)

    def _ring(self) -> None:
        with self._lock:
            if self._is_under_way:
                raise_in_thread(self._thread, self._exception, timeout_message(self._timeout))
