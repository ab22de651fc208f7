"""A job as the application sees it: what it is, how it fares, and what can be done about it.

A Job holds an id and a copy of the record; `refresh()` reads it anew. Reading changes nothing and
runs no code of the application.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from minirq.current import running
from minirq.exceptions import (
    DeserializationError,
    InvalidJobOperation,
    JobCanceledError,
    JobFailedError,
    NoSuchJobError,
)
from minirq.facts import Facts
from minirq.protocol import operations, payload, procedures, reads
from minirq.protocol.failure import Failure
from minirq.protocol.payload import Payload
from minirq.protocol.record import Record
from minirq.protocol.states import JobStatus
from minirq.store import Store
from minirq.text import safe_text
from minirq.waiting import wait_for_end

if TYPE_CHECKING:
    import redis

__all__ = ["Job", "JobStatus", "cancel_job", "get_current_job", "requeue_job"]

T = TypeVar("T")


class Job(Facts, Generic[T]):
    """A job in a queue. Made by `Queue.enqueue` or `Job.fetch`, not by hand.

    `meta` is a dict of the application's own; `save_meta()` writes it.
    """

    # --- finding jobs -------------------------------------------------------------------------

    @classmethod
    def fetch(
        cls,
        id: str,
        connection: redis.Redis | str | None = None,
        serializer: str | None = None,
        *,
        namespace: str | None = None,
    ) -> Job[Any]:
        """Return the job with this id, whichever queue it is in. Raises NoSuchJobError.

        `serializer` is needed only to read what was written with pickle.
        """
        [job] = cls.fetch_many([id], connection, serializer, namespace=namespace)
        if job is None:
            raise NoSuchJobError(f"no job has the id {safe_text(id)!r}: it never existed, or has expired")
        return job

    @classmethod
    def fetch_many(
        cls,
        ids: Iterable[str],
        connection: redis.Redis | str | None = None,
        serializer: str | None = None,
        *,
        namespace: str | None = None,
    ) -> list[Job[Any] | None]:
        """Return the jobs with these ids in order, None for those that do not exist. Two round trips."""
        return fetch_from(Store(connection, namespace, serializer), list(ids))

    @classmethod
    def exists(
        cls, id: str, connection: redis.Redis | str | None = None, *, namespace: str | None = None
    ) -> bool:
        """Whether a job with this id has a record."""
        return cls.fetch_many([id], connection, namespace=namespace)[0] is not None

    def refresh(self) -> None:
        """Read the record anew. Raises NoSuchJobError if it is gone."""
        [found] = self._store.sender.run(procedures.find(self._store.keys, [self.id], self.origin))
        if found is None:
            raise NoSuchJobError(f"job {safe_text(self.id)} has no record any more")
        self._record = found.record
        self._meta = None

    # --- how it fares -------------------------------------------------------------------------

    def get_status(self, refresh: bool = True) -> JobStatus | str:
        """Return the status; with `refresh` as Redis has it now. Raises NoSuchJobError if the job is gone."""
        if refresh:
            self.refresh()
        return self._known.status

    @property
    def is_queued(self) -> bool:
        """Whether the job waits to be run."""
        return self.get_status() == JobStatus.QUEUED

    @property
    def is_started(self) -> bool:
        """Whether a worker is running it."""
        return self.get_status() == JobStatus.STARTED

    @property
    def is_scheduled(self) -> bool:
        """Whether it waits for its time: delayed, or between two attempts."""
        return self.get_status() == JobStatus.SCHEDULED

    @property
    def is_deferred(self) -> bool:
        """Whether it waits for other jobs."""
        return self.get_status() == JobStatus.DEFERRED

    @property
    def is_finished(self) -> bool:
        """Whether it ended with a result."""
        return self.get_status() == JobStatus.FINISHED

    @property
    def is_failed(self) -> bool:
        """Whether it failed for good."""
        return self.get_status() == JobStatus.FAILED

    @property
    def is_canceled(self) -> bool:
        """Whether it was canceled."""
        return self.get_status() == JobStatus.CANCELED

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped while it ran."""
        return self.get_status() == JobStatus.STOPPED

    @property
    def is_expired(self) -> bool:
        """Whether its ttl ran out before it was started."""
        return self.get_status() == JobStatus.EXPIRED

    def get_position(self) -> int | None:
        """Return its place in the waiting list, 0 runs next; None if it does not wait. Searches the list."""
        waiting = self._store.sender.run(procedures.locate(self._keys, self.id))
        return waiting.position if waiting else None

    # --- what it is ---------------------------------------------------------------------------

    @property
    def func_name(self) -> str:
        """The dotted name of its function."""
        return self._known.function or self._envelope.function

    @property
    def args(self) -> tuple[Any, ...]:
        """Its positional arguments. While it waits in a long queue, reading them may take a search."""
        return self._call[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """Its keyword arguments; see `args`."""
        return self._call[1]

    @property
    def description(self) -> str:
        """The description that it was given, else the function's name."""
        return self._envelope.options.description or self.func_name

    @property
    def timeout(self) -> float:
        """How long a run may take, seconds; -1 is no limit."""
        return self._envelope.options.timeout

    # --- meta ---------------------------------------------------------------------------------

    @property
    def meta(self) -> dict[str, Any]:
        """A dict of the application's own, as it was when the record was read."""
        if self._meta is None:
            raw = self._known.meta
            value = self._store.serializer_named(self._known.serializer).loads(raw) if raw else {}
            self._meta = value if isinstance(value, dict) else {}
        return self._meta

    @meta.setter
    def meta(self, value: dict[str, Any]) -> None:
        self._meta = value

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        """Return `meta`, read anew unless told otherwise."""
        if refresh:
            self.refresh()
        return self.meta

    def save_meta(self) -> None:
        """Write `meta`, so that others see it. Raises NoSuchJobError if the job is gone."""
        blob = self._store.serializer_named(self._known.serializer).dumps(self.meta, "meta")
        if not self._store.sender.send(operations.note(self._keys, self.id, {"meta": blob})):
            raise NoSuchJobError(f"job {safe_text(self.id)} has no record any more")

    # --- how it ended -------------------------------------------------------------------------

    def return_value(self, refresh: bool = True) -> T | None:
        """Return the result of a finished job, None before that (and when the result is None)."""
        if refresh:
            self.refresh()
        if self._known.result is None:
            return None
        value: T = self._store.serializer_named(self._known.serializer).loads(self._known.result)  # type: ignore[assignment]
        return value

    @property
    def result(self) -> T | None:
        """The same as `return_value()`."""
        return self.return_value()

    @property
    def errors(self) -> list[Failure]:
        """The last ten failed attempts and deaths, newest first."""
        return self._store.sender.send(reads.errors(self._keys, self.id))

    @property
    def exc_info(self) -> str | None:
        """The traceback of the last failed attempt, as text; None if none failed."""
        errors = self.errors
        return (errors[0].traceback or errors[0].summary) if errors else None

    def wait(self, timeout: float | None = None) -> T:
        """Wait until the job has ended and return its result. No polling.

        Raises JobFailedError with the remote traceback, JobCanceledError if it was canceled, stopped,
        deleted or expired, TimeoutError after `timeout` seconds (None waits for ever), NoSuchJobError.
        """
        status = wait_for_end(self._store, self.origin, self.id, timeout)
        self.refresh()
        if status == JobStatus.FINISHED:
            return self.return_value(refresh=False)  # type: ignore[return-value]
        if status == JobStatus.FAILED:
            raise self._failure()
        raise JobCanceledError(f"job {self.id} was {status}", job_id=self.id)

    def _failure(self) -> JobFailedError:
        errors = self.errors
        last = errors[0] if errors else Failure("", "no error is on record")
        return JobFailedError(
            f"job {self.id} ({self.func_name}) failed: {last.summary}\n{last.traceback}".rstrip(),
            job_id=self.id,
            exc_type=last.exc_type,
            exc_info=last.traceback,
        )

    # --- what can be done ---------------------------------------------------------------------

    def cancel(self) -> None:
        """See to it that the job does not run (again). One that runs is interrupted, soon after this returns.

        A plain function gets `JobInterrupted`, a coroutine is cancelled; what goes on all the same is killed
        after the worker's `kill_grace`. If it returns before that it has finished.

        Raises InvalidJobOperation if it has ended, NoSuchJobError.
        """
        status = self._store.sender.run(procedures.cancel(self._keys, self.id))
        if not status:
            raise NoSuchJobError(f"no job has the id {safe_text(self.id)!r}")
        if status in ("finished", "failed", "stopped", "expired"):
            raise InvalidJobOperation(f"job {safe_text(self.id)} cannot be canceled: it is {status} already")

    def requeue(self, at_front: bool = False) -> Job[T]:
        """Run an ended job again; its attempts start from zero. Atomic.

        Raises InvalidJobOperation if it has not ended or its payload was not kept, NoSuchJobError.
        """
        outcome = self._store.sender.send(operations.requeue(self._keys, self.id, at_front=at_front))
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

    def delete(self) -> None:
        """Delete the job and all that is kept of it. One that runs is forgotten when it ends."""
        self._store.sender.run(procedures.cancel(self._keys, self.id, keep=False))

    # --- inside -------------------------------------------------------------------------------

    @property
    def _keys(self) -> Any:
        return self._store.keys.of(self.origin)

    @property
    def _known(self) -> Record:
        if self._record is None:
            self.refresh()
        assert self._record is not None
        return self._record

    @property
    def _envelope(self) -> Payload:
        if self._payload is None:
            if self._raw is None:
                self._raw = self._store.sender.run(procedures.find_payload(self._keys, self.id, self._record))
            if self._raw is None:
                raise NoSuchJobError(f"the arguments of job {safe_text(self.id)} were not kept")
            self._payload = payload.decode(self._raw)
        return self._payload

    @property
    def _call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._arguments is None:
            call = self._store.serializer_named(self._envelope.serializer).loads(self._envelope.blob)
            if not isinstance(call, (tuple, list)) or len(call) != 3:
                raise DeserializationError(f"the arguments of job {safe_text(self.id)} cannot be read")
            self._arguments = (tuple(call[1]), dict(call[2]))
        return self._arguments


def fetch_from(store: Store, ids: list[str], queue: str | None = None) -> list[Job[Any] | None]:
    """Return the jobs with these ids, from one queue or any, None for those that do not exist."""
    found = store.sender.run(procedures.find(store.keys, ids, queue))
    return [
        Job(job_id, store, where.queue, where.record) if where else None
        for job_id, where in zip(ids, found, strict=True)
    ]


def get_current_job() -> Job[Any] | None:
    """Return the job that this code runs in, None outside of jobs."""
    now = running.get()
    if now is None:
        return None
    return Job(now.id, Store(now.connection, now.namespace, now.serializer), now.queue, raw=now.payload)


def cancel_job(job_id: str, connection: redis.Redis | str | None = None) -> None:
    """Cancel the job with this id; see `Job.cancel`."""
    Job.fetch(job_id, connection).cancel()


def requeue_job(job_id: str, connection: redis.Redis | str | None = None) -> Job[Any]:
    """Requeue the job with this id; see `Job.requeue`."""
    return Job.fetch(job_id, connection).requeue()
