"""What a worker does again and again: tasks of one shape, and the clock that they go by."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from math import inf

from minirq.exceptions import QueueFull, ServerFault
from minirq.text import safe_text

logger = logging.getLogger(__name__)

#: a task for others that Redis answers with an error is repeated after this, seconds
_AFTER_FAULT = 20.0


class Task:
    """`run` does what there is to do, and returns the seconds until its next turn.

    `due` is the time of that turn (monotonic): set it to 0 for a turn at once, also while `run` is under way.
    A task `for_others` decides about jobs of other workers by their leases, so it has a turn only while the
    beats are steady. An error from Redis postpones it and is logged once: this worker's own tasks go on.
    """

    def __init__(self, run: Callable[[], float], *, due: float = 0.0, for_others: bool = False) -> None:
        self._run = run
        self.due = due
        self.for_others = for_others
        self._is_failing = False

    def turn(self) -> None:
        """Do it now. Raises what `run` raises; then it is due again at once."""
        self.due, pause = inf, 0.0
        try:
            pause = self._run()
            self._is_failing = False
        except (ServerFault, QueueFull) as error:
            if not self.for_others:
                raise
            if not self._is_failing:
                logger.error("the queues of others are not looked after: %s", safe_text(str(error), 500))
            self._is_failing, pause = True, _AFTER_FAULT
        finally:
            self.due = min(self.due, time.monotonic() + pause)


class ServerClock:
    """The server's time as this worker reckons it from its beats, and whether the beats are steady.

    They are once all of them have been on time, and have agreed with the server's clock, for two beats. Until
    then leases prove nothing: after an outage or a stall everybody's lease has run out, and everybody must
    have had the time to beat again first.
    """

    def __init__(self, beat: float) -> None:
        self._beat = beat
        self._server_ms = 0.0
        self._steady_since = inf
        #: when the last beat was sent (monotonic), None before the first
        self.noted_at: float | None = None

    def note(self, server_ms: float, now: float) -> None:
        """Note the server's answer to a beat that was sent `now`."""
        is_late = self.noted_at is None or now - self.noted_at > 2 * self._beat
        has_jumped = not is_late and abs(self.at(now) - server_ms) > self._beat * 1000
        if is_late or has_jumped or self._steady_since == inf:
            self._steady_since = now
        self.noted_at, self._server_ms = now, server_ms

    def distrust(self) -> None:
        """Begin to count again: a beat failed, or the server has refused our time."""
        self._steady_since = inf

    def at(self, now: float) -> float:
        """The server's time at `now` (monotonic), ms. Only once there was a beat."""
        assert self.noted_at is not None
        return self._server_ms + (now - self.noted_at) * 1000

    @property
    def now_ms(self) -> int:
        """The server's time, ms."""
        return int(self.at(time.monotonic()))

    @property
    def steady_at(self) -> float:
        """From when on leases prove something (monotonic)."""
        return self._steady_since + 2 * self._beat
