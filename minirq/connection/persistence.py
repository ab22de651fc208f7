"""Persistence: how long a call is sent again while its server comes and goes, and what is said in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from minirq.connection.connect import safe_url
from minirq.connection.faults import is_passing, translate
from minirq.exceptions import MinirqError, ServerUnavailable

if TYPE_CHECKING:
    from minirq.connection.connect import AnyClient

#: for how long a call is sent again, seconds: a failover is waited out, a server that never was there is not
PATIENCE, PATIENCE_AT_FIRST = 10.0, 3.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

_NOTHING_SENT = "Nothing was sent."
#: longest that one attempt is under way: the timeout of a socket, seconds
_ATTEMPT = 5.0

_has_worked = False


def note_connection() -> None:
    """Note that a connection of this process has worked."""
    global _has_worked
    _has_worked = True


@contextmanager
def nothing_sent() -> Iterator[None]:
    """Note on an error of the connecting inside that the server has got nothing."""
    try:
        yield
    except Exception as error:
        error.add_note(_NOTHING_SENT)
        raise


class Persistence:
    """That of one call, named `what`, which began at `began` (monotonic); None is the default patience."""

    def __init__(
        self, client: AnyClient, what: str, began: float, patience: float | None, known_for: float = inf
    ) -> None:
        self._client = client
        self._what = what
        self._began = began
        self._patience = patience
        self._known_for = known_for - _ATTEMPT
        self._may_have_acted = False
        self._pause = _FIRST_PAUSE

    def pause_after(self, error: RedisError | OSError) -> float:
        """Return the seconds after which to try again; or raise the error, said in ours."""
        if isinstance(error, MinirqError):  # some of them are OSErrors too
            raise error
        patience = self._patience
        if patience is None:
            patience = PATIENCE if _has_worked else PATIENCE_AT_FIRST
        is_refusal = isinstance(error, (ResponseError, BusyLoadingError))
        if not is_refusal and _NOTHING_SENT not in getattr(error, "__notes__", ()):
            self._may_have_acted = True
        if self._may_have_acted:
            patience = min(patience, self._known_for)
        if not is_passing(error) or time.monotonic() + self._pause >= self._began + patience:
            said = translate(error, self._what, safe_url(self._client))
            if isinstance(said, ServerUnavailable):
                said.may_have_acted, said._began = self._may_have_acted, self._began
            raise said from error
        pause = self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return pause
