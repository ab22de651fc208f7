"""A job as the application sees it: what it is, how it fares, and what can be done about it.

A Job holds an id and a copy of the record; `refresh()` reads it anew. Reading changes nothing and
runs no code of the application.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from minirq.client.job import JobBase
from minirq.client.store import Store
from minirq.client.waiting import wait_for_end
from minirq.current import running
from minirq.protocol.queries import Steps
from minirq.protocol.record import Failure, JobStatus, Record

if TYPE_CHECKING:
    import redis

__all__ = ["Job", "JobStatus", "cancel_job", "get_current_job", "requeue_job"]

T = TypeVar("T")
R = TypeVar("R")


class Job(JobBase[T]):
    """A job in a queue. Made by `Queue.enqueue` or `Job.fetch`, not by hand.

    `meta` is a dict of the application's own; `save_meta()` writes it.
    """

    _store: Store

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
        store = Store(connection, namespace, serializer)
        return store.sender.run(cls._fetch_steps(store, id))

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
        store = Store(connection, namespace, serializer)
        return [*store.sender.run(cls._find_steps(store, list(ids)))]

    @classmethod
    def exists(
        cls, id: str, connection: redis.Redis | str | None = None, *, namespace: str | None = None
    ) -> bool:
        """Whether a job with this id has a record."""
        return cls.fetch_many([id], connection, namespace=namespace)[0] is not None

    def refresh(self) -> None:
        """Read the record anew. Raises NoSuchJobError if it is gone."""
        self._run(self._refresh_steps())

    # --- how it fares -------------------------------------------------------------------------

    def get_status(self, refresh: bool = True) -> JobStatus | str:
        """Return the status; with `refresh` as Redis has it now. Raises NoSuchJobError if the job is gone."""
        return self._run(self._status_steps(refresh))

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
        return self._run(self._position_steps())

    # --- what it is ---------------------------------------------------------------------------

    @property
    def func_name(self) -> str:
        """The dotted name of its function."""
        return self._run(self._function_steps())

    @property
    def args(self) -> tuple[Any, ...]:
        """Its positional arguments. While it waits in a long queue, reading them may take a search."""
        return self._run(self._call_steps())[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """Its keyword arguments; see `args`."""
        return self._run(self._call_steps())[1]

    @property
    def description(self) -> str:
        """The description that it was given, else the function's name."""
        return self._run(self._description_steps())

    @property
    def timeout(self) -> float:
        """How long a run may take, seconds; -1 is no limit."""
        return self._run(self._envelope_steps()).options.timeout

    # --- meta ---------------------------------------------------------------------------------

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        """Return `meta`, read anew unless told otherwise."""
        return self._run(self._meta_steps(refresh))

    def save_meta(self) -> None:
        """Write `meta`, so that others see it. Raises NoSuchJobError if the job is gone."""
        self._run(self._save_meta_steps())

    # --- how it ended -------------------------------------------------------------------------

    def return_value(self, refresh: bool = True) -> T | None:
        """Return the result of a finished job, None before that (and when the result is None)."""
        return self._run(self._value_steps(refresh))

    @property
    def result(self) -> T | None:
        """The same as `return_value()`."""
        return self.return_value()

    @property
    def errors(self) -> list[Failure]:
        """The last ten failed attempts and deaths, newest first."""
        return self._run(self._error_steps())

    @property
    def exc_info(self) -> str | None:
        """The traceback of the last failed attempt, as text; None if none failed."""
        return self._run(self._traceback_steps())

    def wait(self, timeout: float | None = None) -> T:
        """Wait until the job has ended and return its result. No polling.

        Raises JobFailedError with the remote traceback, JobCanceledError if it was canceled, stopped or
        expired, NoSuchJobError if it was deleted or is not kept any more, TimeoutError after `timeout`
        seconds (None waits for ever).
        """
        return self._run(self._outcome_steps(wait_for_end(self._store, (self.origin, self.id), timeout)))

    # --- what can be done ---------------------------------------------------------------------

    def cancel(self) -> None:
        """See to it that the job does not run (again). One that runs is interrupted, soon after this returns.

        A plain function gets `JobInterrupted`, a coroutine is cancelled; what goes on all the same is killed
        after the worker's `kill_grace`. If it returns before that it has finished.

        Raises InvalidJobOperation if it has ended, NoSuchJobError.
        """
        self._run(self._cancel_steps())

    def requeue(self, at_front: bool = False) -> Job[T]:
        """Run an ended job again; its attempts start from zero. Atomic.

        Raises InvalidJobOperation if it has not ended or its payload was not kept, NoSuchJobError.
        """
        return self._run(self._requeue_steps(at_front))

    def delete(self) -> None:
        """Delete the job and all that is kept of it. One that runs is forgotten when it ends."""
        self._run(self._delete_steps())

    # --- inside -------------------------------------------------------------------------------

    def _run(self, steps: Steps[R]) -> R:
        return self._store.sender.run(steps)

    @property
    def _known(self) -> Record:
        return self._run(self._record_steps())


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
