"""How long to wait before the next attempt: twice as long after each failure, with jitter."""

from __future__ import annotations

import random
import time


class Backoff:
    """Counts failures in a row. With the defaults, work goes on within 2 s after the server is back."""

    def __init__(self, first: float = 0.05, longest: float = 1.5) -> None:
        self._first = self._pause = first
        self._longest = longest
        self._since: float | None = None

    def failed(self) -> float:
        """Note a failure; return the seconds until the next attempt."""
        if self._since is None:
            self._since = time.monotonic()
        pause = self._pause
        self._pause = min(pause * 2, self._longest)
        return pause * random.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """Note a success: the next failure is the first again."""
        self._pause, self._since = self._first, None

    @property
    def lasted(self) -> float | None:
        """For how long every attempt has failed, seconds; None after a success."""
        return None if self._since is None else time.monotonic() - self._since
