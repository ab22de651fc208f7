"""The facts of a job: what a copy of its record says, without asking Redis again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from minirq.protocol.payload import Payload
from minirq.protocol.record import Record
from minirq.realm import Realm
from minirq.text import safe_text


class Facts:
    """A job's `id`, `origin` (the queue's name), and what its record said when it was last read.

    Times are aware datetimes in UTC, or None while there is none.
    """

    def __init__(
        self, job_id: str, store: Realm, origin: str, record: Record | None = None, raw: bytes | None = None
    ) -> None:
        self.id = job_id
        self.origin = origin
        self._store = store
        self._record = record
        self._raw = raw
        self._payload: Payload | None = None
        self._meta: dict[str, Any] | None = None
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    @property
    def _known(self) -> Record:
        raise NotImplementedError

    @property
    def created_at(self) -> datetime | None:
        """When it was first enqueued or scheduled."""
        return self._known.created_at

    @property
    def enqueued_at(self) -> datetime | None:
        """When it last came into the waiting list."""
        return self._known.enqueued_at

    @property
    def started_at(self) -> datetime | None:
        """When its last run was claimed by a worker."""
        return self._known.started_at

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return self._known.ended_at

    @property
    def attempts(self) -> int:
        """How many runs had a known outcome: a result, an error, a timeout, the death of the process."""
        return self._known.attempts

    @property
    def lost(self) -> int:
        """How many of the attempts ended with the death of the process that ran it."""
        return self._known.lost

    @property
    def worker_name(self) -> str | None:
        """The worker that runs it, or ran it last."""
        return self._known.owner.rsplit(":", 2)[0] or None

    def __repr__(self) -> str:
        return f"<Job {safe_text(self.id)} of {safe_text(self.origin)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Facts) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)
