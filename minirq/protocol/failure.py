"""A failed attempt or a death, as it is kept with the job: what went wrong, where and on whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import msgpack

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
