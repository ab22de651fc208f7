"""What redis-py raises, told apart: what passes, what is fatal, and in which of our errors it is said.

`LOADING` and a lost connection pass; a wrong password does not; `OOM` refuses only what needs memory.
Error texts as measured on Redis 6.2 and 7.0 with redis-py 5 to 8.

Persistence: how long a call is sent again while its server comes and goes, and what is said in the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

from redis import exceptions as theirs
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

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
    import redis

    from minirq.connection.connect import AnyClient


#: server errors by their first word that pass by themselves, or after a failover
_PASSING = (
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
)
_DENIED = ("NOAUTH", "NOPERM", "WRONGPASS")
#: what is said of a command inside a script, without a code: 6.2, then 7.0
_DENIED_INSIDE = ("The user executing the script", "ACL failure in script")


#: how OpenSSL says that it does not trust a certificate; redis-py passes it on as a lost connection
_NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"


def first_word(error: Exception) -> str:
    """The error code of a server's answer: redis-py strips the codes that it knows, so ask the type first."""
    return str(error).partition(" ")[0]


def is_passing(error: Exception) -> bool:
    """Whether the same call may succeed later without anybody doing anything about it."""
    if isinstance(error, (theirs.AuthenticationError, theirs.AuthorizationError, theirs.NoPermissionError)):
        return False
    if _NOT_TRUSTED in str(error):
        return False
    if isinstance(error, (theirs.ConnectionError, theirs.TimeoutError, OSError)):
        return True
    # redis-py takes the codes of these off
    if isinstance(error, (theirs.ReadOnlyError, theirs.ClusterDownError, theirs.TryAgainError)):
        return True
    if isinstance(error, theirs.ResponseError):
        return first_word(error) in _PASSING or "BUSY" in str(error)[:20]
    return False


def is_out_of_memory(error: Exception) -> bool:
    """Whether the server refused because `maxmemory` is reached."""
    return isinstance(error, theirs.OutOfMemoryError) or "OOM command not allowed" in str(error)


def translate(error: Exception, what: str, where: str) -> MinirqError:
    """Say a redis-py error in ours.

    `what` names the call, `where` the server (without a password).
    """
    if isinstance(error, (theirs.AuthenticationError, theirs.AuthorizationError)):
        return AccessDenied(f"Redis at {where} refused the user or password: {error}")
    if _NOT_TRUSTED in str(error):
        return UnsuitableServer(
            f"{where} shows a certificate that is not trusted: {_way_to_trust(str(error))}"
        )
    is_inside = any(text in str(error) for text in _DENIED_INSIDE)
    if isinstance(error, theirs.NoPermissionError) or first_word(error) in _DENIED or is_inside:
        return AccessDenied(f"Redis at {where} does not permit {what}: {error}")
    if isinstance(error, theirs.ResponseError) and is_out_of_memory(error):
        return QueueFull(
            f"Redis at {where} has reached maxmemory and refused {what}: nothing was enqueued;"
            " wait until workers have drained, or raise maxmemory"
        )
    if "HELLO" in str(error) and "unknown command" in str(error).lower():
        return UnsuitableServer(f"{where} does not know HELLO: minirq needs Redis 6.2 or newer, or Valkey")
    if is_passing(error):
        reason = str(error).rstrip(".") or type(error).__name__
        return ServerUnavailable(f"Redis at {where} cannot be reached: {reason}")
    return ServerFault(f"Redis at {where} answered {what} with an error: {error}")


def _way_to_trust(said: str) -> str:
    reason = safe_text(said.partition("certificate verify failed: ")[2].partition(" (_ssl.c")[0].rstrip("."))
    if "mismatch" in reason:
        return f"{reason}; use a host name in the URL that the certificate has"
    return f"{reason}; name the file of its CA in the URL, ?ssl_ca_certs=/path/to/ca.crt"


@contextmanager
def server_says(client: redis.Redis, what: str) -> Iterator[None]:
    """Say what redis-py raises inside in ours; `what` names the command."""
    try:
        yield
    except (theirs.RedisError, OSError) as error:
        raise translate(error, what, safe_url(client)) from error
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        if isinstance(error, MinirqError):
            raise
        raise ServerFault(
            f"Redis at {safe_url(client)} answered {what} with what is no answer to it"
        ) from error


#: for how long a call is sent again, seconds: a failover is waited out, a server that never was there is not
PATIENCE, PATIENCE_AT_FIRST = 10.0, 3.0

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
        self._backoff = Backoff()

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
        pause = self._backoff.failed()
        if not is_passing(error) or time.monotonic() + pause >= self._began + patience:
            said = translate(error, self._what, safe_url(self._client))
            if isinstance(said, ServerUnavailable):
                said.may_have_acted, said._began = self._may_have_acted, self._began
            raise said from error
        return pause
