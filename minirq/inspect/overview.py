"""An overview: how queues and workers fare at one moment, as `minirq info` shows it.

It is read in three round trips however many queues and workers there are, and changes nothing. Ended jobs
are counted and never read, so thousands of them cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

from minirq.client.store import Store
from minirq.protocol import queries
from minirq.protocol.keys import Keys, QueueKeys, check_queue_name
from minirq.protocol.payload import id_of
from minirq.protocol.queries import Steps
from minirq.protocol.record import ENDED, JobStatus, Record

__all__ = ["LATE_BEAT", "BusyJob", "Overview", "QueueView", "WorkerView", "overview"]

#: workers beat every few seconds; one that has not for so long may be gone
LATE_BEAT = 15.0

_AHEAD = (JobStatus.SCHEDULED, JobStatus.DEFERRED)


@dataclass(frozen=True, slots=True)
class QueueView:
    """The jobs of a queue, counted by where they are; `unknown` are those with a key that cannot be read.

    `oldest_seconds` is the age of the job that runs next, since it came into the queue; None if nothing
    waits. `paused_until` is None for a queue that is not paused, and for one paused until it is resumed.
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


@dataclass(frozen=True, slots=True)
class BusyJob:
    """A job that runs, and for how long. `func` is empty if its record does not say."""

    id: str
    func: str
    queue: str
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as it described itself at its last beat: it may know more by now.

    Workers may share a `name`; `id` is the name and what tells it apart. A worker that was asked to stop at
    `stopping_since` takes no new jobs.
    Each of `processes` runs up to `concurrency` jobs at once. `running` is how many run; those that run
    longest are in `busy`, up to 100. Redis answers `failing` of the processes with errors.
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
        """How many jobs it can run at once."""
        return len(self.processes) * self.concurrency

    def serves(self, queue: str) -> bool:
        """Whether it takes jobs of this queue."""
        return queue in self.queues and self.stopping_since is None

    def silence(self, at: datetime) -> float:
        """How long it had not been heard of then, seconds."""
        return (at - self.last_beat).total_seconds() if self.last_beat else 0.0


@dataclass(frozen=True, slots=True)
class Overview:
    """Queues and workers, by name, at a time of Redis' clock."""

    at: datetime
    queues: tuple[QueueView, ...]
    workers: tuple[WorkerView, ...]

    def name_of(self, worker: WorkerView) -> str:
        """Its name, or its id where others have the same name."""
        return worker.id if sum(other.name == worker.name for other in self.workers) > 1 else worker.name

    def to_json(self) -> dict[str, Any]:
        """Return plain data with times as ISO 8601."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


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
    asked = [name for name in known if queries.can_be_key(name)] if names is None else names
    counts = {name: _counts(keys.of(name), now_ms) for name in asked}
    portraits = {one: queries.worker_portrait(keys, one) for one in beats if queries.can_be_key(one)}
    replies = iter((yield [*chain.from_iterable(counts.values()), *portraits.values()]))
    counted = {name: list(islice(replies, len(calls))) for name, calls in counts.items()}
    workers = [
        _worker(one, beats[one], portrait, now_ms)
        for one, portrait in zip(portraits, replies, strict=True)
        if portrait
    ]
    if names:
        workers = [worker for worker in workers if not set(names).isdisjoint(worker.queues)]

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
    return Overview(
        _time(now_ms) or datetime.now(UTC),
        tuple(
            _queue(name, reply, running[name], next_records.get(name), now_ms)
            for name, reply in counted.items()
        ),
        tuple(_with_functions(worker, functions) for worker in workers),
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
        *(queries.index_count_from(queue, status, now_ms) for status in ENDED),
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
        paused_until=_time(paused_ms) if paused_ms > now_ms else None,
    )


def _worker(worker_id: str, beat_ms: float, portrait: dict[str, str], now_ms: int) -> WorkerView:
    since_beat = max(now_ms - beat_ms, 0) / 1000 if beat_ms > 0 else 0.0
    busy = tuple(_busy_jobs(_items(portrait, "busy"), since_beat))
    return WorkerView(
        name=portrait.get("name") or worker_id,
        id=worker_id,
        host=portrait.get("host", ""),
        pid=int(_number(portrait.get("pid", ""))),
        queues=tuple(text for text in _items(portrait, "queues") if isinstance(text, str)),
        started=_time(_number(portrait.get("started", "")) * 1000),
        last_beat=_time(beat_ms),
        processes=tuple(pid for pid in _items(portrait, "processes") if isinstance(pid, int)),
        concurrency=max(int(_number(portrait.get("concurrency", ""))), 1),
        running=max(int(_number(portrait.get("running", ""))), len(busy)),
        busy=busy,
        done=int(_number(portrait.get("done", ""))),
        failed=int(_number(portrait.get("failed", ""))),
        failing=int(_number(portrait.get("failing", ""))),
        stopping_since=_time(_number(portrait.get("stopping", "")) * 1000),
    )


def _with_functions(worker: WorkerView, functions: dict[tuple[str, str], str]) -> WorkerView:
    jobs = (replace(job, func=functions.get((job.queue, job.id), "")) for job in worker.busy)
    return replace(worker, busy=tuple(jobs))


def _busy_jobs(items: list[Any], since_beat: float) -> list[BusyJob]:
    jobs = []
    for item in items:
        match item:
            case [str(job_id), str(queue), int() | float() as seconds] if queries.can_be_key(queue):
                jobs.append(BusyJob(job_id, "", queue, seconds + since_beat))
    return jobs


# What a portrait says is written by whoever can write to Redis: read what is readable.


def _items(portrait: dict[str, str], field: str) -> list[Any]:
    try:
        value = json.loads(portrait.get(field, "[]"))
    except ValueError:
        return []
    return value if isinstance(value, list) else []


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if abs(value) < 1e15 else 0.0


def _time(ms: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC) if ms > 0 else None
    except (OverflowError, ValueError, OSError):
        return None


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case datetime():
            return value.isoformat(timespec="milliseconds")
    return value
