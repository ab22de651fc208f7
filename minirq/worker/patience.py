"""Patience with a server that is away: waits longer each time, with jitter, and says it once."""

from __future__ import annotations

import logging
import random
import time
from math import inf

from minirq.exceptions import MinirqError, ServerFault, ServerUnavailable

logger = logging.getLogger(__name__)

# work is to go on within 2 s after the server is back
FIRST, LONGEST = 0.05, 1.5


class Patience:
    """Counts failures in a row. With `is_quiet` somebody else says it.

    It ends `limit` seconds after the first failure, if the server is still unreachable.
    """

    def __init__(self, *, is_quiet: bool = False, limit: float = inf) -> None:
        self._level = logging.DEBUG if is_quiet else logging.WARNING
        self._since: float | None = None
        self._is_fault_said = False
        self._pause = FIRST
        self._limit = limit

    @property
    def is_tried(self) -> bool:
        """Whether the last attempt failed."""
        return self._since is not None

    def failed(self, error: MinirqError) -> float:
        """Note a failure; return the seconds until the next attempt. At the limit, raise it."""
        if self._since is None:
            self._since = time.monotonic()
            if not isinstance(error, ServerFault):
                logger.log(self._level, "%s; waiting for it", error)
        if isinstance(error, ServerFault) and not self._is_fault_said:  # only who sent this call hears of it
            self._is_fault_said = True
            logger.error("%s; it is sent again until that is mended", error)
        if time.monotonic() - self._since >= self._limit and isinstance(error, ServerUnavailable):
            raise ServerUnavailable(f"{error}; a burst waits for {self._limit:g} s") from error
        pause = self._pause
        self._pause = min(self._pause * 2, LONGEST)
        return pause * random.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """Note that it works, again or still."""
        if self._since is not None:
            logger.log(self._level, "Redis is back after %.1f s", time.monotonic() - self._since)
            self._since = None
            self._is_fault_said = False
            self._pause = FIRST
