"""Queues for blocking applications. What can be done with a queue is defined in `client/queue.py`."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from minirq.client.queue import EnqueueData, Enqueueing, QueueBase, by_place
from minirq.client.steps import Blocking
from minirq.client.store import Store
from minirq.client.waiting import wait_for_ends
from minirq.durations import Duration
from minirq.exceptions import ServerUnavailable
from minirq.job import Job
from minirq.protocol import commands, queries
from minirq.protocol.submission import Function, OnWorkerLost, Submission
from minirq.protocol.waiting import Place

if TYPE_CHECKING:
    import redis

    from minirq.client.typing import Enqueue

__all__ = ["EnqueueData", "Queue"]

T = TypeVar("T")


class Queue(Blocking, QueueBase[Job[Any]]):
    """A named queue.

    `connection` is a redis.Redis, a URL, or None: the configuration decides, and without one the
    embedded server is used. `default_timeout` is the `job_timeout` of jobs that name none (180 s), and
    `on_worker_lost` is for jobs that do not say it ("retry", see `enqueue`).
    While Redis is unreachable, calls try again for as long as `patience` says before they raise
    ServerUnavailable: by default 10 s once a connection of this process has worked, and 3 s before.
    `serializer` is "msgpack", "json" or "pickle". Nothing connects before the first call.
    """

    _job_class = Job
    _store: Store

    def __init__(
        self,
        name: str = "default",
        connection: redis.Redis | str | None = None,
        default_timeout: Duration | None = None,
        *,
        serializer: str | None = None,
        namespace: str | None = None,
        on_worker_lost: OnWorkerLost | None = None,
        patience: Duration | None = None,
    ) -> None:
        store = Store(connection, namespace, serializer, patience)
        super().__init__(name, store, default_timeout, on_worker_lost)

    @property
    def connection(self) -> redis.Redis:
        """The client in use; asking for it connects nothing yet."""
        return self._store.client

    @classmethod
    def all(cls, connection: redis.Redis | str | None = None, *, namespace: str | None = None) -> list[Queue]:
        """Return all queues ever used, by name."""
        store = Store(connection, namespace)
        names = store.sender.send(queries.queue_names(store.keys))
        return [cls(name, store.client, namespace=namespace) for name in names]

    if TYPE_CHECKING:
        enqueue: Enqueue
    else:

        @wraps(QueueBase.enqueue.steps)
        def enqueue(self, f: Function, *args: Any, **kwargs: Any) -> Job[Any]:
            # the same as QueueBase.enqueue, but faster: without generators
            job = Submission.of_call(f, args, kwargs).job(self._defaults)
            if time.monotonic() >= self._listed_until:
                return self._run(self._enqueue_steps(job))
            try:
                [outcome] = self._store.sender.send(commands.enqueue(self._keys, [job]))
            except ServerUnavailable as error:
                Enqueueing(self, [[job]], is_single=True).note(error)
                raise
            if outcome.is_new:
                return Job(job.id, self._store, self.name, None, job.payload)
            return self._job_of(job, outcome)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter(self.jobs)

    def as_completed(
        self, jobs: Iterable[Job[T]], timeout: float | None = None
    ) -> Generator[Job[T], None, None]:
        """Yield jobs as they end, of this queue or others in the same Redis, each with its record read.

        Its status says how a job ended, and `wait()` returns or raises at once. Jobs that are deleted or no
        longer kept are yielded too, and their `wait()` raises NoSuchJobError. No polling; one connection for
        all jobs. Raises TimeoutError after `timeout` seconds (None waits for ever).
        """
        places = by_place(jobs)
        with closing(wait_for_ends(self._store, places, timeout)) as ends:
            for ended in ends:
                for job in places[ended.place]:
                    job._renew(ended.record)
                    yield job

    def wait_many(self, jobs: Iterable[Job[T]], timeout: float | None = None) -> list[T]:
        """Wait until all these jobs have ended and return their results, in the order of the jobs.

        Raises what `Job.wait` raises for the first job that ends without a result, at once: the others go
        on. Raises TimeoutError after `timeout` seconds (None waits for ever). See `as_completed`.
        """
        jobs = list(jobs)
        results: dict[Place, T] = {}
        with closing(self.as_completed(jobs, timeout)) as ended:
            for job in ended:
                results[job.origin, job.id] = self._run(job._outcome_steps(job._record))
        return [results[job.origin, job.id] for job in jobs]
