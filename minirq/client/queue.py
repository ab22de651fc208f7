"""What can be done with a queue: the definitions that `Queue` and `AsyncQueue` share."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from minirq.client.job import JobBase
from minirq.client.steps import operation, question
from minirq.client.store import BaseStore
from minirq.durations import Duration, parse_duration
from minirq.exceptions import (
    InvalidJobOperation,
    InvalidOption,
    MinirqError,
    NoSuchJobError,
    ServerUnavailable,
)
from minirq.protocol import commands, queries, submission
from minirq.protocol.commands import Enqueued, NewJob
from minirq.protocol.keys import check_queue_name
from minirq.protocol.payload import id_of
from minirq.protocol.queries import Steps
from minirq.protocol.record import ENDED
from minirq.protocol.submission import Function, JobDefaults, OnWorkerLost, Submission
from minirq.protocol.waiting import Place

logger = logging.getLogger(__name__)

J = TypeVar("J", bound=JobBase[Any])
SomeJob = TypeVar("SomeJob", bound=JobBase[Any])

#: what `Queue.prepare_data` makes and `enqueue_many` takes
EnqueueData = Submission

#: jobs and bytes that one script call enqueues at most; larger batches are sent in several
_BATCH_JOBS = 1000
_BATCH_BYTES = 4 * 1024 * 1024
#: a queue's name is put on the list of queues with its first job, and with later ones once in so many seconds
_LIST_EVERY = 60.0


class QueueBase(Generic[J]):
    """A queue's name and its operations."""

    _job_class: ClassVar[Any]
    _store: Any

    def __init__(
        self,
        name: str,
        store: BaseStore,
        default_timeout: Duration | None,
        on_worker_lost: OnWorkerLost | None,
    ) -> None:
        self.name = check_queue_name(name)
        self._store = store
        self._keys = store.keys.of(name)
        self._default_timeout = default_timeout
        self._on_worker_lost = on_worker_lost
        if on_worker_lost is not None:
            submission.loss_limit(on_worker_lost)  # raises here what would be raised by the first job
        #: until then the name need not be put on the list of queues again, monotonic
        self._listed_until = 0.0

    @property
    def namespace(self) -> str:
        """The first part of all keys."""
        namespace: str = self._store.keys.namespace
        return namespace

    def __bool__(self) -> bool:
        return True  # an empty queue is still a queue

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueueBase) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # --- enqueueing ---------------------------------------------------------------------------

    if not TYPE_CHECKING:  # `Queue` and `AsyncQueue` declare its types

        @operation
        def enqueue(self, f: Function, *args: Any, **kwargs: Any) -> Steps[J]:
            """Enqueue a call of `f`, a function or its dotted name, and return its job.

            These keywords are minirq's, all others are the function's: `job_timeout` (seconds, or text such
            as "10m"; 180; -1 no limit), `result_ttl` (500 s; 0 keeps nothing, -1 for ever), `ttl` (none: not
            started by then, the job has expired), `failure_ttl` (30 days), `job_id`, `description`,
            `at_front`, `meta`, `retry` (a Retry), `on_worker_lost` ("retry": when its process dies it is run
            again, up to 2 times; "fail": it fails at once; or how many times), and `args=` with `kwargs=`
            for arguments that collide.

            When it returns, the job is in Redis exactly once. If a job with this `job_id` is waiting or
            running, it is returned unchanged; one that has ended starts again.

            Raises UnnamedFunction, SerializationError, InvalidOption (nothing was sent), QueueFull,
            ServerUnavailable (the job may or may not be there: `error.again()` sends the same call again, and
            it acts once), InvalidJobOperation (the job of this `job_id` is about to end or to vanish).
            """
            return self._enqueue_steps(Submission.of_call(f, args, kwargs).job(self._defaults))

    @operation
    @submission.described_by(Submission)
    def enqueue_call(self, call: Submission) -> Steps[J]:
        """Enqueue a call with everything named; see `enqueue`."""
        return self._enqueue_steps(call.job(self._defaults))

    @operation
    def enqueue_in(self, time_delta: Duration, func: Function, *args: Any, **kwargs: Any) -> Steps[J]:
        """Enqueue a call after a delay, which Redis counts. Never early. Keywords as in `enqueue`."""
        job = Submission.of_call(func, args, kwargs).job(self._defaults)
        return self._enqueue_steps(submission.delayed(job, time_delta))

    @operation
    def enqueue_at(self, datetime: datetime, f: Function, *args: Any, **kwargs: Any) -> Steps[J]:
        """Enqueue a call at a time of Redis' clock; a naive datetime is local. Keywords as in `enqueue`."""
        job = Submission.of_call(f, args, kwargs).job(self._defaults)
        return self._enqueue_steps(submission.at_time(job, datetime))

    @operation
    def enqueue_many(self, job_datas: Iterable[EnqueueData]) -> Steps[list[J]]:
        """Enqueue many calls and return their jobs in the same order.

        One script call for up to 1,000 jobs or 4 MiB: each such batch is enqueued whole or not at all.
        """
        jobs = (call.job(self._defaults) for call in job_datas)
        return Enqueueing(self, _batches(jobs)).steps()

    @classmethod
    @submission.described_by(Submission)
    def prepare_data(cls, call: Submission) -> EnqueueData:
        """Describe one call for `enqueue_many`."""
        call.args, call.kwargs = tuple(call.args or ()), dict(call.kwargs or {})
        return call

    @cached_property
    def _defaults(self) -> JobDefaults:
        store = self._store
        return JobDefaults(
            store.serializer, store.config.max_payload, self._default_timeout, self._on_worker_lost
        )

    def _enqueue_steps(self, job: NewJob) -> Steps[J]:
        try:
            [made] = yield from self._batch_steps([job])
        except ServerUnavailable as error:
            Enqueueing(self, [[job]], is_single=True).note(error)
            raise
        return made

    def _batch_steps(self, batch: list[NewJob], age: float = 0) -> Steps[list[J]]:
        call = commands.enqueue(self._keys, batch, age=age)
        if time.monotonic() < self._listed_until:
            outcomes = yield call
        else:
            # after the job: workers take the name off when nothing is left of the queue
            outcomes, listed = yield [call, queries.know_queues(self._store.keys, [self.name])]
            if isinstance(listed, MinirqError) and not self._listed_until:
                logger.warning("queue %s is not put on the list of queues: %s", self.name, listed)
            self._listed_until = time.monotonic() + _LIST_EVERY
        return [self._job_of(job, outcome) for job, outcome in zip(batch, outcomes, strict=True)]

    def _job_of(self, job: NewJob, outcome: Enqueued) -> J:
        if outcome.is_being_cleared:
            if outcome.status not in _REFUSALS:
                raise InvalidJobOperation(
                    f"job {job.id} may have run since this call was first sent, and have been forgotten:"
                    " nothing was enqueued now; enqueue it again if it may run twice"
                )
            raise InvalidJobOperation(
                f"job {job.id} {_REFUSALS[outcome.status]}: call again after that, or use another job_id;"
                " nothing was enqueued"
            )
        raw = job.payload if outcome.is_new else None
        return self._job_class(job.id, self._store, self.name, raw=raw)  # type: ignore[no-any-return]

    # --- looking at it ------------------------------------------------------------------------

    @question
    def count(self) -> Steps[int]:
        """How many jobs are waiting."""
        count: int = yield queries.count(self._keys)
        return count

    @operation
    def is_empty(self) -> Steps[bool]:
        """Whether no job is waiting."""
        return not (yield from QueueBase.count.steps(self))

    @question
    def job_ids(self) -> Steps[list[str]]:
        """The ids of the waiting jobs, the one that runs next in front."""
        ids: list[str] = yield from QueueBase.get_job_ids.steps(self)
        return ids

    @operation
    def get_job_ids(self, offset: int = 0, length: int = -1) -> Steps[list[str]]:
        """Return ids of waiting jobs from `offset` on (0 runs next); -1 is all."""
        return [id_of(raw) for raw in (yield from self._payload_steps(offset, length))]

    @question
    def jobs(self) -> Steps[list[J]]:
        """The waiting jobs, the one that runs next in front."""
        jobs: list[J] = yield from QueueBase.get_jobs.steps(self)
        return jobs

    @operation
    def get_jobs(self, offset: int = 0, length: int = -1) -> Steps[list[J]]:
        """Return waiting jobs from `offset` on (0 runs next); -1 is all. Two round trips."""
        payloads = {id_of(raw): raw for raw in (yield from self._payload_steps(offset, length))}
        found = yield from queries.find(self._store.keys, list(payloads), self.name)
        return [
            self._job_class(job_id, self._store, self.name, where.record if where else None, raw)
            for (job_id, raw), where in zip(payloads.items(), found, strict=True)
            if where is None or where.record.status not in ENDED
        ]

    def _payload_steps(self, offset: int, length: int) -> Steps[list[bytes]]:
        if length == 0:
            return []
        start = 0 if length < 0 else -offset - length
        payloads: list[bytes] = yield queries.waiting(self._keys, start, -offset - 1)
        return payloads[::-1]

    @operation
    def fetch_job(self, job_id: str) -> Steps[J | None]:
        """Return a job of this queue by its id, in whatever state; None if there is none."""
        [job] = yield from self._job_class._find_steps(self._store, [job_id], self.name)
        return job  # type: ignore[no-any-return]

    @operation
    def get_job_position(self, job_or_id: J | str) -> Steps[int | None]:
        """Return a job's position in the queue, 0 runs next; None if it is not waiting. Searches."""
        waiting = yield from queries.locate(self._keys, _id(job_or_id))
        return waiting.position if waiting else None

    # --- pausing it ---------------------------------------------------------------------------

    @operation
    def pause(self, duration: Duration | None = None) -> Steps[None]:
        """Have workers start no more jobs of this queue: for `duration`, or without one until `resume`.

        Jobs that workers hold by then go on: those that run, and short ones claimed with them in a batch.
        Enqueueing, delays and retries go on too.
        """
        seconds = None if duration is None else parse_duration(duration, what="duration")
        if seconds == 0:
            raise InvalidOption("duration is 0: give more, or nothing to pause until resume()")
        yield [
            commands.pause(self._keys, seconds=seconds),
            # so that it can be seen and resumed with all others, also before its first job
            queries.know_queues(self._store.keys, [self.name]),
        ]

    @operation
    def resume(self) -> Steps[None]:
        """Have workers start jobs of this queue again. Waiting workers are woken."""
        yield commands.pause(self._keys, seconds=0)

    @question
    def is_paused(self) -> Steps[bool]:
        """Whether the queue is paused at the moment."""
        until_ms, now_ms = yield [queries.paused(self._keys), queries.server_time()]
        return bool(until_ms == -1 or until_ms > now_ms)

    # --- clearing it --------------------------------------------------------------------------

    @operation
    def remove(self, job_or_id: J | str) -> Steps[None]:
        """Take a waiting or scheduled job out; its record stays as canceled. As `Job.cancel`."""
        job = yield from QueueBase.fetch_job.steps(self, _id(job_or_id))
        if job is None:
            raise NoSuchJobError(f"queue {self.name} has no job {_id(job_or_id)}")
        yield from JobBase.cancel.steps(job)

    @operation
    def empty(self) -> Steps[int]:
        """Delete all waiting jobs; return how many (those of a lost reply are not counted).

        Running and parked ones stay.
        """
        return (yield from queries.empty(self._keys, "queue"))

    @operation
    def delete(self) -> Steps[None]:
        """Delete the queue with all jobs that are waiting or parked. Running jobs go on."""
        for place in ("queue", "scheduled", "deferred", "unknown", *ENDED, "rest"):
            yield from queries.empty(self._keys, place)
        keys = self._store.keys
        yield [
            queries.forget_queue(keys, self.name),
            queries.forget_maintenance(keys, [self.name]),
            queries.forget_served(keys, [self.name]),
        ]
        self._listed_until = 0.0


class Enqueueing(Generic[J]):
    """The jobs of one enqueue in batches, and how far it got: sent again, it enqueues each job once.

    With `is_single` it returns one job, and not a list of them.
    """

    def __init__(
        self, queue: QueueBase[J], batches: Iterable[list[NewJob]], *, is_single: bool = False
    ) -> None:
        self._is_single = is_single
        self._queue: Any = queue
        self._batches = iter(batches)
        self._batch = next(self._batches, [])
        self._jobs: list[J] = []
        #: when the batch was first sent without an answer, monotonic
        self._doubtful_since: float | None = None

    def steps(self) -> Steps[Any]:
        """Enqueue what is left of it; return the job, or all jobs."""
        while self._batch:
            since = self._doubtful_since
            age = 0.0 if since is None else time.monotonic() - since
            try:
                self._jobs += yield from self._queue._batch_steps(self._batch, age)
            except ServerUnavailable as error:
                self.note(error)
                raise
            self._batch, self._doubtful_since = next(self._batches, []), None
        return self._jobs[0] if self._is_single else self._jobs

    def note(self, error: ServerUnavailable) -> None:
        """Note that no answer came, and have `error.again()` continue from here."""
        if error.may_have_acted and self._doubtful_since is None:
            self._doubtful_since = error._began
        error._again = lambda: self._queue._run(self.steps())


#: why an id cannot be used for now, and for how long, by the status of its job
_REFUSALS = {
    "canceled": "was canceled while it waited and is still in the queue, until a worker meets it",
    "queued": "has expired and is still in the queue, until a worker meets it",
    "started": "is running, and will be stopped or deleted when its run has ended",
}


def by_place(jobs: Iterable[SomeJob]) -> dict[Place, list[SomeJob]]:
    """Sort jobs by where they are, in their order; a job may have been given twice."""
    places: dict[Place, list[SomeJob]] = {}
    for job in jobs:
        places.setdefault((job.origin, job.id), []).append(job)
    return places


def _batches(jobs: Iterable[NewJob]) -> Iterator[list[NewJob]]:
    batch: list[NewJob] = []
    size = 0
    for job in jobs:
        if batch and (len(batch) == _BATCH_JOBS or size + len(job.payload) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += len(job.payload)
    if batch:
        yield batch


def _id(job_or_id: JobBase[Any] | str) -> str:
    return job_or_id if isinstance(job_or_id, str) else job_or_id.id
