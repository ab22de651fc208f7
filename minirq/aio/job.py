"""A job as an asyncio application sees it: the twin of `minirq.job`, over the same steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from minirq.aio.store import AsyncStore
from minirq.aio.waiting import wait_for_end
from minirq.client.job import JobBase
from minirq.exceptions import InvalidJobOperation
from minirq.protocol.queries import Steps
from minirq.protocol.record import Failure, JobStatus, Record
from minirq.text import safe_text

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["AsyncJob"]

T = TypeVar("T")
R = TypeVar("R")


class AsyncJob(JobBase[T]):
    """A job in a queue, for asyncio. Made by `AsyncQueue.enqueue` or `AsyncJob.fetch`, not by hand.

    It has the methods of `Job` as coroutines, and so it has those properties of `Job` that ask Redis:
    `await job.is_finished()`. What the record says stays a property (`meta`, `attempts`, `created_at`, ...);
    after `enqueue` there is no record yet, and such a property raises InvalidJobOperation until one was read,
    as by `await job.refresh()`. `meta` is a dict of the application's own; `save_meta()` writes it.

    `fetch`, `fetch_many` and `exists` take a redis.asyncio.Redis. Without one they open connections, which
    are closed after each operation of theirs and of the jobs: `AsyncQueue.fetch_job` keeps them.
    """

    _store: AsyncStore

    # --- finding jobs -------------------------------------------------------------------------

    @classmethod
    async def fetch(
        cls,
        id: str,
        connection: Redis | str | None = None,
        serializer: str | None = None,
        *,
        namespace: str | None = None,
    ) -> AsyncJob[Any]:
        """Return the job with this id, whichever queue it is in. Raises NoSuchJobError.

        `serializer` is needed only to read what was written with pickle.
        """
        store = AsyncStore(connection, namespace, serializer, is_fleeting=True)
        return await store.run(cls._fetch_steps(store, id))

    @classmethod
    async def fetch_many(
        cls,
        ids: Iterable[str],
        connection: Redis | str | None = None,
        serializer: str | None = None,
        *,
        namespace: str | None = None,
    ) -> list[AsyncJob[Any] | None]:
        """Return the jobs with these ids in order, None for those that do not exist. Two round trips."""
        store = AsyncStore(connection, namespace, serializer, is_fleeting=True)
        return [*await store.run(cls._find_steps(store, list(ids)))]

    @classmethod
    async def exists(
        cls, id: str, connection: Redis | str | None = None, *, namespace: str | None = None
    ) -> bool:
        """Whether a job with this id has a record."""
        return (await cls.fetch_many([id], connection, namespace=namespace))[0] is not None

    async def refresh(self) -> None:
        """Read the record anew. Raises NoSuchJobError if it is gone."""
        await self._run(self._refresh_steps())

    # --- how it fares -------------------------------------------------------------------------

    async def get_status(self, refresh: bool = True) -> JobStatus | str:
        """Return the status; with `refresh` as Redis has it now. Raises NoSuchJobError if the job is gone."""
        return await self._run(self._status_steps(refresh))

    async def is_queued(self) -> bool:
        """Whether the job waits to be run."""
        return await self.get_status() == JobStatus.QUEUED

    async def is_started(self) -> bool:
        """Whether a worker is running it."""
        return await self.get_status() == JobStatus.STARTED

    async def is_scheduled(self) -> bool:
        """Whether it waits for its time: delayed, or between two attempts."""
        return await self.get_status() == JobStatus.SCHEDULED

    async def is_deferred(self) -> bool:
        """Whether it waits for other jobs."""
        return await self.get_status() == JobStatus.DEFERRED

    async def is_finished(self) -> bool:
        """Whether it ended with a result."""
        return await self.get_status() == JobStatus.FINISHED

    async def is_failed(self) -> bool:
        """Whether it failed for good."""
        return await self.get_status() == JobStatus.FAILED

    async def is_canceled(self) -> bool:
        """Whether it was canceled."""
        return await self.get_status() == JobStatus.CANCELED

    async def is_stopped(self) -> bool:
        """Whether it was stopped while it ran."""
        return await self.get_status() == JobStatus.STOPPED

    async def is_expired(self) -> bool:
        """Whether its ttl ran out before it was started."""
        return await self.get_status() == JobStatus.EXPIRED

    async def get_position(self) -> int | None:
        """Return its place in the waiting list, 0 runs next; None if it does not wait. Searches the list."""
        return await self._run(self._position_steps())

    # --- what it is ---------------------------------------------------------------------------

    async def func_name(self) -> str:
        """The dotted name of its function."""
        return await self._run(self._function_steps())

    async def args(self) -> tuple[Any, ...]:
        """Its positional arguments. While it waits in a long queue, reading them may take a search."""
        return (await self._run(self._call_steps()))[0]

    async def kwargs(self) -> dict[str, Any]:
        """Its keyword arguments; see `args`."""
        return (await self._run(self._call_steps()))[1]

    async def description(self) -> str:
        """The description that it was given, else the function's name."""
        return await self._run(self._description_steps())

    async def timeout(self) -> float:
        """How long a run may take, seconds; -1 is no limit."""
        return (await self._run(self._envelope_steps())).options.timeout

    # --- meta ---------------------------------------------------------------------------------

    async def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        """Return `meta`, read anew unless told otherwise."""
        return await self._run(self._meta_steps(refresh))

    async def save_meta(self) -> None:
        """Write `meta`, so that others see it. Raises NoSuchJobError if the job is gone."""
        await self._run(self._save_meta_steps())

    # --- how it ended -------------------------------------------------------------------------

    async def return_value(self, refresh: bool = True) -> T | None:
        """Return the result of a finished job, None before that (and when the result is None)."""
        return await self._run(self._value_steps(refresh))

    async def result(self) -> T | None:
        """The same as `return_value()`."""
        return await self.return_value()

    async def errors(self) -> list[Failure]:
        """The last ten failed attempts and deaths, newest first."""
        return await self._run(self._error_steps())

    async def exc_info(self) -> str | None:
        """The traceback of the last failed attempt, as text; None if none failed."""
        return await self._run(self._traceback_steps())

    async def wait(self, timeout: float | None = None) -> T:
        """Wait until the job has ended and return its result. No polling.

        Raises JobFailedError with the remote traceback, JobCanceledError if it was canceled, stopped or
        expired, NoSuchJobError if it was deleted or is not kept any more, TimeoutError after `timeout`
        seconds (None waits for ever).
        """
        return await self._run(
            self._outcome_steps(await wait_for_end(self._store, (self.origin, self.id), timeout))
        )

    # --- what can be done ---------------------------------------------------------------------

    async def cancel(self) -> None:
        """See to it that the job does not run (again). One that runs is interrupted, soon after this returns.

        A plain function gets `JobInterrupted`, a coroutine is cancelled; what goes on all the same is killed
        after the worker's `kill_grace`. If it returns before that it has finished.

        Raises InvalidJobOperation if it has ended, NoSuchJobError.
        """
        await self._run(self._cancel_steps())

    async def requeue(self, at_front: bool = False) -> AsyncJob[T]:
        """Run an ended job again; its attempts start from zero. Atomic.

        Raises InvalidJobOperation if it has not ended or its payload was not kept, NoSuchJobError.
        """
        return await self._run(self._requeue_steps(at_front))

    async def delete(self) -> None:
        """Delete the job and all that is kept of it. One that runs is forgotten when it ends."""
        await self._run(self._delete_steps())

    # --- inside -------------------------------------------------------------------------------

    async def _run(self, steps: Steps[R]) -> R:
        return await self._store.run(steps)

    @property
    def _known(self) -> Record:
        if self._record is None:
            raise InvalidJobOperation(
                f"the record of job {safe_text(self.id)} has not been read yet: await job.refresh() before"
            )
        return self._record
