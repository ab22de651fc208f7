"""What a job is and what can be done with it: the definitions that `Job` and `AsyncJob` share.

A job holds an id and a copy of its record; `refresh()` reads the record again. Reading changes nothing and
runs no code of the application.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from minirq.client.steps import operation, question
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

T = TypeVar("T")


class JobBase(Generic[T]):
    """A job's `id`, its `origin` (the queue's name), its record as it was last read, and its operations.

    Times are aware datetimes in UTC, or None while there is none.
    """

    _store: Any

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

    def __repr__(self) -> str:
        return f"<Job {safe_text(self.id)} of {safe_text(self.origin)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobBase) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def _keys(self) -> QueueKeys:
        keys: QueueKeys = self._store.keys.of(self.origin)
        return keys

    @property
    def _known(self) -> Record:
        raise NotImplementedError

    # --- what its record says -----------------------------------------------------------------

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

    # --- reading the record -------------------------------------------------------------------

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
            raise NoSuchJobError.of(job_id)
        return job

    @operation
    def refresh(self) -> Steps[None]:
        """Read the record again. Raises NoSuchJobError if it is gone."""
        yield from self._record_steps(refresh=True)

    def _record_steps(self, refresh: bool = False) -> Steps[Record]:
        if self._record is not None and not refresh:
            return self._record
        [found] = yield from queries.find(self._store.keys, [self.id], self.origin)
        if found is None:
            raise NoSuchJobError.of(self.id)
        self._renew(found.record)
        return found.record

    def _renew(self, record: Record | None) -> None:
        self._record = record
        self._meta = None

    # --- its status ---------------------------------------------------------------------------

    @operation
    def get_status(self, refresh: bool = True) -> Steps[JobStatus | str]:
        """Return the status; with `refresh` as Redis has it now. Raises NoSuchJobError if the job is gone."""
        return (yield from self._record_steps(refresh)).status

    def _is(self, status: JobStatus) -> Steps[bool]:
        return (yield from self._record_steps(refresh=True)).status == status

    @question
    def is_queued(self) -> Steps[bool]:
        """Whether the job is waiting in the queue."""
        return (yield from self._is(JobStatus.QUEUED))

    @question
    def is_started(self) -> Steps[bool]:
        """Whether a worker is running it."""
        return (yield from self._is(JobStatus.STARTED))

    @question
    def is_scheduled(self) -> Steps[bool]:
        """Whether it is waiting for its time: delayed, or between two attempts."""
        return (yield from self._is(JobStatus.SCHEDULED))

    @question
    def is_deferred(self) -> Steps[bool]:
        """Whether it is waiting for other jobs."""
        return (yield from self._is(JobStatus.DEFERRED))

    @question
    def is_finished(self) -> Steps[bool]:
        """Whether it ended with a result."""
        return (yield from self._is(JobStatus.FINISHED))

    @question
    def is_failed(self) -> Steps[bool]:
        """Whether it failed for good."""
        return (yield from self._is(JobStatus.FAILED))

    @question
    def is_canceled(self) -> Steps[bool]:
        """Whether it was canceled."""
        return (yield from self._is(JobStatus.CANCELED))

    @question
    def is_stopped(self) -> Steps[bool]:
        """Whether it was stopped while it was running."""
        return (yield from self._is(JobStatus.STOPPED))

    @question
    def is_expired(self) -> Steps[bool]:
        """Whether its ttl ran out before it was started."""
        return (yield from self._is(JobStatus.EXPIRED))

    @operation
    def get_position(self) -> Steps[int | None]:
        """Return its position in the queue, 0 runs next; None if it is not waiting. Searches the queue."""
        waiting = yield from queries.locate(self._keys, self.id)
        return waiting.position if waiting else None

    # --- its call -----------------------------------------------------------------------------

    @question
    def func_name(self) -> Steps[str]:
        """The dotted name of its function."""
        record = yield from self._record_steps()
        return record.function or (yield from self._payload_steps()).function

    @question
    def args(self) -> Steps[tuple[Any, ...]]:
        """Its positional arguments. While it is waiting in a long queue, reading them may take a search."""
        return (yield from self._call_steps())[0]

    @question
    def kwargs(self) -> Steps[dict[str, Any]]:
        """Its keyword arguments; see `args`."""
        return (yield from self._call_steps())[1]

    @question
    def description(self) -> Steps[str]:
        """The description that it was given, else the function's name."""
        options = (yield from self._payload_steps()).options
        return options.description or (yield from JobBase.func_name.steps(self))

    @question
    def timeout(self) -> Steps[float]:
        """How long a run may take, seconds; -1 is no limit."""
        return (yield from self._payload_steps()).options.timeout

    def _payload_steps(self) -> Steps[Payload]:
        if self._payload is None:
            if self._raw is None:
                self._raw = yield from queries.find_payload(self._keys, self.id, self._record)
            if self._raw is None:
                raise NoSuchJobError(f"the arguments of job {safe_text(self.id)} were not kept")
            self._payload = payload.decode(self._raw)
        return self._payload

    def _call_steps(self) -> Steps[tuple[tuple[Any, ...], dict[str, Any]]]:
        if self._arguments is None:
            found = yield from self._payload_steps()
            call = self._store.loads(found.serializer, found.blob, "the arguments")
            if not isinstance(call, (tuple, list)) or len(call) != 3:
                raise DeserializationError(f"the arguments of job {safe_text(self.id)} cannot be read")
            self._arguments = (tuple(call[1]), dict(call[2]))
        return self._arguments

    # --- its meta -----------------------------------------------------------------------------

    @operation
    def get_meta(self, refresh: bool = True) -> Steps[dict[str, Any]]:
        """Return `meta`, read from Redis again unless `refresh` is False."""
        yield from self._record_steps(refresh)
        return self.meta

    @operation
    def save_meta(self) -> Steps[None]:
        """Write `meta`, so that others see it. Raises NoSuchJobError if the job is gone."""
        record = yield from self._record_steps()
        blob = self._store.dumps(record.serializer, self.meta, "meta")
        if not (yield commands.note(self._keys, self.id, {"meta": blob})):
            raise NoSuchJobError.of(self.id)

    # --- how it ended -------------------------------------------------------------------------

    @operation
    def return_value(self, refresh: bool = True) -> Steps[T | None]:
        """Return the result of a finished job, None before that (and when the result is None)."""
        record = yield from self._record_steps(refresh)
        if record.result is None:
            return None
        value: T = self._store.loads(record.serializer, record.result, "the result")
        return value

    @question
    def result(self) -> Steps[T | None]:
        """The same as `return_value()`."""
        value: T | None = yield from JobBase.return_value.steps(self)
        return value

    @question
    def errors(self) -> Steps[list[Failure]]:
        """The last ten failed attempts and deaths, newest first."""
        errors: list[Failure] = yield queries.errors(self._keys, self.id)
        return errors

    @question
    def exc_info(self) -> Steps[str | None]:
        """The traceback of the last failed attempt, as text; None if none failed."""
        errors = yield from JobBase.errors.steps(self)
        return (errors[0].traceback or errors[0].summary) if errors else None

    def _outcome_steps(self, record: Record | None) -> Steps[T]:
        """Return the result of a job that has ended with this record, or raise what a waiter is told."""
        self._renew(record)
        if record is None:
            raise NoSuchJobError.of(self.id)
        if record.status == JobStatus.FINISHED:
            value: T = yield from JobBase.return_value.steps(self, refresh=False)
            return value
        if record.status != JobStatus.FAILED:
            raise JobCanceledError(f"job {safe_text(self.id)} was {record.status}", job_id=self.id)
        errors = yield from JobBase.errors.steps(self)
        last = errors[0] if errors else Failure("", "no error is on record")
        function = yield from JobBase.func_name.steps(self)
        raise JobFailedError(
            f"job {safe_text(self.id)} ({safe_text(function)}) failed: {safe_text(last.summary, 500)}"
            f" (the traceback: exc_info, or minirq job {shell_word(self.id, 'ID')})",
            job_id=self.id,
            exc_type=last.exc_type,
            exc_info=last.traceback,
        )

    # --- changing it --------------------------------------------------------------------------

    @operation
    def cancel(self) -> Steps[None]:
        """Cancel the job: it will not run (again). A running job is interrupted, soon after this returns.

        A plain function gets `JobInterrupted`, a coroutine is cancelled; a job that goes on all the same is
        killed after the worker's `kill_grace`. A job that returns before that has finished.

        Raises InvalidJobOperation if it has ended, NoSuchJobError.
        """
        status = yield from queries.cancel(self._keys, self.id)
        if not status:
            raise NoSuchJobError.of(self.id)
        if status in ("finished", "failed", "stopped", "expired"):
            raise InvalidJobOperation(f"job {safe_text(self.id)} cannot be canceled: it is {status} already")

    def _requeue_steps(self, at_front: bool) -> Steps[Self]:
        outcome = yield commands.requeue(self._keys, self.id, at_front=at_front)
        if not outcome:
            raise NoSuchJobError.of(self.id)
        if outcome != "requeued":
            reason = "its arguments were not kept" if outcome == "payload" else f"it is {outcome}"
            raise InvalidJobOperation(f"job {safe_text(self.id)} cannot be requeued: {reason}")
        return self

    @operation
    def delete(self) -> Steps[None]:
        """Delete the job and all that is kept of it. A running job is forgotten when it ends."""
        yield from queries.cancel(self._keys, self.id, keep=False)
