"""How many jobs are in which state, and what are the workers doing? `minirq info` shows it.

An overview is read in three round trips however many queues and workers there are, and changes nothing.
Ended jobs are counted and never read, so thousands of them cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

from minirq.client.store import Store
from minirq.durations import local_time, utc_from_ms
from minirq.protocol import queries
from minirq.protocol.keys import Keys, QueueKeys, can_be_key, check_queue_name
from minirq.protocol.payload import id_of
from minirq.protocol.queries import Steps
from minirq.protocol.record import ENDED, JobStatus, Record

__all__ = ["LATE_BEAT", "BusyJob", "Overview", "QueueView", "WorkerView", "overview"]

#: a worker without a heartbeat for this long may be dead, seconds
LATE_BEAT = 15.0

_AHEAD = (JobStatus.SCHEDULED, JobStatus.DEFERRED)


@dataclass(frozen=True, slots=True)
class QueueView:
    """The jobs of a queue, counted by where they are; `unknown` are those with a key that cannot be read.

    `oldest_seconds` is how long the job that runs next has been in the queue; None for an empty queue.
    `paused_until` is None for a queue that is not paused, and for one that is paused until it is resumed.
    """

    name: str
    waiting: int
    running: int
    scheduled: int
    deferred: int
    failed: int
    finished: int
    canceled: int
    stopped: int
    expired: int
    unknown: int = 0
    oldest_seconds: float | None = None
    is_paused: bool = False
    paused_until: datetime | None = None

    @property
    def pause_end(self) -> str:
        """Until when it is paused, in local time."""
        return local_time(self.paused_until) if self.paused_until else "it is resumed"


@dataclass(frozen=True, slots=True)
class BusyJob:
    """A running job, and for how long it has run. `func` is empty if its record does not say."""

    id: str
    func: str
    queue: str
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker, as it described itself with its last heartbeat.

    Workers may share a `name`; `id` is unique. Each of `processes` runs up to `concurrency` jobs at once.
    `running` is the number of running jobs; the up to 100 that have run longest are in `busy`. `failing` is
    the number of processes whose claims Redis answers with errors. A worker that has been stopping since
    `stopping_since` takes no new jobs.
    """

    name: str
    id: str
    host: str
    pid: int
    queues: tuple[str, ...]
    started: datetime | None
    last_beat: datetime | None
    processes: tuple[int, ...]
    concurrency: int
    running: int
    busy: tuple[BusyJob, ...]
    done: int
    failed: int
    failing: int = 0
    stopping_since: datetime | None = None

    @property
    def places(self) -> int:
        """How many jobs the worker can run at once."""
        return len(self.processes) * self.concurrency

    def serves(self, queue: str) -> bool:
        """Whether it takes jobs of this queue."""
        return queue in self.queues and self.stopping_since is None

    def silence(self, at: datetime) -> float:
        """How long ago its last heartbeat was at that time, seconds."""
        return (at - self.last_beat).total_seconds() if self.last_beat else 0.0


@dataclass(frozen=True, slots=True)
class Overview:
    """Queues and workers, sorted by name, at a time of Redis' clock."""

    at: datetime
    queues: tuple[QueueView, ...]
    workers: tuple[WorkerView, ...]

    def name_of(self, worker: WorkerView) -> str:
        """The worker's name, or its id if others have the same name."""
        return worker.id if sum(other.name == worker.name for other in self.workers) > 1 else worker.name


def overview(store: Store, queues: Sequence[str] | None = None) -> Overview:
    """Look at all queues and workers, or at these queues and at the workers that serve one of them.

    An empty list shows all workers and no queues. Workers whose last beat is too long ago are left out.
    Raises InvalidOption for a name that no queue can have; one that was never used is shown as empty.
    """
    names = None if queues is None else [check_queue_name(name) for name in dict.fromkeys(queues)]
    return store.sender.run(_look(store.keys, names))


def _look(keys: Keys, names: list[str] | None) -> Steps[Overview]:
    now_ms, known, beats = yield [
        queries.server_time(),
        queries.queue_names(keys),
        queries.worker_beats(keys),
    ]
    asked = known if names is None else names
    counts = {name: _counts(keys.of(name), now_ms) for name in asked}
    statuses = {one: queries.worker_status(keys, one) for one in beats}
    replies = iter((yield [*chain.from_iterable(counts.values()), *statuses.values()]))
    counted = {name: list(islice(replies, len(calls))) for name, calls in counts.items()}
    workers = [
        _worker(one, beats[one], status, now_ms)
        for one, status in zip(statuses, replies, strict=True)
        if status
    ]
    if names:
        workers = [worker for worker in workers if not set(names).isdisjoint(worker.queues)]
    return (yield from _overview(keys, now_ms, counted, workers))


def _overview(
    keys: Keys, now_ms: int, counted: dict[str, list[Any]], workers: list[WorkerView]
) -> Steps[Overview]:
    """Read in the last trip what follows from the others: lists of owners, records of jobs."""
    held = {name: [queries.held_count(keys.of(name), o) for o in reply[0]] for name, reply in counted.items()}
    following = {name: id_of(reply[1][0]) for name, reply in counted.items() if reply[1]}
    busy = [(job.queue, job.id) for worker in workers for job in worker.busy]
    records: list[Any] = [
        queries.record(keys.of(name), job_id) for name, job_id in (*following.items(), *busy)
    ]
    replies = iter((yield [*chain.from_iterable(held.values()), *records]))
    running = {name: sum(islice(replies, len(calls))) for name, calls in held.items()}
    next_records = dict(zip(following, islice(replies, len(following)), strict=True))
    functions = {place: record.function for place, record in zip(busy, replies, strict=True) if record}
    queues = (
        _queue(name, reply, running[name], next_records.get(name), now_ms) for name, reply in counted.items()
    )
    return Overview(
        at=utc_from_ms(now_ms) or datetime.now(UTC),
        queues=tuple(queues),
        workers=tuple(_with_functions(worker, functions) for worker in workers),
    )


def _counts(queue: QueueKeys, now_ms: int) -> list[Any]:
    return [
        queries.owners(queue),
        queries.waiting(queue, -1, -1),
        queries.count(queue),
        queries.paused(queue),
        queries.index_count(queue, "unknown"),
        *(queries.index_count(queue, status) for status in _AHEAD),
        # what has been forgotten stays in the index until some worker trims it
        *(queries.index_count(queue, status, now_ms) for status in ENDED),
    ]


def _queue(name: str, reply: list[Any], running: int, following: Record | None, now_ms: int) -> QueueView:
    _, _, waiting, paused_ms, unknown, *counts = reply
    since = following.enqueued_at if following else None
    return QueueView(
        name=name,
        waiting=waiting,
        running=running,
        unknown=unknown,
        **dict(zip((*_AHEAD, *ENDED), counts, strict=True)),
        oldest_seconds=max(now_ms / 1000 - since.timestamp(), 0.0) if since else None,
        is_paused=paused_ms == -1 or paused_ms > now_ms,
        paused_until=utc_from_ms(paused_ms) if paused_ms > now_ms else None,
    )


def _worker(worker_id: str, beat_ms: float, status: dict[str, str], now_ms: int) -> WorkerView:
    since_beat = max(now_ms - beat_ms, 0) / 1000 if beat_ms > 0 else 0.0
    busy = tuple(_busy_jobs(_items(status, "busy"), since_beat))
    return WorkerView(
        name=status.get("name") or worker_id,
        id=worker_id,
        host=status.get("host", ""),
        pid=_count(status, "pid"),
        queues=tuple(text for text in _items(status, "queues") if isinstance(text, str)),
        started=_time(status, "started"),
        last_beat=utc_from_ms(beat_ms),
        processes=tuple(pid for pid in _items(status, "processes") if isinstance(pid, int)),
        concurrency=max(_count(status, "concurrency"), 1),
        running=max(_count(status, "running"), len(busy)),
        busy=busy,
        done=_count(status, "done"),
        failed=_count(status, "failed"),
        failing=_count(status, "failing"),
        stopping_since=_time(status, "stopping"),
    )


def _with_functions(worker: WorkerView, functions: dict[tuple[str, str], str]) -> WorkerView:
    jobs = (replace(job, func=functions.get((job.queue, job.id), "")) for job in worker.busy)
    return replace(worker, busy=tuple(jobs))


def _busy_jobs(items: list[Any], since_beat: float) -> list[BusyJob]:
    jobs = []
    for item in items:
        match item:
            case [str(job_id), str(queue), int() | float() as seconds] if can_be_key(queue):
                jobs.append(BusyJob(job_id, "", queue, seconds + since_beat))
    return jobs


# Whoever can write to Redis can write a worker's status: what cannot be read is left out.


def _items(status: dict[str, str], field: str) -> list[Any]:
    try:
        value = json.loads(status.get(field, "[]"))
    except ValueError:
        return []
    return value if isinstance(value, list) else []


def _number(status: dict[str, str], field: str) -> float:
    try:
        value = float(status.get(field, ""))
    except ValueError:
        return 0.0
    return value if abs(value) < 1e15 else 0.0


def _count(status: dict[str, str], field: str) -> int:
    return int(_number(status, field))


def _time(status: dict[str, str], field: str) -> datetime | None:
    return utc_from_ms(_number(status, field) * 1000)
