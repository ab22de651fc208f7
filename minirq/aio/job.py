"""Jobs for asyncio applications. What can be done with a job is defined in `client/job.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from minirq.aio.store import AsyncStore
from minirq.aio.waiting import wait_for_end
from minirq.client.job import JobBase
from minirq.client.steps import Asyncio
from minirq.exceptions import InvalidJobOperation
from minirq.protocol.record import Record
from minirq.text import safe_text

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["AsyncJob"]

T = TypeVar("T")


class AsyncJob(Asyncio, JobBase[T]):
    """A job in a queue, for asyncio. Made by `AsyncQueue.enqueue` or `AsyncJob.fetch`, not by hand.

    It has the methods of `Job` as coroutines, and also those properties of `Job` that ask Redis:
    `await job.is_finished()`. What the record says stays a property (`meta`, `attempts`, `created_at`, ...);
    after `enqueue`, the record has not been read yet, and such a property raises InvalidJobOperation until it
    is, for example by `await job.refresh()`. `meta` is a dict of the application's own; `save_meta()` writes
    it.

    `fetch`, `fetch_many` and `exists` take a redis.asyncio.Redis. Without one, they and their jobs open
    connections for each operation and close them after it; `AsyncQueue.fetch_job` keeps them open.
    """

    _store: AsyncStore

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

    async def wait(self, timeout: float | None = None) -> T:
        """Wait until the job has ended and return its result. No polling.

        Raises JobFailedError with the remote traceback, JobCanceledError if it was canceled, stopped or
        expired, NoSuchJobError if it was deleted or is no longer kept, TimeoutError after `timeout`
        seconds (None waits for ever).
        """
        return await self._run(
            self._outcome_steps(await wait_for_end(self._store, (self.origin, self.id), timeout))
        )

    async def requeue(self, at_front: bool = False) -> AsyncJob[T]:
        """Run an ended job again; its attempts start from zero. Atomic.

        Raises InvalidJobOperation if it has not ended or its payload was not kept, NoSuchJobError.
        """
        return await self._run(self._requeue_steps(at_front))

    @property
    def _known(self) -> Record:
        if self._record is None:
            raise InvalidJobOperation(
                f"the record of job {safe_text(self.id)} has not been read yet: await job.refresh() before"
            )
        return self._record
