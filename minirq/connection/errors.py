"""Which errors of redis-py pass by themselves, which of ours the others become, and whether to send again.

`LOADING` and a lost connection pass; a wrong password does not; `OOM` refuses only what needs memory.
Error texts as measured on Redis 6.2 and 7.0 with redis-py 5 to 8.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

from redis import exceptions as theirs

from minirq.backoff import Backoff
from minirq.connection.connect import safe_url
from minirq.exceptions import (
    AccessDenied,
    MinirqError,
    QueueFull,
    ServerFault,
    ServerUnavailable,
    UnsuitableServer,
)
from minirq.text import safe_text

if TYPE_CHECKING:
    from minirq.connection.connect import AnyClient

#: for how long a call is sent again, seconds: a failover is waited out, a server that never was there is not
PATIENCE, PATIENCE_AT_FIRST = 10.0, 3.0

_REFUSED_LOGIN = (theirs.AuthenticationError, theirs.AuthorizationError)
#: server errors by their first word that pass by themselves, or after a failover
_PASSING = (
    "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "READONLY",
    "TRYAGAIN", "UNBLOCKED",
)  # fmt: skip
_PASSING_TYPES = (
    theirs.ConnectionError, theirs.TimeoutError, OSError,
    theirs.ReadOnlyError, theirs.ClusterDownError, theirs.TryAgainError,  # redis-py takes their codes off
)  # fmt: skip
_DENIED = ("NOAUTH", "NOPERM", "WRONGPASS")
#: the error of a command inside a script that the user may not run, without a code: 6.2, then 7.0
_DENIED_INSIDE = ("The user executing the script", "ACL failure in script")
#: OpenSSL's error for a certificate that it does not trust; redis-py raises it as a lost connection
_NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"


def is_passing(error: Exception) -> bool:
    """Whether the same call may succeed later without anybody doing anything about it."""
    if isinstance(error, (*_REFUSED_LOGIN, theirs.NoPermissionError)) or _NOT_TRUSTED in str(error):
        return False
    if isinstance(error, theirs.ResponseError) and (_code(error) in _PASSING or "BUSY" in str(error)[:20]):
        return True
    return isinstance(error, _PASSING_TYPES)


def translate(error: Exception, what: str, where: str) -> MinirqError:
    """Return the error of ours for one of redis-py.

    `what` names the call, `where` the server (without a password).
    """
    text = str(error)
    if isinstance(error, _REFUSED_LOGIN):
        return AccessDenied(f"Redis at {where} refused the user or password: {text}")
    if _NOT_TRUSTED in text:
        return UnsuitableServer(f"{where} shows a certificate that is not trusted: {_way_to_trust(text)}")
    is_denied = isinstance(error, theirs.NoPermissionError) or _code(error) in _DENIED
    if is_denied or any(words in text for words in _DENIED_INSIDE):
        return AccessDenied(f"Redis at {where} does not permit {what}: {text}")
    if isinstance(error, theirs.OutOfMemoryError) or "OOM command not allowed" in text:
        return QueueFull(
            f"Redis at {where} has reached maxmemory and refused {what}: nothing was enqueued;"
            " wait until workers have drained, or raise maxmemory"
        )
    if "HELLO" in text and "unknown command" in text.lower():
        return UnsuitableServer(f"{where} does not know HELLO: minirq needs Redis 6.2 or newer, or Valkey")
    if is_passing(error):
        reason = text.rstrip(".") or type(error).__name__
        return ServerUnavailable(f"Redis at {where} cannot be reached: {reason}")
    return ServerFault(f"Redis at {where} answered {what} with an error: {text}")


def _code(error: Exception) -> str:
    # redis-py strips the codes that it knows, so ask for its types too
    return str(error).partition(" ")[0]


def _way_to_trust(text: str) -> str:
    reason = safe_text(text.partition("certificate verify failed: ")[2].partition(" (_ssl.c")[0].rstrip("."))
    if "mismatch" in reason:
        return f"{reason}; use a host name in the URL that the certificate has"
    return f"{reason}; name the file of its CA in the URL, ?ssl_ca_certs=/path/to/ca.crt"


_NOTHING_SENT = "Nothing was sent."
#: longest that one attempt is under way: the timeout of a socket, seconds
_ATTEMPT = 5.0

_has_worked = False


@contextmanager
def connecting() -> Iterator[None]:
    """Note that a connection of this process has worked, or on the error that nothing was sent."""
    global _has_worked
    try:
        yield
    except Exception as error:
        error.add_note(_NOTHING_SENT)
        raise
    _has_worked = True


class Attempts:
    """The attempts to send one call, named `what`, since `began` (monotonic): whether there is another one.

    Without a `patience` the default applies. A call that may have acted is sent again only within
    `known_for` seconds, while the job's record shows that it has.
    """

    def __init__(
        self, client: AnyClient, what: str, began: float, patience: float | None, known_for: float = inf
    ) -> None:
        self._client = client
        self._what = what
        self._began = began
        self._patience = patience
        self._known_for = known_for - _ATTEMPT
        self._may_have_acted = False
        self._backoff = Backoff()

    def failed(self, error: theirs.RedisError | OSError) -> float:
        """Return the seconds until the next attempt; or raise what `error` means, if there is none."""
        if isinstance(error, MinirqError):  # some of them are OSErrors too
            raise error
        is_refusal = isinstance(error, (theirs.ResponseError, theirs.BusyLoadingError))
        if not is_refusal and _NOTHING_SENT not in getattr(error, "__notes__", ()):
            self._may_have_acted = True
        patience = self._patience
        if patience is None:
            patience = PATIENCE if _has_worked else PATIENCE_AT_FIRST
        if self._may_have_acted:
            patience = min(patience, self._known_for)
        pause = self._backoff.failed()
        if is_passing(error) and time.monotonic() + pause < self._began + patience:
            return pause
        meant = translate(error, self._what, safe_url(self._client))
        if isinstance(meant, ServerUnavailable):
            meant.may_have_acted, meant._began = self._may_have_acted, self._began
        raise meant from error
