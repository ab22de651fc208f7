"""Death penalties: what raises JobTimeoutException inside a job that runs too long.

The names are RQ's, so a worker class may bring its own. A timer raises only while its own block is
under way: what comes late is ignored. What a job swallows, or never lets through because C code
holds the interpreter, is the supervisor's to end.
"""

from __future__ import annotations

import signal
import threading
import time
from math import inf
from types import FrameType, TracebackType
from typing import Any

from minirq.exceptions import JobTimeoutException
from minirq.worker.injection import inject, timeout_message

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


class Alarm:
    """SIGALRM too, for a thread that runs one job after another: a timer that is not set anew for each.

    It rings when the first job that it was set for would be late, and goes on for what is left of the one
    that runs by then. So a thousand jobs of a millisecond cost one system call. What a job does to timer and
    handler is seen by `put_back`, which is called when jobs are looked after.
    """

    def __init__(self) -> None:
        self._deadline = 0.0  # of the block that is under way; 0 without one
        self._timeout = 0.0
        self._rings_at = inf

    def within(self, timeout: float) -> Alarm:
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
            inject(self._thread, self._exception, self.message)


def get_default_death_penalty_class() -> type[BaseDeathPenalty]:
    """Return the penalty that works here: by signal in the main thread of a Unix process, else by timer."""
    if hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread():
        return UnixSignalDeathPenalty
    return TimerDeathPenalty
