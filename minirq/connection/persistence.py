"""Persistence: how long a call is sent again while its server comes and goes, and what is said in the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from minirq.connection.connect import safe_url
from minirq.connection.faults import is_passing, translate
from minirq.exceptions import MinirqError

if TYPE_CHECKING:
    from minirq.connection.connect import AnyClient

#: for how long a call is sent again, seconds: a failover is waited out, a server that never was there is not
PATIENCE, PATIENCE_AT_FIRST = 10.0, 3.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

_has_worked = False


def note_connection() -> None:
    """Note that a connection of this process has worked."""
    global _has_worked
    _has_worked = True


class Persistence:
    """That of one call, named `what`, which began at `began` (monotonic); None is the default patience."""

    def __init__(self, client: AnyClient, what: str, began: float, patience: float | None) -> None:
        self._client = client
        self._what = what
        self._began = began
        self._patience = patience
        self._pause = _FIRST_PAUSE

    def pause_after(self, error: RedisError | OSError) -> float:
        """Return the seconds after which to try again; or raise the error, said in ours."""
        if isinstance(error, MinirqError):  # some of them are OSErrors too
            raise error
        patience = self._patience
        if patience is None:
            patience = PATIENCE if _has_worked else PATIENCE_AT_FIRST
        if not is_passing(error) or time.monotonic() + self._pause >= self._began + patience:
            raise translate(error, self._what, safe_url(self._client)) from error
        pause = self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return pause
