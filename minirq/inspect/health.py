"""What is wrong with this Redis and its queues, and what to do about it? `minirq doctor` shows the findings.

`read_health` takes the measurements and changes nothing; `findings` decides from them alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, Literal

from minirq.client.store import Store
from minirq.durations import span
from minirq.embedded.server import product_in, version_in
from minirq.exceptions import ServerFault
from minirq.inspect.overview import LATE_BEAT, Overview, QueueView, overview
from minirq.protocol import queries
from minirq.protocol.defaults import MANY_FAILED
from minirq.protocol.record import JobStatus
from minirq.text import counted, safe_text, shell_word

__all__ = ["Finding", "Health", "OrphanedList", "findings", "look", "read_health"]

Mark = Literal["ok", "warn", "bad"]
Info = dict[str, Any]

#: the search for lists without a living owner walks over all keys; it is cut short after this, seconds
SEARCH_SECONDS = 5.0
_SCAN_COUNT = 5000
#: a delayed job is overdue if it is still parked this long after its time, seconds
OVERDUE_AFTER = 15.0
#: jobs of a queue that were set aside and are named
MOST_NAMED = 5
_PINGS = 5
#: slower round trips are worth a warning, seconds
_SLOW = 0.02
#: clocks further apart than this make `enqueue_at` and the times that people see wrong, seconds
_CLOCK_OFF = 1.0
#: shares of maxmemory
_FILLING, _FULL = 0.8, 0.95
#: the next sweep takes back the jobs of a dead owner, and comes within this, seconds
_SWEPT_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked. `advice` says what to do; it is empty if there is nothing to do."""

    subject: str
    mark: Mark
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class OrphanedList:
    """A list of claimed jobs whose owner is not alive.

    The owner was never registered, is known to be dead, or its lease expired; the last two `seconds` ago.
    """

    queue: str
    owner: str
    jobs: int
    state: Literal["unregistered", "dead", "late"]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """Everything that is checked.

    `info` is what INFO answers. `clock_ahead` is how far Redis' clock is ahead of this host's. `overdue`
    counts the delayed jobs of a queue that should have run by now. `set_aside` names the first jobs of a
    queue that were set aside. Durations are in seconds.
    """

    info: Info
    round_trip: float
    clock_ahead: float
    overview: Overview
    orphaned: tuple[OrphanedList, ...]
    is_search_complete: bool
    overdue: dict[str, int]
    set_aside: dict[str, list[str]]


def look(store: Store) -> list[Finding]:
    """Check the server, the workers and the queues. Changes nothing. Raises ServerFault."""
    try:
        health = read_health(store)
    except ServerFault as error:
        text = "a key cannot be read, so claims may fail: delete or rename what is of another type"
        raise ServerFault(f"{text}: {error}") from error
    return list(findings(health))


# --- measurements -----------------------------------------------------------------------------


def read_health(store: Store) -> Health:
    """Measure everything. Changes nothing."""
    seen = overview(store)
    names = [queue.name for queue in seen.queues]
    now_ms = store.sender.send(queries.server_time())
    due_ms = now_ms - int(OVERDUE_AFTER * 1000)
    counts = store.sender.send_all(
        [queries.index_count(store.keys.of(name), JobStatus.SCHEDULED, until_ms=due_ms) for name in names]
    )
    aside = [queue.name for queue in seen.queues if queue.unknown]
    ids = store.sender.send_all(
        [queries.index_ids(store.keys.of(name), "unknown", 0, MOST_NAMED - 1) for name in aside]
    )
    owners, is_complete = _search(store)
    round_trip, clock_ahead = _ping(store)
    return Health(
        info=store.sender.send(queries.server_info()),
        round_trip=round_trip,
        clock_ahead=clock_ahead,
        overview=seen,
        orphaned=tuple(_orphaned(store, owners, now_ms)),
        is_search_complete=is_complete,
        overdue={name: count for name, count in zip(names, counts, strict=True) if count},
        set_aside=dict(zip(aside, ids, strict=True)),
    )


def _ping(store: Store) -> tuple[float, float]:
    """The time of a round trip, and how far Redis' clock is ahead of this host's."""
    round_trips, ahead = [], []
    for _ in range(_PINGS):
        started, wall = time.perf_counter(), time.time()
        now_ms = store.sender.send(queries.server_time())
        took = time.perf_counter() - started
        round_trips.append(took)
        ahead.append(now_ms / 1000 - (wall + took / 2))
    return median(round_trips), median(ahead)


def _search(store: Store) -> tuple[list[tuple[str, str]], bool]:
    """The queue and owner of every processing list, and whether the search was completed."""
    owners: set[tuple[str, str]] = set()
    cursor, deadline = 0, time.monotonic() + SEARCH_SECONDS
    while True:
        cursor, found = store.sender.send(queries.scan_owners(store.keys, cursor, _SCAN_COUNT))
        owners.update(found)
        if not cursor or time.monotonic() > deadline:
            return sorted(owners), not cursor


def _orphaned(store: Store, owners: list[tuple[str, str]], now_ms: int) -> Iterator[OrphanedList]:
    ends = store.sender.send_all([queries.lease_end(store.keys.of(queue), owner) for queue, owner in owners])
    counts = store.sender.send_all(
        [queries.held_count(store.keys.of(queue), owner) for queue, owner in owners]
    )
    for (queue, owner), end_ms, jobs in zip(owners, ends, counts, strict=True):
        if not jobs or (end_ms is not None and end_ms > now_ms):
            continue
        if end_ms is None:
            yield OrphanedList(queue, owner, jobs, "unregistered")
        elif end_ms < 0:
            yield OrphanedList(queue, owner, jobs, "dead", max(now_ms + end_ms, 0) / 1000)
        else:
            yield OrphanedList(queue, owner, jobs, "late", (now_ms - end_ms) / 1000)


# --- findings ---------------------------------------------------------------------------------


def findings(health: Health) -> Iterator[Finding]:
    """Turn measurements into findings."""
    yield _server(health.info)
    yield _distance(health.round_trip)
    yield _eviction(health.info)
    yield from _persistence(health.info, health.overview.at)
    yield _memory(health.info)
    yield _clock(health.clock_ahead)
    yield from _workers(health.overview)
    for queue in health.overview.queues:
        yield from _queue(queue, health)
    yield from _orphans(health)


def _server(info: Info) -> Finding:
    name = f"{product_in(info).capitalize()} {safe_text(version_in(info))}"
    role = safe_text(str(info.get("role", "master")))
    mode = safe_text(str(info.get("redis_mode") or info.get("server_mode")))  # Redis, Valkey
    if role not in ("master", "primary"):
        return Finding("server", "bad", f"{name} is a {role}: it takes no jobs", "Use the URL of its master.")
    if mode == "cluster":
        return Finding("server", "bad", f"{name} is a cluster", "Use a standalone server or Sentinel.")
    return Finding("server", "ok", f"{name}, {mode}")


def _distance(round_trip: float) -> Finding:
    text = f"A round trip takes {round_trip * 1000:.1f} ms"
    if round_trip <= _SLOW:
        return Finding("distance", "ok", text)
    return Finding("distance", "warn", text, "Run workers closer to Redis, or find out what slows it down.")


def _eviction(info: Info) -> Finding:
    advice = "Set maxmemory-policy to noeviction."
    policy = safe_text(str(info.get("maxmemory_policy", "")))
    if policy.startswith("allkeys"):
        return Finding("eviction", "bad", f"When memory is short, {policy} evicts jobs", advice)
    if evicted := _number(info, "evicted_keys"):
        text = f"{evicted:,} keys were evicted since Redis started; they may have been jobs or results"
        return Finding("eviction", "warn", text, f"Give it more memory. {advice}")
    if policy.startswith("volatile"):
        text = f"When memory is short, {policy} evicts the records of ended jobs, and no others"
        return Finding("eviction", "ok", text)
    return Finding("eviction", "ok", f"{policy}: nothing is evicted")


def _persistence(info: Info, now: datetime) -> Iterator[Finding]:
    subject = "persistence"
    if info.get("aof_last_write_status", "ok") != "ok":
        yield Finding(subject, "bad", "The append-only file cannot be written", "See Redis' log: disk full?")
    elif _number(info, "aof_enabled"):
        yield Finding(subject, "ok", "An append-only file is kept")
    else:
        ago = span(max(now.timestamp() - _number(info, "rdb_last_save_time"), 0.0))
        text = f"No append-only file is kept: a crash loses everything since the last snapshot, {ago} ago"
        yield Finding(subject, "warn", text, "Set appendonly yes, and appendfsync everysec.")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        text = "The last snapshot failed: Redis refuses all writes, unless configured otherwise"
        yield Finding(subject, "bad", text, "See Redis' log: disk full, or no memory for a fork?")


def _memory(info: Info) -> Finding:
    used, limit = _number(info, "used_memory"), _number(info, "maxmemory")
    if not limit:
        return Finding("memory", "ok", f"{_size(used)} in use, no limit is set")
    text = f"{_size(used)} of {_size(limit)} in use ({used / limit:.0%})"
    advice = "Raise maxmemory, or keep results for a shorter time (result_ttl)."
    if used >= _FULL * limit:
        return Finding("memory", "bad", f"{text}: new jobs will soon be refused", advice)
    return (
        Finding("memory", "warn", text, advice) if used >= _FILLING * limit else Finding("memory", "ok", text)
    )


def _clock(ahead: float) -> Finding:
    if abs(ahead) < _CLOCK_OFF:
        return Finding("clock", "ok", "The clocks of Redis and of this host agree")
    text = f"The clock of Redis is {span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} this host's"
    return Finding("clock", "warn", text, "Synchronize both (NTP): enqueue_at uses the clock of Redis.")


def _workers(seen: Overview) -> Iterator[Finding]:
    if not seen.workers:
        yield Finding("workers", "warn", "No worker is running", "Start one: minirq worker")
        return
    processes = counted(sum(len(worker.processes) for worker in seen.workers), "process", "processes")
    yield Finding("workers", "ok", f"{len(seen.workers):,} running, with {processes}")
    for worker in seen.workers:
        name = safe_text(seen.name_of(worker))
        if worker.failing:
            where = f"{counted(worker.failing, 'process', 'processes')} of worker {name}"
            text = f"Claims fail in {where}: Redis answers them with errors"
            advice = "The worker's log has the error: repair or delete the key."
            yield Finding("workers", "bad", text, advice)
        if worker.silence(seen.at) >= LATE_BEAT:
            text = f"Worker {name} has sent no heartbeat for {span(worker.silence(seen.at))}"
            yield Finding("workers", "warn", text, "It is dead, frozen or cut off from Redis: see its log.")


def _queue(queue: QueueView, health: Health) -> Iterator[Finding]:
    subject = f"queue {safe_text(queue.name)}"
    troubles = [Finding(subject, *trouble) for trouble in _troubles(queue, health)]
    yield from troubles
    if not troubles:
        yield Finding(subject, "ok", f"{_waiting(queue)}, {queue.running:,} running")


def _troubles(queue: QueueView, health: Health) -> Iterator[tuple[Mark, str, str]]:
    """What is wrong with a queue: how bad, what, and what to do."""
    word, workers = shell_word(queue.name, "QUEUE"), health.overview.workers
    if queue.is_paused:
        yield "warn", f"It is suspended, and {_waiting(queue)}", f"To resume: minirq resume {word}"
    if queue.waiting and not any(worker.serves(queue.name) for worker in workers):
        yield "bad", f"{_waiting(queue)}, and no worker serves it", f"Start one: minirq worker {word}"
    if overdue := health.overdue.get(queue.name):
        text = f"{counted(overdue, 'delayed job is', 'delayed jobs are')} overdue: no worker moves them"
        yield "bad", text, "See the workers' logs." if workers else "Start a worker, for any queue."
    if queue.unknown:
        ids = " ".join(shell_word(job_id, "ID") for job_id in health.set_aside.get(queue.name, []))
        text = f"{counted(queue.unknown, 'job is', 'jobs are')} set aside: they have keys that cannot be read"
        advice = f"Repair or delete these keys, as the workers' logs say, then: minirq requeue {ids}"
        yield "bad", text, advice
    if queue.failed:
        text = f"{counted(queue.failed, 'failed job is', 'failed jobs are')} kept"
        advice = f"See why with minirq job ID; run them again: minirq requeue --all --queue {word}"
        if queue.failed >= MANY_FAILED:
            yield "bad", text, f"{advice}; or delete them: minirq empty {word} --failed"
        else:
            yield "warn", text, advice


def _orphans(health: Health) -> Iterator[Finding]:
    found = [finding for orphan in health.orphaned if (finding := _orphan(orphan, health))]
    yield from found
    if not health.is_search_complete:
        text = "The search for jobs without an owner was cut short: there are too many keys"
        yield Finding("orphans", "warn", text, "Run this again when Redis is less busy.")
    elif not found:
        yield Finding("orphans", "ok", "All claimed jobs have a living owner")


def _orphan(orphan: OrphanedList, health: Health) -> Finding | None:
    subject = f"queue {safe_text(orphan.queue)}"
    text = f"{counted(orphan.jobs, 'job is', 'jobs are')} held by {safe_text(orphan.owner)}"
    has_workers, is_soon = bool(health.overview.workers), orphan.seconds <= _SWEPT_WITHIN
    advice = "See the workers' logs." if has_workers else "Start a worker: it takes them back."
    match orphan.state:
        case "unregistered":
            search = "Wait 5 minutes: workers search" if has_workers else "Start a worker: it searches"
            advice = f"{search} for such jobs. Was the key 'owners' of this queue deleted?"
            return Finding(subject, "bad", f"{text}, which is not registered", advice)
        case "late":
            text += f", whose lease expired {span(orphan.seconds)} ago"
            is_warning = has_workers and is_soon
            mark: Mark = "warn" if is_warning else "bad"
            return Finding(subject, mark, text, "Wait a minute." if is_warning else advice)
    if is_soon:
        return None  # the next sweep takes them back
    return Finding(subject, "bad", f"{text}, which has been dead for {span(orphan.seconds)}", advice)


def _waiting(queue: QueueView) -> str:
    return counted(queue.waiting, "job is waiting", "jobs are waiting")


def _number(info: Info, name: str) -> int:
    return int(info.get(name) or 0)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
