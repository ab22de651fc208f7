"""The journal: what the log says about jobs. One line when a run starts, one when it ends.

Names and messages come from jobs, so they are escaped. Arguments are never logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from minirq.protocol.commands import DELETED, FENCED, MISSED_TOO_LONG, SETTLED, Claimed, SetAside, Settlement
from minirq.protocol.payload import MAX_ID_BYTES
from minirq.protocol.record import Failure, read_failure
from minirq.text import safe_text
from minirq.worker.outcome import Failed, Finished, FunctionUnknown, Interrupted, Outcome, Retrying
from minirq.worker.settings import WorkerSettings

logger = logging.getLogger("minirq.worker.jobs")

_REFUSED = "minirq.exceptions.FunctionRefused"
#: before a job is tried again whose function was missed for the first time (lua/finish.lua), seconds
_FIRST_PAUSE = 0.5


def log_set_aside(aside: Iterable[SetAside]) -> None:
    """Say which jobs cannot be read, and were set aside."""
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
        """A job is not started, because it was claimed too long ago."""
        logger.warning(
            "job %s was claimed %.1f s ago and is not started: it is given back and claimed anew",
            safe_text(claimed.id, MAX_ID_BYTES), age,
        )  # fmt: skip

    def started(self, claimed: Claimed, function: str) -> None:
        """A run starts."""
        facts = self._facts(claimed, function)
        logger.info(
            "job %s started: %s (queue %s, attempt %d)",
            facts["job_id"], facts["func"], facts["queue"], facts["attempt"], extra=facts,
        )  # fmt: skip

    def ended(self, claimed: Claimed, function: str, outcome: Outcome, seconds: float) -> None:
        """A run has ended."""
        facts = self._facts(claimed, function) | {"seconds": round(seconds, 6)}
        job, shown = facts["job_id"], facts["func"]
        match outcome:
            case Finished():
                logger.info("job %s finished: %s in %.3f s", job, shown, seconds, extra=facts)
            case Interrupted():
                logger.info("job %s was interrupted: %s after %.3f s", job, shown, seconds, extra=facts)
            case Failed(failure):
                why = safe_text(failure.summary)
                facts["exc_type"] = safe_text(failure.exc_type)
                logger.error("job %s failed: %s after %.3f s: %s", job, shown, seconds, why, extra=facts)
            case FunctionUnknown(failure, window):
                if window < 0:  # else the answer says what follows
                    facts["exc_type"] = safe_text(failure.exc_type)
                    why = safe_text(failure.summary, 1000)
                    logger.log(
                        _miss_level(failure), "job %s goes back to the queue: %s", job, why, extra=facts
                    )
            case Retrying(failure, delay):
                facts["exc_type"] = safe_text(failure.exc_type)
                logger.warning(
                    "job %s failed and is tried again in %.1f s: %s after %.3f s: %s",
                    job, delay, shown, seconds, safe_text(failure.summary), extra=facts,
                )  # fmt: skip

    def answered(self, settlements: Sequence[Settlement], codes: Sequence[int]) -> None:
        """Settlements were answered; only what is out of the ordinary is worth a line."""
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
                self._missed(settled, -code / 1000)

    def _missed(self, settled: Settlement, pause: float) -> None:
        """A job's function is not known here, and it is tried again after so many seconds."""
        last = read_failure(b"0 " + settled.blob)
        # the first pause is the shortest; of those that follow nobody has to hear
        level = _miss_level(last) if pause <= _FIRST_PAUSE else logging.DEBUG
        logger.log(
            level, "job %s is left to other workers, and tried again in %g s; it fails once none has known"
            " its function for %g s: %s",
            safe_text(settled.id), round(pause, 1), settled.seconds, safe_text(last.summary, 1000),
            extra=_facts(self._settings.queues[settled.queue], settled.id, last, self._settings.name),
        )  # fmt: skip

    def _facts(self, claimed: Claimed, function: str) -> dict[str, Any]:
        return {
            "job_id": safe_text(claimed.id, MAX_ID_BYTES),
            "queue": safe_text(self._settings.queues[claimed.queue]),
            "func": safe_text(function),
            "attempt": claimed.attempts + 1,
            "worker": self._settings.name,
        }


def _miss_level(failure: Failure) -> int:
    """A refused function takes an option of the worker; one that is not known may come with a deploy."""
    return logging.ERROR if failure.exc_type == _REFUSED else logging.WARNING


def log_failed(settings: WorkerSettings, settled: Settlement) -> None:
    """Say that a job has failed for good, where no run of it has said so."""
    log_death(settings.queues[settled.queue], settled.id, read_failure(b"0 " + settled.blob), settings.name)


def log_death(queue: str, job_id: str, last: Failure, worker: str) -> None:
    """Say that a job has failed for good, with its last failure and the worker that had it."""
    logger.error(
        "job %s failed: %s", safe_text(job_id, MAX_ID_BYTES), safe_text(last.summary, 500),
        extra=_facts(queue, job_id, last, worker),
    )  # fmt: skip


def _facts(queue: str, job_id: str, last: Failure, worker: str) -> dict[str, Any]:
    return {
        "job_id": safe_text(job_id, MAX_ID_BYTES),
        "queue": safe_text(queue),
        "worker": safe_text(worker),
        "exc_type": safe_text(last.exc_type),
    }
