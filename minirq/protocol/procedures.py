"""What takes more than one call: generators that yield calls (or lists of calls) and are sent the replies.

Whoever has a connection drives them, blocking or asyncio; the order of events is written once.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from minirq.protocol import operations, reads
from minirq.protocol.keys import Keys, QueueKeys
from minirq.protocol.payload import id_of
from minirq.protocol.record import Record

T = TypeVar("T")
Steps = Generator[Any, Any, T]

#: payloads read at a time when a list is searched
CHUNK = 500


@dataclass(frozen=True, slots=True)
class Found:
    """Where a job is known: its queue and its record."""

    queue: str
    record: Record


@dataclass(frozen=True, slots=True)
class Waiting:
    """A payload in the waiting list; position 0 runs next."""

    position: int
    payload: bytes


def find(keys: Keys, job_ids: list[str], queue: str | None = None) -> Steps[list[Found | None]]:
    """Look jobs up by id: in one queue, or in all known ones, in one pipeline."""
    names = [queue] if queue is not None else (yield reads.queue_names(keys))
    lookups = [reads.record(keys.of(name), job_id) for job_id in job_ids for name in names]
    now_ms, *records = yield [reads.server_time(), *lookups]
    found: list[Found | None] = []
    for i in range(len(job_ids)):
        mine = zip(names, records[i * len(names) : (i + 1) * len(names)], strict=True)
        found.append(next((Found(name, record.seen_at(now_ms)) for name, record in mine if record), None))
    return found


def locate(keys: QueueKeys, job_id: str) -> Steps[Waiting | None]:
    """Search the waiting list for a job, from the end that runs next. Jobs that leave meanwhile shift it."""
    position = 0
    while True:
        chunk = yield reads.waiting(keys, -position - CHUNK, -position - 1)
        for offset, payload in enumerate(reversed(chunk)):
            if id_of(payload) == job_id:
                return Waiting(position + offset, payload)
        if len(chunk) < CHUNK:
            return None
        position += CHUNK


def find_payload(keys: QueueKeys, job_id: str, record: Record | None) -> Steps[bytes | None]:
    """Return a job's payload from wherever it is: parked, held by an owner, or waiting (a search)."""
    parked = yield reads.payload(keys, job_id)
    if parked is not None:
        return bytes(parked)
    if record is not None and record.owner:
        held = yield from find_held(keys, job_id, record.owner)
        if held is not None:
            return held
    waiting = yield from locate(keys, job_id)
    return waiting.payload if waiting else None


def find_held(keys: QueueKeys, job_id: str, owner: str) -> Steps[bytes | None]:
    """Return a job's payload from an owner's processing list."""
    held = yield reads.processing(keys, owner)
    return next((bytes(payload) for payload in held if id_of(payload) == job_id), None)


def cancel(keys: QueueKeys, job_id: str, *, keep: bool = True) -> Steps[str]:
    """Cancel or delete a job, a waiting one out of the list. Returns the status it had, "" without one.

    If this is cut short, or a worker takes the payload meanwhile, the claim that meets it clears it away.
    """
    status = yield operations.cancel(keys, job_id, keep=keep)
    if status != "waiting":
        return str(status)
    waiting = yield from locate(keys, job_id)
    if waiting is not None:
        yield operations.cancel(keys, job_id, keep=keep, payload=waiting.payload)
    return "queued"


def empty(keys: QueueKeys, place: str) -> Steps[int]:
    """Delete all jobs of one place that are there now; returns how many."""
    deleted = 0
    while True:
        seen, gone = yield operations.empty(keys, place)
        deleted += gone
        if not seen:
            return int(deleted)
