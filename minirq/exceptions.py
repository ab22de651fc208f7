"""Every error that minirq raises. All share one root; each message names the cause and what to do.

Where RQ has an error, it has RQ's name. This module imports only `text`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minirq.text import safe_text

__all__ = [
    "AccessDenied", "ConfigError", "DeserializationError", "EmbeddedServerError", "FunctionNotFound",
    "FunctionRefused", "InvalidJobOperation", "InvalidOption", "JobCanceledError", "JobFailedError",
    "JobInterrupted", "JobTimeoutException", "MinirqError", "NoSuchJobError", "NoSuchWorkerError",
    "QueueFull", "SerializationError", "ServerFault", "ServerUnavailable", "TimeoutFormatError",
    "UnnamedFunction", "UnsuitableServer",
]  # fmt: skip


class MinirqError(Exception):
    """The root of all errors that minirq raises on purpose."""


# --- how minirq is set up ---------------------------------------------------------------------


class ConfigError(MinirqError):
    """A setting is wrong: an invalid URL, or a bad value in the environment or in pyproject.toml."""


class EmbeddedServerError(MinirqError):
    """The embedded server is not installed, does not start, or must not open this data."""


# --- the server -------------------------------------------------------------------------------


class ServerUnavailable(MinirqError, ConnectionError):
    """Redis does not answer, or answers that it cannot serve for now (loading, read only, no master).

    `may_have_acted` is False if the call never reached Redis.
    """

    may_have_acted = True
    _began = 0.0  # when the call was first sent, monotonic
    _again: Callable[[], Any] | None = None

    def again(self) -> Any:
        """Send the enqueue that raised this error again, and return its result (AsyncQueue: await it).

        The call acts once, however often it is sent. Raises the errors of `enqueue`, and InvalidJobOperation
        if it can no longer be known whether its job has run.
        """
        if self._again is None:
            raise InvalidJobOperation("this was not raised by an enqueue: only that can be sent again")
        return self._again()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args  # without the call


class AccessDenied(MinirqError, PermissionError):
    """Redis refused the password, or the user may not run the named command."""


class ServerFault(MinirqError):
    """Redis answered with an unexpected error, for example because a key has the wrong type."""


class UnsuitableServer(MinirqError):
    """This server or connection cannot be used.

    It is older than 6.2, evicts keys, decodes its replies, or has an untrusted certificate.
    """


class QueueFull(MinirqError):
    """Redis has reached `maxmemory`: the job was not enqueued. Workers continue to run waiting jobs."""


# --- what the application asked for ------------------------------------------------------------


class InvalidOption(MinirqError, ValueError):
    """An option of a queue, a job or a worker has an invalid value."""


class TimeoutFormatError(InvalidOption):
    """A duration is neither seconds nor text such as "90", "10m" or "1h30m"."""


class SerializationError(MinirqError, TypeError):
    """An argument, result or meta contains a value that the queue's serializer cannot store unchanged."""


class DeserializationError(MinirqError, ValueError):
    """Bytes in Redis were not written by a serializer, or exceed the limits of size and depth."""


class UnnamedFunction(MinirqError, ValueError):
    """A worker could not find this callable by name: a lambda, a nested function, or one of `__main__`."""


class FunctionNotFound(MinirqError, LookupError):
    """This process cannot import the function that a job names."""


class FunctionRefused(MinirqError, PermissionError):
    """The function exists, but this worker is not allowed to run it."""


class NoSuchWorkerError(MinirqError, LookupError):
    """No running worker has this name."""


# --- jobs -------------------------------------------------------------------------------------


class NoSuchJobError(MinirqError, LookupError):
    """No job has this id: it never existed, was deleted, or its record has expired."""

    @classmethod
    def of(cls, job_id: str) -> NoSuchJobError:
        """Make the error that names this id."""
        return cls(f"no job has the id {safe_text(job_id)!r}: it never existed, was deleted, or has expired")


class InvalidJobOperation(MinirqError):
    """The state of the job does not permit this operation."""


class JobFailedError(MinirqError):
    """The awaited job failed. The message is one line.

    `job_id` is its id, `exc_type` the name of the remote exception's type, and `exc_info` the remote
    traceback as text.
    """

    def __init__(self, message: str, *, job_id: str, exc_type: str = "", exc_info: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id
        self.exc_type = exc_type
        self.exc_info = exc_info


class JobCanceledError(MinirqError):
    """The awaited job was canceled, stopped or deleted, or it expired before it started."""

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobInterrupted(BaseException):
    """Raised inside a plain function whose job is canceled or stopped while it runs.

    It derives from BaseException, as `JobTimeoutException` does. Coroutines get `asyncio.CancelledError`.
    """


class JobTimeoutException(BaseException):
    """Raised inside a job that runs longer than its `job_timeout`.

    It derives from BaseException, so that an `except Exception` in the job does not swallow it.
    """
