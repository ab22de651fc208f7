"""What does Redis know about one job? `minirq job` shows it, and `minirq explain` concludes from it.

Reading takes a few round trips (and a search of the waiting list while the job is in it), changes nothing
and runs no code of the application.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from minirq.client.store import Store
from minirq.durations import utc_from_ms
from minirq.exceptions import DeserializationError, NoSuchJobError
from minirq.job import Job
from minirq.protocol import payload, queries
from minirq.protocol.keys import QueueKeys
from minirq.protocol.payload import Payload
from minirq.protocol.queries import Found, Steps
from minirq.protocol.record import Failure, JobStatus, Record

__all__ = ["JobReport", "report"]


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job at the time `now`.

    `errors` are its last failures, newest first. `position` is its place in the waiting list, 0 runs next.
    `leaves_at` is when a parked job becomes due or is forgotten; None for never. `envelope` is None if its
    payload was not kept or cannot be read. `lease_end_ms` is when its owner's lease ends, in ms of Redis
    time: negative once the owner is known to be dead, None if it is not listed. `is_being_cleared`: it was
    canceled while it waited, and its payload was not found in the list.
    """

    job: Job[Any]
    record: Record
    now: datetime
    errors: tuple[Failure, ...]
    position: int | None
    leaves_at: datetime | None
    envelope: Payload | None
    lease_end_ms: float | None
    is_being_cleared: bool

    @property
    def function(self) -> str:
        """The name of its function, "" if neither its record nor its payload says it."""
        return self.record.function or (self.envelope.function if self.envelope else "")


def report(store: Store, job_id: str) -> JobReport:
    """Read what is known of a job, whichever queue it is in. Raises NoSuchJobError."""
    return store.sender.run(_read(store, job_id))


def _read(store: Store, job_id: str) -> Steps[JobReport]:
    [found] = yield from queries.find(store.keys, [job_id])
    if found is None:
        raise NoSuchJobError.of(job_id)
    keys, record = store.keys.of(found.queue), found.record
    position, raw = yield from _payload(keys, job_id, found)
    now_ms, errors, leaves_ms, lease_end_ms, kept_ms = yield [
        queries.server_time(),
        queries.errors(keys, job_id),
        queries.index_score(keys, str(record.status), job_id),
        queries.lease_end(keys, record.owner),
        queries.kept_ms(keys, job_id),
    ]
    return JobReport(
        job=Job(job_id, store, found.queue, record, raw),
        record=record,
        now=utc_from_ms(now_ms) or datetime.now(UTC),
        errors=tuple(errors),
        position=position,
        leaves_at=utc_from_ms(leaves_ms),
        envelope=_decoded(raw),
        lease_end_ms=lease_end_ms,
        is_being_cleared=record.status == JobStatus.CANCELED and leaves_ms is None and kept_ms == -1,
    )


def _payload(keys: QueueKeys, job_id: str, found: Found) -> Steps[tuple[int | None, bytes | None]]:
    """Its place in the waiting list if it is there, and its payload from wherever it is."""
    if found.record.status != JobStatus.QUEUED:
        return None, (yield from queries.find_payload(keys, job_id, found.record))
    waiting = yield from queries.locate(keys, job_id)
    return (waiting.position, waiting.payload) if waiting else (None, None)


def _decoded(raw: bytes | None) -> Payload | None:
    try:
        return None if raw is None else payload.decode(raw)
    except DeserializationError:
        return None
