"""The states of a job, and which of them are ends.

`status` in a job's hash names the place where its payload is: `queued` in the waiting list,
`started` in a processing list, every other in `payload:<id>` with an entry in the index of that name.
"""

from __future__ import annotations

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job is in its life. The names are RQ's, with `expired` added."""

    QUEUED = "queued"
    STARTED = "started"
    SCHEDULED = "scheduled"
    DEFERRED = "deferred"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"
    STOPPED = "stopped"
    EXPIRED = "expired"


#: a job in one of these will not run again unless it is requeued
ENDED = (
    JobStatus.FINISHED,
    JobStatus.FAILED,
    JobStatus.CANCELED,
    JobStatus.STOPPED,
    JobStatus.EXPIRED,
)
