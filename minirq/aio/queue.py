"""Queues for asyncio applications. What can be done with a queue is defined in `client/queue.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, TypeVar

from minirq.aio.job import AsyncJob
from minirq.aio.store import AsyncStore
from minirq.aio.waiting import wait_for_ends
from minirq.client.queue import QueueBase, by_place
from minirq.client.steps import Asyncio
from minirq.durations import Duration
from minirq.protocol import queries
from minirq.protocol.submission import OnWorkerLost
from minirq.protocol.waiting import Place

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from minirq.aio.typing import AsyncEnqueue

__all__ = ["AsyncQueue"]

T = TypeVar("T")


class AsyncQueue(Asyncio, QueueBase[AsyncJob[Any]]):
    """A named queue, for asyncio.

    It has the methods of `Queue` as coroutines, and also those properties of `Queue` that ask Redis:
    `await queue.count()`. Instead of `len` and `for` there are `count()` and `async for`.

    `connection` is a redis.asyncio.Redis, a URL, or None: the configuration decides, and without one the
    embedded server is used. The other arguments are those of `Queue`. Nothing connects before the first
    call. `async with` or `close()` closes the connections; of a client that was given, only the connections
    that waits have opened.

    All calls go over one connection, those of concurrent tasks together; each wait has one of its own. A
    queue is used in one event loop at a time, and with a URL in one after the other.
    """

    _job_class = AsyncJob
    _store: AsyncStore

    def __init__(
        self,
        name: str = "default",
        connection: Redis | str | None = None,
        default_timeout: Duration | None = None,
        *,
        serializer: str | None = None,
        namespace: str | None = None,
        on_worker_lost: OnWorkerLost | None = None,
        patience: Duration | None = None,
    ) -> None:
        store = AsyncStore(connection, namespace, serializer, patience)
        super().__init__(name, store, default_timeout, on_worker_lost)

    @property
    def connection(self) -> Redis:
        """The client in use; asking for it connects nothing yet."""
        return self._store.client

    @classmethod
    async def all(
        cls, connection: Redis | str | None = None, *, namespace: str | None = None
    ) -> list[AsyncQueue]:
        """Return all queues ever used, by name."""
        store = AsyncStore(connection, namespace, is_fleeting=True)
        names = await store.send(queries.queue_names(store.keys))
        return [cls(name, connection, namespace=namespace) for name in names]

    async def close(self) -> None:
        """Close the connections that the queue has opened, after the calls under way.

        The next call opens new ones. Waits that are under way end with ServerUnavailable: cancel them before.
        """
        await self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    if TYPE_CHECKING:
        enqueue: AsyncEnqueue

    async def __aiter__(self) -> AsyncIterator[AsyncJob[Any]]:
        for job in await self.jobs():
            yield job

    async def as_completed(
        self, jobs: Iterable[AsyncJob[T]], timeout: float | None = None
    ) -> AsyncGenerator[AsyncJob[T], None]:
        """Yield jobs as they end, of this queue or others in the same Redis, each with its record read.

        Its status says how a job ended, and `wait()` returns or raises at once. Jobs that are deleted or no
        longer kept are yielded too, and their `wait()` raises NoSuchJobError. No polling; one connection for
        all jobs. Raises TimeoutError after `timeout` seconds (None waits for ever).
        """
        places = by_place(jobs)
        async with aclosing(wait_for_ends(self._store, places, timeout)) as ends:
            async for ended in ends:
                for job in places[ended.place]:
                    job._renew(ended.record)
                    yield job

    async def wait_many(self, jobs: Iterable[AsyncJob[T]], timeout: float | None = None) -> list[T]:
        """Wait until all these jobs have ended and return their results, in the order of the jobs.

        Raises what `Job.wait` raises for the first job that ends without a result, at once: the others go
        on. Raises TimeoutError after `timeout` seconds (None waits for ever). See `as_completed`.
        """
        jobs = list(jobs)
        results: dict[Place, T] = {}
        async with aclosing(self.as_completed(jobs, timeout)) as ended:
            async for job in ended:
                results[job.origin, job.id] = await self._run(job._outcome_steps(job._record))
        return [results[job.origin, job.id] for job in jobs]
