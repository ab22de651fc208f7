"""The states of a job, and which of them are ends.

`status` in a job's hash names the place where its payload is: `queued` in the waiting list,
`started` in a processing list, every other in `payload:<id>` with an entry in the index of that name.

A failed attempt or a death, as it is kept with the job: what went wrong, where and on whom.

A job's record: its hash as Redis holds it, read into types. Reading decodes no user data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

import msgpack

from minirq.durations import utc_from_ms


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


#: longest traceback that is kept, characters: the head and, more telling, the tail
MAX_TRACEBACK = 16 * 1024
MAX_MESSAGE = 2000
#: an entry of a job's errors that is read, bytes; the longest that is written takes a tenth of it
MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt. `kind` is "error", "timeout" or "lost" (the process died)."""

    exc_type: str
    message: str
    traceback: str = ""
    worker: str = ""
    kind: str = "error"
    at: datetime | None = None

    @property
    def summary(self) -> str:
        """One line: the type and the message."""
        return f"{self.exc_type}: {self.message}" if self.message else self.exc_type

    def encode(self) -> bytes:
        """Return the bytes that go on record; text beyond the limits is cut, and said so."""
        return bytes(
            msgpack.packb(
                [
                    self.exc_type,
                    _cut(self.message, MAX_MESSAGE),
                    _cut(self.traceback, MAX_TRACEBACK),
                    self.worker,
                    self.kind,
                ],
                unicode_errors="backslashreplace",
            )
        )


def decode(raw: bytes) -> Failure:
    """Read one entry of a job's errors: "ms blob". What cannot be read is shown as what it is."""
    stamp, _, blob = raw.partition(b" ")
    try:
        if len(blob) > MAX_BYTES:
            raise ValueError("nobody has written that")
        at = datetime.fromtimestamp(int(stamp) / 1000, UTC)
        exc_type, message, traceback, worker, kind = msgpack.unpackb(blob, max_array_len=16, max_ext_len=0)
    except Exception:  # foreign or damaged bytes must not hide the job
        return Failure("Unreadable", f"the error on record cannot be read ({len(raw)} bytes)")
    return Failure(str(exc_type), str(message), str(traceback), str(worker), str(kind), at)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = limit // 4
    tail = limit - head
    return f"{text[:head]}\n… {len(text) - limit} characters left out …\n{text[-tail:]}"


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
    return utc_from_ms(_number(value))
