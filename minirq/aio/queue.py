"""A queue as an asyncio application sees it: the twin of `minirq.queue`, over the same steps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from minirq.aio.job import AsyncJob
from minirq.aio.store import AsyncStore
from minirq.aio.waiting import wait_for_ends
from minirq.client.queue import EnqueueCall, QueueBase, by_place
from minirq.durations import Duration
from minirq.exceptions import ServerUnavailable
from minirq.protocol import queries
from minirq.protocol.commands import NewJob
from minirq.protocol.queries import Steps
from minirq.protocol.submission import Function, OnWorkerLost, Submission, at_time, delayed
from minirq.protocol.waiting import Place
from minirq.queue import EnqueueData, Queue
from minirq.retry import Retry

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from minirq.aio.typing import AsyncEnqueue

__all__ = ["AsyncQueue"]

T = TypeVar("T")
R = TypeVar("R")


class AsyncQueue(QueueBase[AsyncJob[Any]]):
    """A named queue, for asyncio.

    It has the methods of `Queue` as coroutines, and so it has the properties of `Queue` that ask Redis:
    `await queue.count()`. Instead of `len` and `for` there are `count()` and `async for`.

    `connection` is a redis.asyncio.Redis, a URL, or None: the configuration decides, and without one the
    embedded server is used. The other arguments are those of `Queue`. Nothing connects before the first
    call. `async with` or `close()` closes the connections; a client that was given stays open but for the
    connections that waits have opened.

    All calls go over one connection, those of concurrent tasks together; each wait has one of its own. A
    queue is used in one event loop at a time, and with a URL in one after the other.
    """

    _job_class = AsyncJob

    def __init__(
        self,
        name: str = "default",
        connection: Redis | str | None = None,
        default_timeout: Duration | None = None,
        *,
        serializer: str | None = None,
        namespace: str | None = None,
        on_worker_lost: OnWorkerLost | None = None,
        batch: bool | None = None,
        patience: Duration | None = None,
    ) -> None:
        self._store = AsyncStore(connection, namespace, serializer, patience)
        super().__init__(name, self._store, default_timeout, on_worker_lost, batch)

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
        """Close the connections that the queue has opened, after what is under way.

        The next call opens new ones. Waits that are under way end with ServerUnavailable: cancel them before.
        """
        await self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- putting jobs in ----------------------------------------------------------------------

    if TYPE_CHECKING:
        enqueue: AsyncEnqueue
    else:

        async def enqueue(self, f: Function, *args: Any, **kwargs: Any) -> AsyncJob[Any]:
            """Enqueue a call of `f`, a function or its dotted name, and return its job.

            These keywords are minirq's, all others are the function's: `job_timeout` (seconds, or text such
            as "10m"; 180; -1 no limit), `result_ttl` (500 s; 0 keeps nothing, -1 for ever), `ttl` (none: not
            started by then, the job has expired), `failure_ttl` (30 days), `job_id`, `description`,
            `at_front`, `meta`, `retry` (a Retry), `on_worker_lost` ("retry": when its process dies it is run
            again, up to 2 times; "fail": it fails at once; or how many times), and `args=` with `kwargs=`
            for arguments that collide.

            When it returns, the job is in Redis exactly once. A `job_id` that lives already is left alone
            and returned; one that has ended starts anew.

            Raises UnnamedFunction, SerializationError, InvalidOption (nothing was sent), QueueFull,
            ServerUnavailable (the job may or may not be there: `error.again()` sends the same call again, and
            it acts once), InvalidJobOperation (the job of this `job_id` is about to end or to vanish).
            """
            return await self._enqueue(self._job(Submission.of_call(f, args, kwargs)))

    async def enqueue_call(
        self,
        func: Function,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        result_ttl: Duration | None = None,
        ttl: Duration | None = None,
        failure_ttl: Duration | None = None,
        description: str | None = None,
        job_id: str | None = None,
        at_front: bool = False,
        meta: Mapping[str, Any] | None = None,
        retry: Retry | None = None,
        on_worker_lost: OnWorkerLost | None = None,
    ) -> AsyncJob[Any]:
        """Enqueue a call with everything named; see `enqueue`."""
        return await self._enqueue(
            self._job(
                self.prepare_data(
                    func,
                    args,
                    kwargs,
                    timeout,
                    result_ttl,
                    ttl,
                    failure_ttl,
                    description,
                    job_id,
                    at_front,
                    meta,
                    retry,
                    on_worker_lost,
                )
            )
        )

    async def enqueue_in(
        self, time_delta: Duration, func: Function, *args: Any, **kwargs: Any
    ) -> AsyncJob[Any]:
        """Enqueue a call after a delay, which Redis counts. Never early. Keywords as in `enqueue`."""
        return await self._enqueue(delayed(self._job(Submission.of_call(func, args, kwargs)), time_delta))

    async def enqueue_at(self, datetime: datetime, f: Function, *args: Any, **kwargs: Any) -> AsyncJob[Any]:
        """Enqueue a call at a time of Redis' clock; a naive datetime is local. Keywords as in `enqueue`."""
        return await self._enqueue(at_time(self._job(Submission.of_call(f, args, kwargs)), datetime))

    prepare_data = staticmethod(Queue.prepare_data)

    async def enqueue_many(self, job_datas: Iterable[EnqueueData]) -> list[AsyncJob[Any]]:
        """Enqueue many calls and return their jobs in the same order.

        One script call for up to 1,000 jobs or 4 MiB: each such batch is enqueued whole or not at all.
        """
        jobs: list[AsyncJob[Any]] = await self._send(self._enqueue_all(job_datas))
        return jobs

    async def _enqueue(self, job: NewJob) -> AsyncJob[Any]:
        try:
            return (await self._run(self._enqueue_steps([job])))[0]
        except ServerUnavailable as error:
            call = EnqueueCall(self, [[job]], is_single=True)
            call.note(error, lambda: self._send(call))
            raise

    async def _send(self, call: EnqueueCall[AsyncJob[Any]]) -> Any:
        try:
            return await self._run(call.steps())
        except ServerUnavailable as error:
            call.note(error, lambda: self._send(call))
            raise

    # --- looking at it ------------------------------------------------------------------------

    async def count(self) -> int:
        """How many payloads wait."""
        return await self._store.send(queries.count(self._keys))

    async def is_empty(self) -> bool:
        """Whether nothing waits."""
        return await self.count() == 0

    async def job_ids(self) -> list[str]:
        """The ids of the waiting jobs, the one that runs next in front."""
        return await self.get_job_ids()

    async def get_job_ids(self, offset: int = 0, length: int = -1) -> list[str]:
        """Return ids of waiting jobs from `offset` on (0 runs next); -1 is all."""
        return await self._run(self._id_steps(offset, length))

    async def jobs(self) -> list[AsyncJob[Any]]:
        """The waiting jobs, the one that runs next in front."""
        return await self.get_jobs()

    async def get_jobs(self, offset: int = 0, length: int = -1) -> list[AsyncJob[Any]]:
        """Return waiting jobs from `offset` on (0 runs next); -1 is all. Two round trips."""
        return await self._run(self._jobs_steps(offset, length))

    async def __aiter__(self) -> AsyncIterator[AsyncJob[Any]]:
        for job in await self.get_jobs():
            yield job

    async def fetch_job(self, job_id: str) -> AsyncJob[Any] | None:
        """Return a job of this queue by its id, in whatever state; None if there is none."""
        return await self._run(self._fetch_steps(job_id))

    async def get_job_position(self, job_or_id: AsyncJob[Any] | str) -> int | None:
        """Return a job's place in the waiting list, 0 runs next; None if it does not wait. Searches."""
        return await self._run(self._position_steps(job_or_id))

    # --- pausing it ---------------------------------------------------------------------------

    async def pause(self, duration: Duration | None = None) -> None:
        """Have the queue hand out no more jobs: for `duration`, or without one until `resume`.

        Jobs that workers hold by then go on: those that run, and short ones claimed with them in a batch.
        Enqueueing, delays and retries go on too.
        """
        await self._run(self._pause_steps(duration))

    async def resume(self) -> None:
        """Have the queue hand out jobs again. Workers that wait are woken."""
        await self._run(self._resume_steps())

    async def is_paused(self) -> bool:
        """Whether the queue hands out no jobs at the moment."""
        return await self._run(self._paused_steps())

    # --- waiting for jobs ---------------------------------------------------------------------

    async def as_completed(
        self, jobs: Iterable[AsyncJob[T]], timeout: float | None = None
    ) -> AsyncIterator[AsyncJob[T]]:
        """Yield jobs as they end, of this queue or others in the same Redis, each with its record read.

        However it ended: ask the job, or call its `wait()`, which returns or raises at once. One that is
        deleted, or not kept any more, is yielded too, and its `wait()` raises NoSuchJobError. No polling;
        one connection for all jobs. Raises TimeoutError after `timeout` seconds (None waits for ever).
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
        places = by_place(jobs := list(jobs))
        results: dict[Place, T] = {}
        async with aclosing(wait_for_ends(self._store, places, timeout)) as ends:
            async for ended in ends:
                steps = places[ended.place][0]._outcome_steps(ended.record)
                results[ended.place] = await self._run(steps)
        return [results[job.origin, job.id] for job in jobs]

    # --- clearing it --------------------------------------------------------------------------

    async def remove(self, job_or_id: AsyncJob[Any] | str) -> None:
        """Take a waiting or scheduled job out; its record stays as canceled. As `Job.cancel`."""
        await self._run(self._remove_steps(job_or_id))

    async def empty(self) -> int:
        """Delete all waiting jobs; return how many (those of a lost reply are not counted).

        Running and parked ones stay.
        """
        return await self._run(queries.empty(self._keys, "queue"))

    async def delete(self) -> None:
        """Delete the queue with all jobs that wait or are parked. Jobs that run go on."""
        await self._run(self._delete_steps())

    async def _run(self, steps: Steps[R]) -> R:
        return await self._store.run(steps)
