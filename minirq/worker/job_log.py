"""What a worker logs about jobs: a line when a run starts, and one when it ends.

Names and messages come from jobs, so they are escaped. Arguments are never logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from minirq.protocol.commands import DELETED, FENCED, MISSED_TOO_LONG, SETTLED, Claimed, SetAside, Settlement
from minirq.protocol.defaults import MAX_ID_BYTES
from minirq.protocol.record import Failure, read_failure
from minirq.text import safe_text
from minirq.worker.outcome import Failed, Finished, FunctionUnknown, Interrupted, Outcome, Retrying
from minirq.worker.settings import WorkerSettings

logger = logging.getLogger("minirq.worker.jobs")

_REFUSED = "minirq.exceptions.FunctionRefused"
#: before a job is tried again whose function was missed for the first time (lua/finish.lua), seconds
_FIRST_PAUSE = 0.5


def log_set_aside(aside: Iterable[SetAside]) -> None:
    """Log which jobs cannot be read, and were set aside."""
    for job in aside:
        shown = safe_text(job.id, MAX_ID_BYTES)
        logger.error(
            "job %s (queue %s) is set aside: %s. Once that is mended, run it with: minirq requeue %s",
            shown, safe_text(job.queue), safe_text(job.why), shown,
        )  # fmt: skip


class JobLog:
    """Writes the lines of one owner. `is_verbose`: runs that go well get lines too."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self.is_verbose = logger.isEnabledFor(logging.INFO)

    def outdated(self, claimed: Claimed, age: float) -> None:
        """Log that a job is not started, because it was claimed too long ago."""
        logger.warning(
            "job %s was claimed %.1f s ago and is not started: it is given back and claimed again",
            safe_text(claimed.id, MAX_ID_BYTES), age,
        )  # fmt: skip

    def started(self, claimed: Claimed, function: str) -> None:
        """Log that a run starts."""
        facts = self._facts(claimed, function)
        logger.info(
            "job %s started: %s (queue %s, attempt %d)",
            facts["job_id"], facts["func"], facts["queue"], facts["attempt"], extra=facts,
        )  # fmt: skip

    def ended(self, claimed: Claimed, function: str, outcome: Outcome, seconds: float) -> None:
        """Log that a run has ended."""
        failure: Failure | None = getattr(outcome, "failure", None)
        facts = self._facts(claimed, function, failure) | {"seconds": round(seconds, 6)}
        ran: tuple[Any, ...] = (facts["func"], seconds)
        level = logging.INFO
        match outcome:
            case Finished():
                text, values = "job %s finished: %s in %.3f s", ran
            case Interrupted():
                text, values = "job %s was interrupted: %s after %.3f s", ran
            case Failed(failure):
                level, text = logging.ERROR, "job %s failed: %s after %.3f s: %s"
                values = (*ran, safe_text(failure.summary))
            case Retrying(failure, delay):
                level, text = (
                    logging.WARNING,
                    "job %s failed and is tried again in %.1f s: %s after %.3f s: %s",
                )
                values = (delay, *ran, safe_text(failure.summary))
            case FunctionUnknown(failure, window) if window < 0:
                level, text = _unknown_level(failure), "job %s goes back to the queue: %s"
                values = (safe_text(failure.summary, 1000),)
            case _:  # `answered` logs what follows
                return
        logger.log(level, text, facts["job_id"], *values, extra=facts)

    def answered(self, settlements: Sequence[Settlement], codes: Sequence[int]) -> None:
        """Log the settlements that Redis answered with anything but "settled"."""
        for settled, code in zip(settlements, codes, strict=True):
            if code == SETTLED:
                continue
            if code == FENCED and settled.verb != "release":
                logger.warning(
                    "job %s run %d: the result was dropped, another run holds the job by now",
                    safe_text(settled.id), settled.run,
                )  # fmt: skip
            elif code == DELETED:
                logger.info("job %s was deleted while it ran", safe_text(settled.id))
            elif code == MISSED_TOO_LONG:
                log_failed(self._settings, settled)
            elif code < 0:
                self._left_to_others(settled, -code / 1000)

    def _left_to_others(self, settled: Settlement, pause: float) -> None:
        last = read_failure(b"0 " + settled.blob)
        # the first pause is the shortest, and the later ones are of no interest
        level = _unknown_level(last) if pause <= _FIRST_PAUSE else logging.DEBUG
        logger.log(
            level, "job %s is left to other workers, and tried again in %g s; it fails once none has known"
            " its function for %g s: %s",
            safe_text(settled.id), round(pause, 1), settled.seconds, safe_text(last.summary, 1000),
            extra=_facts(self._settings.queues[settled.queue], settled.id, self._settings.name, last),
        )  # fmt: skip

    def _facts(self, claimed: Claimed, function: str, failure: Failure | None = None) -> dict[str, Any]:
        facts = _facts(self._settings.queues[claimed.queue], claimed.id, self._settings.name, failure)
        return facts | {"func": safe_text(function), "attempt": claimed.attempts + 1}


def _unknown_level(failure: Failure) -> int:
    """A refused function takes an option of the worker; one that is not known may come with a deploy."""
    return logging.ERROR if failure.exc_type == _REFUSED else logging.WARNING


def log_failed(settings: WorkerSettings, settled: Settlement) -> None:
    """Log that a job has failed for good, where no run of it has logged that."""
    log_death(settings.queues[settled.queue], settled.id, read_failure(b"0 " + settled.blob), settings.name)


def log_death(queue: str, job_id: str, last: Failure, worker: str) -> None:
    """Log that a job has failed for good, with its last failure and the worker that ran it."""
    facts = _facts(queue, job_id, worker, last)
    logger.error("job %s failed: %s", facts["job_id"], safe_text(last.summary, 500), extra=facts)


def _facts(queue: str, job_id: str, worker: str, failure: Failure | None) -> dict[str, Any]:
    facts = {
        "job_id": safe_text(job_id, MAX_ID_BYTES),
        "queue": safe_text(queue),
        "worker": safe_text(worker),
    }
    return facts if failure is None else facts | {"exc_type": safe_text(failure.exc_type)}
