"""A queue as the application sees it: jobs are put in here, and looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from minirq.client.queue import EnqueueCall, QueueBase, by_place
from minirq.client.store import Store
from minirq.client.waiting import wait_for_ends
from minirq.durations import Duration
from minirq.exceptions import ServerUnavailable
from minirq.job import Job
from minirq.protocol import queries
from minirq.protocol.commands import NewJob
from minirq.protocol.queries import Steps
from minirq.protocol.submission import Function, OnWorkerLost, Submission, at_time, delayed
from minirq.protocol.waiting import Place
from minirq.retry import Retry

if TYPE_CHECKING:
    import redis

    from minirq.client.typing import Enqueue

__all__ = ["EnqueueData", "Queue"]

T = TypeVar("T")
R = TypeVar("R")

#: what `Queue.prepare_data` makes and `enqueue_many` takes
EnqueueData = Submission


class Queue(QueueBase[Job[Any]]):
    """A named queue.

    `connection` is a redis.Redis, a URL, or None: the configuration decides, and without one the
    embedded server is used. `default_timeout` is the `job_timeout` of jobs that name none (180 s), and
    `on_worker_lost` is for jobs that do not say it ("retry", see `enqueue`). With `batch=False` workers
    take the queue's jobs one by one, and with True in batches again, from the first `enqueue` of this
    object on; None leaves that as it is.
    A server that is away is waited for as long as `patience` says before ServerUnavailable is raised: by
    default 10 s once a connection of this process has worked, and 3 s before.
    `serializer` is "msgpack", "json" or "pickle". Nothing connects before the first call.
    """

    _job_class = Job

    def __init__(
        self,
        name: str = "default",
        connection: redis.Redis | str | None = None,
        default_timeout: Duration | None = None,
        *,
        serializer: str | None = None,
        namespace: str | None = None,
        on_worker_lost: OnWorkerLost | None = None,
        batch: bool | None = None,
        patience: Duration | None = None,
    ) -> None:
        self._store = Store(connection, namespace, serializer, patience)
        super().__init__(name, self._store, default_timeout, on_worker_lost, batch)

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

    # --- putting jobs in ----------------------------------------------------------------------

    if TYPE_CHECKING:
        enqueue: Enqueue
    else:

        def enqueue(self, f: Function, *args: Any, **kwargs: Any) -> Job[Any]:
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
            return self._enqueue(self._job(Submission.of_call(f, args, kwargs)))

    def enqueue_call(
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
    ) -> Job[Any]:
        """Enqueue a call with everything named; see `enqueue`."""
        return self._enqueue(
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

    def enqueue_in(self, time_delta: Duration, func: Function, *args: Any, **kwargs: Any) -> Job[Any]:
        """Enqueue a call after a delay, which Redis counts. Never early. Keywords as in `enqueue`."""
        return self._enqueue(delayed(self._job(Submission.of_call(func, args, kwargs)), time_delta))

    def enqueue_at(self, datetime: datetime, f: Function, *args: Any, **kwargs: Any) -> Job[Any]:
        """Enqueue a call at a time of Redis' clock; a naive datetime is local. Keywords as in `enqueue`."""
        return self._enqueue(at_time(self._job(Submission.of_call(f, args, kwargs)), datetime))

    @staticmethod
    def prepare_data(
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
    ) -> EnqueueData:
        """Describe one call for `enqueue_many`."""
        return Submission(
            func,
            tuple(args or ()),
            dict(kwargs or {}),
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

    def enqueue_many(self, job_datas: Iterable[EnqueueData]) -> list[Job[Any]]:
        """Enqueue many calls and return their jobs in the same order.

        One script call for up to 1,000 jobs or 4 MiB: each such batch is enqueued whole or not at all.
        """
        jobs: list[Job[Any]] = self._send(self._enqueue_all(job_datas))
        return jobs

    def _enqueue(self, job: NewJob) -> Job[Any]:
        try:
            return self._run(self._enqueue_steps([job]))[0]
        except ServerUnavailable as error:
            call = EnqueueCall(self, [[job]], is_single=True)
            call.note(error, lambda: self._send(call))
            raise

    def _send(self, call: EnqueueCall[Job[Any]]) -> Any:
        try:
            return self._run(call.steps())
        except ServerUnavailable as error:
            call.note(error, lambda: self._send(call))
            raise

    # --- looking at it ------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many payloads wait."""
        return self._store.sender.send(queries.count(self._keys))

    def __len__(self) -> int:
        return self.count

    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return self.count == 0

    @property
    def job_ids(self) -> list[str]:
        """The ids of the waiting jobs, the one that runs next in front."""
        return self.get_job_ids()

    def get_job_ids(self, offset: int = 0, length: int = -1) -> list[str]:
        """Return ids of waiting jobs from `offset` on (0 runs next); -1 is all."""
        return self._run(self._id_steps(offset, length))

    @property
    def jobs(self) -> list[Job[Any]]:
        """The waiting jobs, the one that runs next in front."""
        return self.get_jobs()

    def get_jobs(self, offset: int = 0, length: int = -1) -> list[Job[Any]]:
        """Return waiting jobs from `offset` on (0 runs next); -1 is all. Two round trips."""
        return self._run(self._jobs_steps(offset, length))

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter(self.get_jobs())

    def fetch_job(self, job_id: str) -> Job[Any] | None:
        """Return a job of this queue by its id, in whatever state; None if there is none."""
        return self._run(self._fetch_steps(job_id))

    def get_job_position(self, job_or_id: Job[Any] | str) -> int | None:
        """Return a job's place in the waiting list, 0 runs next; None if it does not wait. Searches."""
        return self._run(self._position_steps(job_or_id))

    # --- pausing it ---------------------------------------------------------------------------

    def pause(self, duration: Duration | None = None) -> None:
        """Have the queue hand out no more jobs: for `duration`, or without one until `resume`.

        Jobs that workers hold by then go on: those that run, and short ones claimed with them in a batch.
        Enqueueing, delays and retries go on too.
        """
        self._run(self._pause_steps(duration))

    def resume(self) -> None:
        """Have the queue hand out jobs again. Workers that wait are woken."""
        self._run(self._resume_steps())

    @property
    def is_paused(self) -> bool:
        """Whether the queue hands out no jobs at the moment."""
        return self._run(self._paused_steps())

    # --- waiting for jobs ---------------------------------------------------------------------

    def as_completed(self, jobs: Iterable[Job[T]], timeout: float | None = None) -> Iterator[Job[T]]:
        """Yield jobs as they end, of this queue or others in the same Redis, each with its record read.

        However it ended: ask the job, or call its `wait()`, which returns or raises at once. One that is
        deleted, or not kept any more, is yielded too, and its `wait()` raises NoSuchJobError. No polling;
        one connection for all jobs. Raises TimeoutError after `timeout` seconds (None waits for ever).
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
        places = by_place(jobs := list(jobs))
        results: dict[Place, T] = {}
        with closing(wait_for_ends(self._store, places, timeout)) as ends:
            for ended in ends:
                results[ended.place] = self._run(places[ended.place][0]._outcome_steps(ended.record))
        return [results[job.origin, job.id] for job in jobs]

    # --- clearing it --------------------------------------------------------------------------

    def remove(self, job_or_id: Job[Any] | str) -> None:
        """Take a waiting or scheduled job out; its record stays as canceled. As `Job.cancel`."""
        self._run(self._remove_steps(job_or_id))

    def empty(self) -> int:
        """Delete all waiting jobs; return how many (those of a lost reply are not counted).

        Running and parked ones stay.
        """
        return self._run(queries.empty(self._keys, "queue"))

    def delete(self) -> None:
        """Delete the queue with all jobs that wait or are parked. Jobs that run go on."""
        self._run(self._delete_steps())

    def _run(self, steps: Steps[R]) -> R:
        return self._store.sender.run(steps)
