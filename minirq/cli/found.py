"""A job as it is found in Redis for somebody to look at. Finding it changes nothing and runs no user code."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from minirq.exceptions import DeserializationError, NoSuchJobError
from minirq.job import Job
from minirq.protocol import payload, procedures, reads
from minirq.protocol.failure import Failure
from minirq.protocol.keys import QueueKeys
from minirq.protocol.payload import Payload
from minirq.protocol.procedures import Found, Steps
from minirq.protocol.record import Record
from minirq.protocol.states import JobStatus
from minirq.store import Store
from minirq.text import safe_text


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job, and what Redis says of it at `now`.

    `position` is its place in the queue, 0 runs next. `leaves_at` is when it is due or forgotten, None is
    never. `envelope` is None if its payload was not kept or cannot be read.
    """

    job: Job[Any]
    record: Record
    envelope: Payload | None
    errors: list[Failure]
    position: int | None
    leaves_at: datetime | None
    now: datetime


def find_job(store: Store, job_id: str) -> FoundJob:
    """Find a job in any queue. While it waits, its place is searched for. Raises NoSuchJobError."""
    [found] = store.sender.run(procedures.find(store.keys, [job_id]))
    if found is None:
        raise NoSuchJobError(
            f"no job has the id {safe_text(job_id)!r}: it never existed, or its record has expired"
        )
    keys = store.keys.of(found.queue)
    position, raw = store.sender.run(_whereabouts(keys, job_id, found))
    calls: list[Any] = [
        reads.server_time(),
        reads.errors(keys, job_id),
        reads.index_score(keys, str(found.record.status), job_id),
    ]
    now_ms, errors, leaves_ms = store.sender.send_all(calls)
    return FoundJob(
        job=Job(job_id, store, found.queue, found.record, raw),
        record=found.record,
        envelope=_envelope(raw),
        errors=errors,
        position=position,
        leaves_at=_time(leaves_ms),
        now=datetime.fromtimestamp(now_ms / 1000, UTC),
    )


def _whereabouts(keys: QueueKeys, job_id: str, found: Found) -> Steps[tuple[int | None, bytes | None]]:
    if found.record.status != JobStatus.QUEUED:
        raw = yield from procedures.find_payload(keys, job_id, found.record)
        return None, raw
    waiting = yield from procedures.locate(keys, job_id)
    return (waiting.position, waiting.payload) if waiting else (None, None)


def _envelope(raw: bytes | None) -> Payload | None:
    try:
        return None if raw is None else payload.decode(raw)
    except DeserializationError:
        return None


def _time(ms: float | None) -> datetime | None:
    try:
        return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):  # +inf: kept for ever
        return None
