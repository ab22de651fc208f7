"""A queue as the application sees it: jobs are put in here, and looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from minirq.durations import parse_duration
from minirq.exceptions import InvalidJobOperation, InvalidOption, NoSuchJobError
from minirq.job import Job, fetch_from
from minirq.protocol import operations, procedures, reads
from minirq.protocol.names import check_queue_name
from minirq.protocol.operations import NewJob
from minirq.protocol.payload import id_of
from minirq.protocol.states import ENDED
from minirq.protocol.submission import Duration, Function, OnWorkerLost, Submission, delayed, loss_limit
from minirq.retry import Retry
from minirq.store import Store

if TYPE_CHECKING:
    import redis

    from minirq.signatures import Enqueue

__all__ = ["EnqueueData", "Queue"]

#: what `Queue.prepare_data` makes and `enqueue_many` takes
EnqueueData = Submission

#: jobs and bytes that one script call enqueues at most; larger batches are sent in several
_BATCH_JOBS = 1000
_BATCH_BYTES = 4 * 1024 * 1024


class Queue:
    """A named queue.

    `connection` is a redis.Redis, a URL, or None: the configuration decides, and without one the
    embedded server is used. `default_timeout` is the `job_timeout` of jobs that name none (180 s), and
    `on_worker_lost` is for jobs that do not say it ("retry", see `enqueue`).
    `serializer` is "msgpack", "json" or "pickle". Nothing connects before the first call.
    """

    def __init__(
        self,
        name: str = "default",
        connection: redis.Redis | str | None = None,
        default_timeout: Duration | None = None,
        *,
        serializer: str | None = None,
        namespace: str | None = None,
        on_worker_lost: OnWorkerLost | None = None,
    ) -> None:
        self.name = check_queue_name(name)
        self._store = Store(connection, namespace, serializer)
        self._keys = self._store.keys.of(name)
        self._default_timeout = default_timeout
        self._on_worker_lost = on_worker_lost
        if on_worker_lost is not None:
            loss_limit(on_worker_lost)  # what makes no sense is said here, not at the first job
        self._is_known = False

    @property
    def connection(self) -> redis.Redis:
        """The client in use; asking for it connects nothing yet."""
        return self._store.client

    @property
    def namespace(self) -> str:
        """The first part of all keys."""
        return self._store.keys.namespace

    @classmethod
    def all(cls, connection: redis.Redis | str | None = None, *, namespace: str | None = None) -> list[Queue]:
        """Return all queues ever used, by name."""
        store = Store(connection, namespace)
        names = store.sender.send(reads.queue_names(store.keys))
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
            ServerUnavailable (the job may or may not be there: with a `job_id` you may call again).
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
        return self._enqueue(delayed(self._job(Submission.of_call(f, args, kwargs)), datetime))

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
        jobs: list[Job[Any]] = []
        batch: list[NewJob] = []
        size = 0
        for data in job_datas:
            job = self._job(data)
            if batch and (len(batch) == _BATCH_JOBS or size + len(job.payload) > _BATCH_BYTES):
                jobs += self._enqueue_batch(batch)
                batch, size = [], 0
            batch.append(job)
            size += len(job.payload)
        return jobs + self._enqueue_batch(batch) if batch else jobs

    def _job(self, submission: Submission) -> NewJob:
        return submission.job(
            self._store.serializer,
            max_payload=self._store.config.max_payload,
            default_timeout=self._default_timeout,
            on_worker_lost=self._on_worker_lost,
        )

    def _enqueue(self, job: NewJob) -> Job[Any]:
        return self._enqueue_batch([job])[0]

    def _enqueue_batch(self, batch: list[NewJob]) -> list[Job[Any]]:
        call = operations.enqueue(self._keys, batch)
        if self._is_known:
            outcomes = self._store.sender.send(call)
        else:
            known: Any = reads.know_queues(self._store.keys, [self.name])
            _, outcomes = self._store.sender.send_all([known, call])
            self._is_known = True
        for job, outcome in zip(batch, outcomes, strict=True):
            if outcome.is_being_cleared:
                raise InvalidJobOperation(
                    f"job {job.id} was canceled while it waited and has not been cleared from the queue yet:"
                    " use another job_id"
                )
        return [
            Job(job.id, self._store, self.name, raw=job.payload if outcome.is_new else None)
            for job, outcome in zip(batch, outcomes, strict=True)
        ]

    # --- looking at it ------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many payloads wait."""
        return self._store.sender.send(reads.count(self._keys))

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return True  # an empty queue is still a queue

    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return self.count == 0

    @property
    def job_ids(self) -> list[str]:
        """The ids of the waiting jobs, the one that runs next in front."""
        return self.get_job_ids()

    def get_job_ids(self, offset: int = 0, length: int = -1) -> list[str]:
        """Return ids of waiting jobs from `offset` on (0 runs next); -1 is all."""
        return [id_of(raw) for raw in self._payloads(offset, length)]

    @property
    def jobs(self) -> list[Job[Any]]:
        """The waiting jobs, the one that runs next in front."""
        return self.get_jobs()

    def get_jobs(self, offset: int = 0, length: int = -1) -> list[Job[Any]]:
        """Return waiting jobs from `offset` on (0 runs next); -1 is all. Two round trips."""
        payloads = {id_of(raw): raw for raw in self._payloads(offset, length)}
        found = self._store.sender.run(procedures.find(self._store.keys, list(payloads), self.name))
        return [
            Job(job_id, self._store, self.name, where.record if where else None, raw)
            for (job_id, raw), where in zip(payloads.items(), found, strict=True)
            if where is None or where.record.status not in ENDED
        ]

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter(self.get_jobs())

    def _payloads(self, offset: int, length: int) -> list[bytes]:
        start = 0 if length < 0 else -offset - length
        if length == 0:
            return []
        return self._store.sender.send(reads.waiting(self._keys, start, -offset - 1))[::-1]

    def fetch_job(self, job_id: str) -> Job[Any] | None:
        """Return a job of this queue by its id, in whatever state; None if there is none."""
        return fetch_from(self._store, [job_id], self.name)[0]

    def get_job_position(self, job_or_id: Job[Any] | str) -> int | None:
        """Return a job's place in the waiting list, 0 runs next; None if it does not wait. Searches."""
        return Job(_id(job_or_id), self._store, self.name).get_position()

    # --- pausing it ---------------------------------------------------------------------------

    def pause(self, duration: Duration | None = None) -> None:
        """Have the queue hand out no more jobs: for `duration`, or without one until `resume`.

        Jobs that workers hold by then go on: those that run, and short ones claimed with them in a batch.
        Enqueueing, delays and retries go on too.
        """
        seconds = None if duration is None else parse_duration(duration, what="duration")
        if seconds == 0:
            raise InvalidOption("duration is 0: give more, or nothing to pause until resume()")
        calls: list[Any] = [
            operations.pause(self._keys, seconds=seconds),
            # so that it can be seen and resumed with all others, also before its first job
            reads.know_queues(self._store.keys, [self.name]),
        ]
        self._store.sender.send_all(calls)

    def resume(self) -> None:
        """Have the queue hand out jobs again. Workers that wait are woken."""
        self._store.sender.send(operations.pause(self._keys, seconds=0))

    @property
    def is_paused(self) -> bool:
        """Whether the queue hands out no jobs at the moment."""
        until_ms, now_ms = self._store.sender.send_all([reads.paused(self._keys), reads.server_time()])
        return until_ms == -1 or until_ms > now_ms

    # --- clearing it --------------------------------------------------------------------------

    def remove(self, job_or_id: Job[Any] | str) -> None:
        """Take a waiting or scheduled job out; its record stays as canceled. As `Job.cancel`."""
        job = self.fetch_job(_id(job_or_id))
        if job is None:
            raise NoSuchJobError(f"queue {self.name} has no job {_id(job_or_id)}")
        job.cancel()

    def empty(self) -> int:
        """Delete all waiting jobs; return how many (those of a lost reply are not counted).

        Running and parked ones stay.
        """
        return self._store.sender.run(procedures.empty(self._keys, "queue"))

    def delete(self) -> None:
        """Delete the queue with all jobs that wait or are parked. Jobs that run go on."""
        for place in ("queue", "scheduled", "deferred", "unknown", *ENDED):
            self._store.sender.run(procedures.empty(self._keys, place))
        self._store.sender.send(reads.forget_queue(self._store.keys, self.name))
        self._is_known = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"


def _id(job_or_id: Job[Any] | str) -> str:
    return job_or_id if isinstance(job_or_id, str) else job_or_id.id
