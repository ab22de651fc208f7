"""Death penalties: what raises JobTimeoutException inside a job that runs too long.

The names are RQ's, so a worker class may bring its own. A timer raises only while its own block is
under way: what comes late is ignored. What a job swallows, or never lets through because C code
holds the interpreter, is the supervisor's to end.
"""

from __future__ import annotations

import ctypes
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from minirq.exceptions import JobTimeoutException


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
        return f"the job ran longer than its timeout of {self._timeout:g} s"


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
        if not self._is_under_way:
            return
        # the exception is raised without arguments, so a class of its own carries the message
        told = type(self._exception.__name__, (self._exception,), {"__str__": lambda _: self.message})
        told.__module__, told.__qualname__ = self._exception.__module__, self._exception.__qualname__
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(told))


def get_default_death_penalty_class() -> type[BaseDeathPenalty]:
    """Return the penalty that works here: by signal in the main thread of a Unix process, else by timer."""
    if hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread():
        return UnixSignalDeathPenalty
    return TimerDeathPenalty
