"""The outcome of a run, and what follows from it: an end, or another attempt. Pure decisions."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minirq.exceptions import JobTimeoutException
from minirq.protocol.commands import Claimed, Settlement
from minirq.protocol.payload import JobOptions
from minirq.protocol.record import Failure
from minirq.protocol.serializers import Serializer
from minirq.text import safe_text, type_name


@dataclass(slots=True)  # not frozen: made for every job
class Task:
    """A job ready to run: its function found, its arguments read."""

    claimed: Claimed
    options: JobOptions
    serializer: Serializer
    function: Callable[..., Any]
    is_coroutine: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    timeout: float


@dataclass(slots=True)  # not frozen: made for every job
class Finished:
    """The function returned. `blob` is the serialized result, empty for None."""

    blob: bytes
    ttl: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The run failed, and no other follows."""

    failure: Failure
    ttl: float


@dataclass(frozen=True, slots=True)
class Retrying:
    """The run failed, and another follows after `delay` seconds."""

    failure: Failure
    delay: float
    at_front: bool


@dataclass(frozen=True, slots=True)
class FunctionUnknown:
    """This worker does not know the function, or refuses it; another may run it.

    Failed once nobody has for `window` seconds.
    """

    failure: Failure
    window: float


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The run was asked to stop and did: the record says how the job ends. No attempt is counted."""


@dataclass(frozen=True, slots=True)
class Released:
    """The job was not started: it goes back to the front of the queue."""


Outcome = Finished | Failed | Retrying | FunctionUnknown | Interrupted | Released
#: those that count as failed runs
FAILURES = (Failed, Retrying)


def after_error(
    error: BaseException, failure: Failure, claimed: Claimed, options: JobOptions
) -> Failed | Retrying:
    """Decide what follows a failed run. Deaths of the process do not use up retries."""
    failures = claimed.attempts - claimed.lost + 1
    retry = options.retry
    if retry is not None and failures <= retry.max and retry.applies_to(error):
        return Retrying(failure, retry.interval_for(failures), retry.enqueue_at_front)
    return Failed(failure, options.failure_ttl)


def describe(error: BaseException, worker: str) -> Failure:
    """Put an exception on record: its type, its message, and the traceback from the job's function on."""
    kind = type(error)
    try:
        message = str(error)
    except Exception as broken:  # the job's own exception class is user code
        message = f"<its message cannot be shown: {type(broken).__name__}>"
    try:
        text = "".join(traceback.format_exception(kind, _from_the_job(error), error.__traceback__))
    except Exception as broken:
        text = f"<its traceback cannot be shown: {type(broken).__name__}>"
    is_timeout = isinstance(error, JobTimeoutException)
    return Failure(safe_text(type_name(kind)), message, text, worker, "timeout" if is_timeout else "error")


def _from_the_job(error: BaseException) -> BaseException:
    # the frames above the job's function are minirq's, and of no use to whoever reads the traceback
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("minirq.worker"):
        frames = frames.tb_next
    return error.with_traceback(frames) if frames is not None else error


def worker_lost(message: str, worker: str = "") -> Failure:
    """What is put on record about the loss of a process that held a job."""
    return Failure("WorkerLost", message, worker=worker, kind="lost")


def settlement(claimed: Claimed, outcome: Outcome) -> Settlement:
    """Return an outcome in the protocol's words."""
    if type(outcome) is Finished:  # nearly all of them: a match statement takes several times as long
        return Settlement(claimed.queue, claimed.id, claimed.run, "finished", outcome.blob, outcome.ttl)
    run = claimed.queue, claimed.id, claimed.run
    match outcome:
        case Failed(failure, ttl):
            return Settlement(*run, "failed", failure.encode(), ttl)
        case Retrying(failure, delay, at_front):
            return Settlement(*run, "retry", failure.encode(), delay, "front" if at_front else "queue")
        case FunctionUnknown(failure, window):
            return Settlement(*run, "miss", failure.encode(), window)
        case _:
            return Settlement(*run, "release")
