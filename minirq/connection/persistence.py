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

#: an application is not kept waiting for longer than this by a server that comes and goes, seconds
PATIENCE = 3.0
_FIRST_PAUSE = 0.05


class Persistence:
    """That of one call, named `what`, which is sent again until `deadline` (of time.monotonic)."""

    def __init__(self, client: AnyClient, what: str, deadline: float) -> None:
        self._client = client
        self._what = what
        self._deadline = deadline
        self._pause = _FIRST_PAUSE

    def pause_after(self, error: RedisError | OSError) -> float:
        """Return the seconds after which to try again; or raise the error, said in ours."""
        if isinstance(error, MinirqError):  # some of them are OSErrors too
            raise error
        if not is_passing(error) or time.monotonic() + self._pause >= self._deadline:
            raise translate(error, self._what, safe_url(self._client)) from error
        pause = self._pause
        self._pause *= 2
        return pause
