"""Jobs for blocking applications. What can be done with a job is defined in `client/job.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from minirq.client.job import JobBase
from minirq.client.steps import Blocking
from minirq.client.store import Store
from minirq.client.waiting import wait_for_end
from minirq.current import running
from minirq.protocol.record import JobStatus, Record

if TYPE_CHECKING:
    import redis

__all__ = ["Job", "JobStatus", "cancel_job", "get_current_job", "requeue_job"]

T = TypeVar("T")


class Job(Blocking, JobBase[T]):
    """A job in a queue. Made by `Queue.enqueue` or `Job.fetch`, not by hand.

    `meta` is a dict of the application's own; `save_meta()` writes it.
    """

    _store: Store

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

    def wait(self, timeout: float | None = None) -> T:
        """Wait until the job has ended and return its result. No polling.

        Raises JobFailedError with the remote traceback, JobCanceledError if it was canceled, stopped or
        expired, NoSuchJobError if it was deleted or is no longer kept, TimeoutError after `timeout`
        seconds (None waits for ever).
        """
        return self._run(self._outcome_steps(wait_for_end(self._store, (self.origin, self.id), timeout)))

    def requeue(self, at_front: bool = False) -> Job[T]:
        """Run an ended job again; its attempts start from zero. Atomic.

        Raises InvalidJobOperation if it has not ended or its payload was not kept, NoSuchJobError.
        """
        return self._run(self._requeue_steps(at_front))

    @property
    def _known(self) -> Record:
        return self._run(self._record_steps())


def get_current_job() -> Job[Any] | None:
    """Return the job that is running this code, None outside of jobs."""
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
