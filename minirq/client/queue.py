"""What is done with a queue, step by step, whichever way Redis is spoken to.

Each is a generator that yields calls and is sent the replies; `Queue` and `AsyncQueue` drive the same ones.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

from minirq.client.job import JobBase
from minirq.client.store import BaseStore
from minirq.durations import Duration, parse_duration
from minirq.exceptions import (
    InvalidJobOperation,
    InvalidOption,
    MinirqError,
    NoSuchJobError,
    ServerUnavailable,
)
from minirq.protocol import commands, queries
from minirq.protocol.commands import NewJob
from minirq.protocol.keys import check_queue_name
from minirq.protocol.payload import id_of
from minirq.protocol.queries import Steps
from minirq.protocol.record import ENDED
from minirq.protocol.submission import OnWorkerLost, Submission, loss_limit
from minirq.protocol.waiting import Place

logger = logging.getLogger(__name__)

J = TypeVar("J", bound=JobBase[Any])
SomeJob = TypeVar("SomeJob", bound=JobBase[Any])

#: jobs and bytes that one script call enqueues at most; larger batches are sent in several
_BATCH_JOBS = 1000
_BATCH_BYTES = 4 * 1024 * 1024
#: a queue's name is put on the list with its first job, and at this pace with later ones, seconds
_LIST_EVERY = 60.0


class QueueBase(Generic[J]):
    """The steps of a queue, and its name."""

    _job_class: ClassVar[Any]

    def __init__(
        self,
        name: str,
        store: BaseStore,
        default_timeout: Duration | None,
        on_worker_lost: OnWorkerLost | None,
        batch: bool | None,
    ) -> None:
        self.name = check_queue_name(name)
        self._realm = store
        self._keys = store.keys.of(name)
        self._default_timeout = default_timeout
        self._on_worker_lost = on_worker_lost
        if on_worker_lost is not None:
            loss_limit(on_worker_lost)  # what makes no sense is said here, not at the first job
        self._batch = batch
        #: when the name is put on the list of queues again
        self._listed_until = 0.0

    @property
    def namespace(self) -> str:
        """The first part of all keys."""
        return self._realm.keys.namespace

    def __bool__(self) -> bool:
        return True  # an empty queue is still a queue

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueueBase) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # --- putting jobs in ----------------------------------------------------------------------

    def _job(self, submission: Submission) -> NewJob:
        return submission.job(
            self._realm.serializer,
            max_payload=self._realm.config.max_payload,
            default_timeout=self._default_timeout,
            on_worker_lost=self._on_worker_lost,
        )

    def _enqueue_steps(self, batch: list[NewJob], age: float = 0) -> Steps[list[J]]:
        call = commands.enqueue(self._keys, batch, age=age)
        if time.monotonic() < self._listed_until:
            outcomes = yield call
        else:
            is_first = not self._listed_until
            if self._batch is not None and is_first:
                yield queries.set_batch(self._keys, self._batch)
            # after the job: workers take the name off when nothing is left of the queue
            outcomes, listed = yield [call, queries.know_queues(self._realm.keys, [self.name])]
            if isinstance(listed, MinirqError) and is_first:
                logger.warning("queue %s is not put on the list of queues: %s", self.name, listed)
            self._listed_until = time.monotonic() + _LIST_EVERY
        jobs = []
        for job, outcome in zip(batch, outcomes, strict=True):
            if outcome.is_being_cleared:
                if outcome.status not in _REFUSALS:
                    raise InvalidJobOperation(
                        f"job {job.id} may have run since this call was first sent, and have been forgotten:"
                        " nothing was enqueued now; enqueue it anew if it may run twice"
                    )
                raise InvalidJobOperation(
                    f"job {job.id} {_REFUSALS[outcome.status]}: call again after that, or use another job_id;"
                    " nothing was enqueued"
                )
            raw = job.payload if outcome.is_new else None
            jobs.append(self._job_class(job.id, self._realm, self.name, raw=raw))
        return jobs

    def _enqueue_all(self, submissions: Iterable[Submission]) -> EnqueueCall[J]:
        return EnqueueCall(self, _batches(map(self._job, submissions)))

    # --- looking at it ------------------------------------------------------------------------

    def _payload_steps(self, offset: int, length: int) -> Steps[list[bytes]]:
        start = 0 if length < 0 else -offset - length
        if length == 0:
            return []
        payloads: list[bytes] = yield queries.waiting(self._keys, start, -offset - 1)
        return payloads[::-1]

    def _id_steps(self, offset: int, length: int) -> Steps[list[str]]:
        return [id_of(raw) for raw in (yield from self._payload_steps(offset, length))]

    def _jobs_steps(self, offset: int, length: int) -> Steps[list[J]]:
        payloads = {id_of(raw): raw for raw in (yield from self._payload_steps(offset, length))}
        found = yield from queries.find(self._realm.keys, list(payloads), self.name)
        return [
            self._job_class(job_id, self._realm, self.name, where.record if where else None, raw)
            for (job_id, raw), where in zip(payloads.items(), found, strict=True)
            if where is None or where.record.status not in ENDED
        ]

    def _fetch_steps(self, job_id: str) -> Steps[J | None]:
        [job] = yield from self._job_class._find_steps(self._realm, [job_id], self.name)
        return job  # type: ignore[no-any-return]

    def _position_steps(self, job_or_id: J | str) -> Steps[int | None]:
        waiting = yield from queries.locate(self._keys, _id(job_or_id))
        return waiting.position if waiting else None

    # --- pausing it ---------------------------------------------------------------------------

    def _pause_steps(self, duration: Duration | None) -> Steps[None]:
        seconds = None if duration is None else parse_duration(duration, what="duration")
        if seconds == 0:
            raise InvalidOption("duration is 0: give more, or nothing to pause until resume()")
        yield [
            commands.pause(self._keys, seconds=seconds),
            # so that it can be seen and resumed with all others, also before its first job
            queries.know_queues(self._realm.keys, [self.name]),
        ]

    def _resume_steps(self) -> Steps[None]:
        yield commands.pause(self._keys, seconds=0)

    def _paused_steps(self) -> Steps[bool]:
        until_ms, now_ms = yield [queries.paused(self._keys), queries.server_time()]
        return bool(until_ms == -1 or until_ms > now_ms)

    # --- clearing it --------------------------------------------------------------------------

    def _remove_steps(self, job_or_id: J | str) -> Steps[None]:
        job = yield from self._fetch_steps(_id(job_or_id))
        if job is None:
            raise NoSuchJobError(f"queue {self.name} has no job {_id(job_or_id)}")
        yield from job._cancel_steps()

    def _delete_steps(self) -> Steps[None]:
        for place in ("queue", "scheduled", "deferred", "unknown", *ENDED, "rest"):
            yield from queries.empty(self._keys, place)
        keys = self._realm.keys
        yield [
            queries.forget_queue(keys, self.name),
            queries.forget_maintenance(keys, [self.name]),
            queries.forget_served(keys, [self.name]),
        ]
        self._listed_until = 0.0


class EnqueueCall(Generic[J]):
    """The jobs of one enqueue in batches, and how far it got: sent again, it enqueues each job once.

    With `is_single` it is about one job, and not about a list of them.
    """

    def __init__(
        self, queue: QueueBase[J], batches: Iterable[list[NewJob]], *, is_single: bool = False
    ) -> None:
        self._is_single = is_single
        self._queue = queue
        self._batches = iter(batches)
        self._batch = next(self._batches, [])
        self._jobs: list[J] = []
        self._doubtful_since: float | None = None

    def steps(self) -> Steps[Any]:
        """Enqueue what is left of it; return the job, or all jobs."""
        while self._batch:
            since = self._doubtful_since
            age = 0.0 if since is None else time.monotonic() - since
            self._jobs += yield from self._queue._enqueue_steps(self._batch, age)
            self._batch, self._doubtful_since = next(self._batches, []), None
        return self._jobs[0] if self._is_single else self._jobs

    def note(self, error: ServerUnavailable, again: Callable[[], Any]) -> None:
        """Note that no answer came, and have `error.again()` call `again`."""
        if error.may_have_acted and self._doubtful_since is None:
            self._doubtful_since = error._began
        error._again = again


#: why an id cannot be used for now, and for how long, by the status of its job
_REFUSALS = {
    "canceled": "was canceled while it waited and is still in the queue, until a worker meets it",
    "queued": "has expired and is still in the queue, until a worker meets it",
    "started": "runs and is to be stopped or deleted, which its run has to end for",
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
