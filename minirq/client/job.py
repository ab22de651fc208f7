"""The facts of a job: what a copy of its record says, without asking Redis again.

What is done with a job, step by step, whichever way Redis is spoken to.

Each is a generator that yields calls and is sent the replies; `Job` and `AsyncJob` drive the same ones.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from minirq.client.store import BaseStore
from minirq.exceptions import (
    DeserializationError,
    InvalidJobOperation,
    JobCanceledError,
    JobFailedError,
    NoSuchJobError,
)
from minirq.protocol import commands, payload, queries
from minirq.protocol.keys import QueueKeys
from minirq.protocol.payload import Payload
from minirq.protocol.queries import Steps
from minirq.protocol.record import Failure, JobStatus, Record
from minirq.text import safe_text, shell_word


class Facts:
    """A job's `id`, `origin` (the queue's name), and what its record said when it was last read.

    Times are aware datetimes in UTC, or None while there is none.
    """

    def __init__(
        self,
        job_id: str,
        store: BaseStore,
        origin: str,
        record: Record | None = None,
        raw: bytes | None = None,
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


T = TypeVar("T")


class JobBase(Facts, Generic[T]):
    """The steps of a job, and its `meta`."""

    @property
    def meta(self) -> dict[str, Any]:
        """A dict of the application's own, as it was when the record was read."""
        if self._meta is None:
            raw = self._known.meta
            value = self._store.loads(self._known.serializer, raw, "meta") if raw else {}
            self._meta = value if isinstance(value, dict) else {}
        return self._meta

    @meta.setter
    def meta(self, value: dict[str, Any]) -> None:
        self._meta = value

    # --- finding jobs -------------------------------------------------------------------------

    @classmethod
    def _find_steps(
        cls, store: BaseStore, ids: list[str], queue: str | None = None
    ) -> Steps[list[Self | None]]:
        """Find the jobs with these ids, in one queue or any, None for those that do not exist."""
        found = yield from queries.find(store.keys, ids, queue)
        return [
            cls(job_id, store, where.queue, where.record) if where else None
            for job_id, where in zip(ids, found, strict=True)
        ]

    @classmethod
    def _fetch_steps(cls, store: BaseStore, job_id: str) -> Steps[Self]:
        [job] = yield from cls._find_steps(store, [job_id])
        if job is None:
            raise NoSuchJobError(f"no job has the id {safe_text(job_id)!r}: it never existed, or has expired")
        return job

    def _refresh_steps(self) -> Steps[Record]:
        [found] = yield from queries.find(self._store.keys, [self.id], self.origin)
        if found is None:
            raise NoSuchJobError(f"job {safe_text(self.id)} has no record any more")
        self._renew(found.record)
        return found.record

    def _renew(self, record: Record | None) -> None:
        self._record = record
        self._meta = None

    # --- how it fares -------------------------------------------------------------------------

    def _record_steps(self, refresh: bool = False) -> Steps[Record]:
        if self._record is None or refresh:
            return (yield from self._refresh_steps())
        return self._record

    def _status_steps(self, refresh: bool) -> Steps[JobStatus | str]:
        return (yield from self._record_steps(refresh)).status

    def _position_steps(self) -> Steps[int | None]:
        waiting = yield from queries.locate(self._keys, self.id)
        return waiting.position if waiting else None

    def _meta_steps(self, refresh: bool) -> Steps[dict[str, Any]]:
        yield from self._record_steps(refresh)
        return self.meta

    # --- what it is ---------------------------------------------------------------------------

    def _function_steps(self) -> Steps[str]:
        record = yield from self._record_steps()
        return record.function or (yield from self._envelope_steps()).function

    def _description_steps(self) -> Steps[str]:
        envelope = yield from self._envelope_steps()
        return envelope.options.description or (yield from self._function_steps())

    def _envelope_steps(self) -> Steps[Payload]:
        if self._payload is None:
            if self._raw is None:
                self._raw = yield from queries.find_payload(self._keys, self.id, self._record)
            if self._raw is None:
                raise NoSuchJobError(f"the arguments of job {safe_text(self.id)} were not kept")
            self._payload = payload.decode(self._raw)
        return self._payload

    def _call_steps(self) -> Steps[tuple[tuple[Any, ...], dict[str, Any]]]:
        if self._arguments is None:
            envelope = yield from self._envelope_steps()
            call = self._store.loads(envelope.serializer, envelope.blob, "the arguments")
            if not isinstance(call, (tuple, list)) or len(call) != 3:
                raise DeserializationError(f"the arguments of job {safe_text(self.id)} cannot be read")
            self._arguments = (tuple(call[1]), dict(call[2]))
        return self._arguments

    # --- how it ended -------------------------------------------------------------------------

    def _value_steps(self, refresh: bool) -> Steps[T | None]:
        record = yield from self._record_steps(refresh)
        if record.result is None:
            return None
        value: T = self._store.loads(record.serializer, record.result, "the result")  # type: ignore[assignment]
        return value

    def _error_steps(self) -> Steps[list[Failure]]:
        errors: list[Failure] = yield queries.errors(self._keys, self.id)
        return errors

    def _traceback_steps(self) -> Steps[str | None]:
        errors = yield from self._error_steps()
        return (errors[0].traceback or errors[0].summary) if errors else None

    def _outcome_steps(self, record: Record | None) -> Steps[T]:
        """The result of a job that has ended with this record, or what its waiter is to be told."""
        self._renew(record)
        if record is None:
            raise NoSuchJobError(
                f"job {safe_text(self.id)} has no record: it never existed, was deleted, or has expired"
            )
        if record.status == JobStatus.FINISHED:
            return (yield from self._value_steps(refresh=False))  # type: ignore[return-value]
        if record.status == JobStatus.FAILED:
            raise (yield from self._failure_steps())
        raise JobCanceledError(f"job {safe_text(self.id)} was {record.status}", job_id=self.id)

    def _failure_steps(self) -> Steps[JobFailedError]:
        errors = yield from self._error_steps()
        last = errors[0] if errors else Failure("", "no error is on record")
        function = yield from self._function_steps()
        return JobFailedError(
            f"job {safe_text(self.id)} ({safe_text(function)}) failed: {safe_text(last.summary, 500)}"
            f" (the traceback: exc_info, or minirq job {shell_word(self.id, 'ID')})",
            job_id=self.id,
            exc_type=last.exc_type,
            exc_info=last.traceback,
        )

    # --- what can be done ---------------------------------------------------------------------

    def _save_meta_steps(self) -> Steps[None]:
        record = yield from self._record_steps()
        blob = self._store.dumps(record.serializer, self.meta, "meta")
        if not (yield commands.note(self._keys, self.id, {"meta": blob})):
            raise NoSuchJobError(f"job {safe_text(self.id)} has no record any more")

    def _cancel_steps(self) -> Steps[None]:
        status = yield from queries.cancel(self._keys, self.id)
        if not status:
            raise NoSuchJobError(f"no job has the id {safe_text(self.id)!r}")
        if status in ("finished", "failed", "stopped", "expired"):
            raise InvalidJobOperation(f"job {safe_text(self.id)} cannot be canceled: it is {status} already")

    def _requeue_steps(self, at_front: bool) -> Steps[Self]:
        outcome = yield commands.requeue(self._keys, self.id, at_front=at_front)
        match outcome:
            case "requeued":
                return self
            case "":
                raise NoSuchJobError(f"no job has the id {safe_text(self.id)!r}")
            case "payload":
                raise InvalidJobOperation(
                    f"job {safe_text(self.id)} cannot be requeued: its arguments were not kept"
                )
            case status:
                raise InvalidJobOperation(f"job {safe_text(self.id)} cannot be requeued: it is {status}")

    def _delete_steps(self) -> Steps[None]:
        yield from queries.cancel(self._keys, self.id, keep=False)

    @property
    def _keys(self) -> QueueKeys:
        return self._store.keys.of(self.origin)
