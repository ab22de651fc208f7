"""What Redis keeps of a job beside its payload: its record (a hash), its state, and its failures.

`status` in the hash names the place where the payload is: `queued` in the waiting list, `started` in a
processing list, every other in `payload:<id>` with an entry in the index of that name. Reading decodes no
user data.
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
ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.STOPPED, JobStatus.EXPIRED)

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
        """Return the bytes that go on record; text beyond the limits is cut, with a note."""
        message, traceback = _cut(self.message, MAX_MESSAGE), _cut(self.traceback, MAX_TRACEBACK)
        parts = [self.exc_type, message, traceback, self.worker, self.kind]
        return bytes(msgpack.packb(parts, unicode_errors="backslashreplace"))


def read_failure(raw: bytes) -> Failure:
    """Read one entry of a job's errors: "ms blob". One that cannot be read is shown as that."""
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
    """The hash of a job, read. Times are aware, in UTC; `result` and `meta` are still serialized.

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
        """The record as readers show it at this time (Redis time): past its ttl, a waiting job has expired.

        The claim that meets it will end it; readers change nothing.
        """
        expires_at = self.expires_at if self.status == JobStatus.QUEUED else None
        is_expired = expires_at is not None and now_ms >= expires_at.timestamp() * 1000
        return replace(self, status=JobStatus.EXPIRED) if is_expired else self


def read_record(fields: Mapping[bytes, bytes]) -> Record | None:
    """Read a hash; None where there is none."""
    if b"status" not in fields:
        return None

    def text(name: bytes) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    def time(name: bytes) -> datetime | None:
        return utc_from_ms(_number(fields.get(name)))

    status = _status(text(b"status"))
    is_parked = status in (JobStatus.SCHEDULED, JobStatus.DEFERRED)
    attempts = _number(fields.get(b"attempts"))
    first_miss, _, at_attempts = fields.get(b"missed", b"").partition(b" ")
    return Record(
        status=status,
        function=text(b"func"),
        created_at=time(b"created_ms"),
        # written only where it differs
        enqueued_at=time(b"enqueued_ms") or (None if is_parked else time(b"created_ms")),
        started_at=time(b"started_ms"),
        ended_at=time(b"ended_ms"),
        expires_at=time(b"expires_ms"),
        run=_number(fields.get(b"run")),
        attempts=attempts,
        lost=_number(fields.get(b"lost")),
        owner=text(b"owner"),
        serializer=text(b"serializer") or "msgpack",
        result=fields.get(b"result"),
        meta=fields.get(b"meta"),
        is_asked_to_stop=b"stop" in fields,
        # after a run that was counted, the miss is one of the past
        missed_at=utc_from_ms(_number(first_miss)) if _number(at_attempts) == attempts else None,
    )


def _status(name: str) -> JobStatus | str:
    try:
        return JobStatus(name)
    except ValueError:
        return name  # written by a newer minirq


def _number(value: bytes | None) -> int:
    try:
        return int(value) if value else 0
    except ValueError:
        return 0
