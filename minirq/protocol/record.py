"""A job's record: its hash as Redis holds it, read into types. Reading decodes no user data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from minirq.protocol.states import ENDED, JobStatus


@dataclass(frozen=True, slots=True)
class Record:
    """What the hash of a job says. Times are aware, in UTC; `result` and `meta` are still serialized.

    `missed_at` is when a worker first did not know the function, if none has run it since.
    """

    status: JobStatus | str
    function: str = ""
    created_at: datetime | None = None
    enqueued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    run: int = 0
    attempts: int = 0
    lost: int = 0
    owner: str = ""
    serializer: str = "msgpack"
    result: bytes | None = None
    meta: bytes | None = None
    is_asked_to_stop: bool = False
    missed_at: datetime | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the job will not run again unless it is requeued."""
        return self.status in ENDED

    def seen_at(self, now_ms: int) -> Record:
        """The record as it is to be shown at this time (Redis time): past its ttl, a waiting job has expired.

        The claim that meets it will end it; readers change nothing.
        """
        if (
            self.status == JobStatus.QUEUED
            and self.expires_at
            and now_ms >= self.expires_at.timestamp() * 1000
        ):
            return replace(self, status=JobStatus.EXPIRED)
        return self


def read_record(fields: Mapping[bytes, bytes]) -> Record | None:
    """Read a hash; None where there is none."""
    if b"status" not in fields:
        return None
    status = _status(_text(fields.get(b"status")))
    created_at = _time(fields.get(b"created_ms"))
    enqueued_at = _time(fields.get(b"enqueued_ms"))
    if enqueued_at is None and status not in (JobStatus.SCHEDULED, JobStatus.DEFERRED):
        enqueued_at = created_at  # written only where it differs
    return Record(
        status=status,
        function=_text(fields.get(b"func")),
        created_at=created_at,
        enqueued_at=enqueued_at,
        started_at=_time(fields.get(b"started_ms")),
        ended_at=_time(fields.get(b"ended_ms")),
        expires_at=_time(fields.get(b"expires_ms")),
        run=_number(fields.get(b"run")),
        attempts=_number(fields.get(b"attempts")),
        lost=_number(fields.get(b"lost")),
        owner=_text(fields.get(b"owner")),
        serializer=_text(fields.get(b"serializer")) or "msgpack",
        result=fields.get(b"result"),
        meta=fields.get(b"meta"),
        is_asked_to_stop=b"stop" in fields,
        missed_at=_missed_at(fields.get(b"missed"), _number(fields.get(b"attempts"))),
    )


def _missed_at(value: bytes | None, attempts: int) -> datetime | None:
    first_ms, _, at_attempts = (value or b"").partition(b" ")
    # after a run that was counted, it is about a miss of the past
    return _time(first_ms) if _number(at_attempts) == attempts else None


def _status(name: str) -> JobStatus | str:
    try:
        return JobStatus(name)
    except ValueError:
        return name  # written by a newer minirq


def _text(value: bytes | None) -> str:
    return value.decode("utf-8", "replace") if value else ""


def _number(value: bytes | None) -> int:
    try:
        return int(value) if value else 0
    except ValueError:
        return 0


def _time(value: bytes | None) -> datetime | None:
    ms = _number(value)
    try:
        return datetime.fromtimestamp(ms / 1000, UTC) if ms > 0 else None
    except (OverflowError, ValueError, OSError):
        return None
