"""The vitals of a Redis and of what minirq keeps in it, as `minirq doctor` looks at them. Not judged.

The doctor: what is wrong with a Redis and with its queues, and what to do. Decides from the vitals.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal

from minirq.client.store import Store
from minirq.durations import span
from minirq.embedded.server import version_in
from minirq.exceptions import ServerFault
from minirq.inspect.overview import LATE_BEAT, Overview, QueueView, overview
from minirq.protocol import queries
from minirq.protocol.defaults import MANY_FAILED
from minirq.protocol.record import JobStatus
from minirq.text import counted, safe_text, shell_word

#: the search for lists without an owner walks over all keys; it is given up after this, seconds
SEARCH_PATIENCE = 5.0
#: a delayed job is late if it is still parked so long after its time, seconds
LATE_AFTER = 15.0
#: jobs of a queue that are set aside and named
MOST_NAMED = 5
_PINGS = 5


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself, and how it answers. Sizes in bytes, spans in seconds.

    `clock_ahead` is how far its clock is ahead of this host's.
    """

    name: str
    version: str
    mode: str
    role: str
    policy: str
    evicted: int
    memory: int
    max_memory: int
    has_aof: bool
    can_write_aof: bool
    can_snapshot: bool
    since_snapshot: float
    round_trip: float
    clock_ahead: float


@dataclass(frozen=True, slots=True)
class Held:
    """A list of jobs whose owner does not live: never registered, buried for so long, or late for so long."""

    queue: str
    owner: str
    jobs: int
    state: Literal["unknown", "buried", "late"]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """All that is looked at.

    `late` says how many delayed jobs of which queue should have come by now, `aside` which jobs of it are
    set aside: the first ones of them.
    """

    server: Server
    overview: Overview
    held: tuple[Held, ...]
    is_search_complete: bool
    late: dict[str, int]
    aside: dict[str, list[str]]


def read_vitals(store: Store) -> Health:
    """Look at everything. Changes nothing."""
    seen = overview(store)
    names = [queue.name for queue in seen.queues]
    now_ms = store.sender.send(queries.server_time())
    due_ms = now_ms - int(LATE_AFTER * 1000)
    counts = store.sender.send_all(
        [queries.index_count_until(store.keys.of(name), JobStatus.SCHEDULED, due_ms) for name in names]
    )
    aside = [queue.name for queue in seen.queues if queue.unknown]
    ids = store.sender.send_all(
        [queries.index_ids(store.keys.of(name), "unknown", 0, MOST_NAMED - 1) for name in aside]
    )
    lists, is_complete = _search(store)
    return Health(
        server=_read_server(store),
        overview=seen,
        held=tuple(_held(store, lists, now_ms)),
        is_search_complete=is_complete,
        late={name: count for name, count in zip(names, counts, strict=True) if count},
        aside=dict(zip(aside, ids, strict=True)),
    )


def _read_server(store: Store) -> Server:
    about = store.sender.send(queries.server_info())
    round_trips, ahead = [], []
    for _ in range(_PINGS):
        started, wall = time.perf_counter(), time.time()
        now_ms = store.sender.send(queries.server_time())
        took = time.perf_counter() - started
        round_trips.append(took)
        ahead.append(now_ms / 1000 - (wall + took / 2))

    def number(name: str) -> int:
        return int(about.get(name) or 0)

    return Server(
        name="valkey" if "valkey_version" in about else "redis",
        version=version_in(about),
        mode=str(about.get("redis_mode", "standalone")),
        role=str(about.get("role", "master")),
        policy=str(about.get("maxmemory_policy", "")),
        evicted=number("evicted_keys"),
        memory=number("used_memory"),
        max_memory=number("maxmemory"),
        has_aof=bool(number("aof_enabled")),
        can_write_aof=about.get("aof_last_write_status", "ok") == "ok",
        can_snapshot=about.get("rdb_last_bgsave_status", "ok") == "ok",
        since_snapshot=max(time.time() - number("rdb_last_save_time"), 0.0),
        round_trip=median(round_trips),
        clock_ahead=median(ahead),
    )


def _search(store: Store) -> tuple[list[str], bool]:
    """All processing lists, and whether the search came to its end."""
    lists: set[str] = set()
    cursor, deadline = 0, time.monotonic() + SEARCH_PATIENCE
    while True:
        cursor, found = store.sender.send(queries.held_lists(store.keys, cursor))
        lists.update(filter(queries.can_be_key, found))
        if not cursor or time.monotonic() > deadline:
            return sorted(lists), not cursor


def _held(store: Store, lists: list[str], now_ms: int) -> list[Held]:
    places = {key: place for key in lists if (place := store.keys.held_by(key))}
    ends = store.sender.send_all([queries.lease_end(store.keys.of(queue), o) for queue, o in places.values()])
    counts = store.sender.send_all([queries.held_in(key) for key in places])
    return [
        held
        for (queue, owner), lease_end, jobs in zip(places.values(), ends, counts, strict=True)
        if jobs and (held := _without_life(queue, owner, jobs, lease_end, now_ms))
    ]


def _without_life(queue: str, owner: str, jobs: int, lease_end: float | None, now_ms: int) -> Held | None:
    if lease_end is None:
        return Held(queue, owner, jobs, "unknown")
    if lease_end < 0:
        return Held(queue, owner, jobs, "buried", max(now_ms + lease_end, 0) / 1000)
    return Held(queue, owner, jobs, "late", (now_ms - lease_end) / 1000) if lease_end <= now_ms else None


__all__ = ["Finding", "findings", "look"]

Mark = Literal["ok", "warn", "bad"]

#: from here on each round trip is felt, seconds
_SLOW = 0.02
#: `enqueue_at` and the times that people see are off by so much, seconds
_CLOCK_OFF = 1.0
#: shares of maxmemory
_FILLING, _FULL = 0.8, 0.95
#: a buried owner's jobs are found by the next sweep, which comes sooner than this, seconds
_SWEPT_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` says what to do, and is empty where nothing is to be done."""

    subject: str
    mark: Mark
    text: str
    advice: str = ""


def look(store: Store) -> list[Finding]:
    """Look at the server, the workers and the queues. Changes nothing. Raises ServerFault."""
    try:
        vitals = read_vitals(store)
    except ServerFault as error:
        text = "a key cannot be read, so claims may fail: delete or rename what is of another type"
        raise ServerFault(f"{text}: {error}") from error
    return list(findings(vitals))


def findings(vitals: Health) -> Iterator[Finding]:
    """Say what is to be thought of these vitals."""
    yield from _server(vitals.server)
    yield _eviction(vitals.server)
    yield from _persistence(vitals.server)
    yield _memory(vitals.server)
    yield _clock(vitals.server)
    yield from _workers(vitals)
    for queue in vitals.overview.queues:
        yield from _queue(queue, vitals)
    yield from _orphans(vitals)


# --- the server -------------------------------------------------------------------------------


def _server(server: Server) -> Iterator[Finding]:
    name = f"{server.name.capitalize()} {safe_text(server.version)}"
    if server.role not in ("master", "primary"):
        yield Finding(
            "server",
            "bad",
            f"{name} is a {safe_text(server.role)}: it takes no jobs",
            "Use the URL of its master.",
        )
    elif server.mode == "cluster":
        yield Finding("server", "bad", f"{name} is a cluster", "Use a standalone server or Sentinel.")
    else:
        yield Finding("server", "ok", f"{name}, {safe_text(server.mode)}")
    milliseconds = f"A round trip takes {server.round_trip * 1000:.1f} ms"
    if server.round_trip > _SLOW:
        yield Finding(
            "distance", "warn", milliseconds, "Run workers closer to Redis, or look what slows it down."
        )
    else:
        yield Finding("distance", "ok", milliseconds)


def _eviction(server: Server) -> Finding:
    to_do = "Set maxmemory-policy to noeviction."
    if server.policy.startswith("allkeys"):
        return Finding("eviction", "bad", f"When memory is short, {server.policy} throws jobs away", to_do)
    if server.evicted:
        text = (
            f"{server.evicted:,} keys were thrown away since it started; they may have been jobs or results"
        )
        return Finding("eviction", "warn", text, f"Give it more memory. {to_do}")
    if server.policy.startswith("volatile"):
        text = f"{server.policy} throws away records of ended jobs when memory is short, and no others"
        return Finding("eviction", "ok", text)
    return Finding("eviction", "ok", f"{safe_text(server.policy)}: nothing is thrown away")


def _persistence(server: Server) -> Iterator[Finding]:
    if not server.can_write_aof:
        yield Finding(
            "persistence", "bad", "The append-only file cannot be written", "See Redis' log: disk full?"
        )
    elif server.has_aof:
        yield Finding("persistence", "ok", "An append-only file is kept")
    else:
        text = (
            "No append-only file is kept: a crash loses what came after the last snapshot,"
            f" {span(server.since_snapshot)} ago"
        )
        yield Finding("persistence", "warn", text, "Set appendonly yes, and appendfsync everysec.")
    if not server.can_snapshot:
        text = "The last snapshot failed: Redis refuses all writes, unless it was told otherwise"
        yield Finding("persistence", "bad", text, "See Redis' log: disk full, or no memory for a fork?")


def _memory(server: Server) -> Finding:
    if not server.max_memory:
        return Finding("memory", "ok", f"{_size(server.memory)} in use, no limit is set")
    share = server.memory / server.max_memory
    text = f"{_size(server.memory)} of {_size(server.max_memory)} in use ({share:.0%})"
    to_do = "Raise maxmemory, or keep results for a shorter time (result_ttl)."
    if share >= _FULL:
        return Finding("memory", "bad", f"{text}: jobs are refused soon", to_do)
    return Finding("memory", "warn", text, to_do) if share >= _FILLING else Finding("memory", "ok", text)


def _clock(server: Server) -> Finding:
    ahead = server.clock_ahead
    if abs(ahead) < _CLOCK_OFF:
        return Finding("clock", "ok", "The clocks of Redis and of this host agree")
    text = f"The clock of Redis is {span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} this host's"
    return Finding("clock", "warn", text, "Set both (NTP): enqueue_at means the clock of Redis.")


# --- workers and queues -----------------------------------------------------------------------


def _workers(vitals: Health) -> Iterator[Finding]:
    seen = vitals.overview
    if not seen.workers:
        yield Finding("workers", "warn", "No worker is running", "Start one: minirq worker")
        return
    processes = sum(len(worker.processes) for worker in seen.workers)
    yield Finding(
        "workers", "ok", f"{len(seen.workers):,} running, with {counted(processes, 'process', 'processes')}"
    )
    for worker in seen.workers:
        if worker.failing:
            yield Finding(
                "workers",
                "bad",
                f"Claims fail in {counted(worker.failing, 'process', 'processes')} of worker"
                f" {safe_text(seen.name_of(worker))}: Redis answers them with errors",
                "Its log has the error: mend or delete the key.",
            )
        silence = worker.silence(vitals.overview.at)
        if silence >= LATE_BEAT:
            text = f"Worker {safe_text(seen.name_of(worker))} has not been heard of for {span(silence)}"
            yield Finding("workers", "warn", text, "It is dead, frozen or cut off from Redis: see its log.")


def _queue(queue: QueueView, vitals: Health) -> Iterator[Finding]:
    subject, word = f"queue {safe_text(queue.name)}", shell_word(queue.name, "QUEUE")
    is_served = any(worker.serves(queue.name) for worker in vitals.overview.workers)
    trouble = False
    if queue.is_paused:
        trouble = True
        text = f"It is suspended, and {_wait(queue.waiting)}"
        yield Finding(subject, "warn", text, f"Go on with: minirq resume {word}")
    if queue.waiting and not is_served:
        trouble = True
        text = f"{_wait(queue.waiting)}, and no worker serves it"
        yield Finding(subject, "bad", text, f"Start one: minirq worker {word}")
    if late := vitals.late.get(queue.name):
        trouble = True
        to_do = (
            "See the log of the workers." if vitals.overview.workers else "Start a worker: any of them does."
        )
        yield Finding(
            subject,
            "bad",
            f"{counted(late, 'delayed job is', 'delayed jobs are')} overdue: no worker moves them",
            to_do,
        )
    if queue.unknown:
        trouble = True
        ids = " ".join(shell_word(job_id, "ID") for job_id in vitals.aside.get(queue.name, []))
        yield Finding(
            subject,
            "bad",
            f"{counted(queue.unknown, 'job is', 'jobs are')} set aside: they have keys that cannot be read",
            f"Mend or delete these keys, as the log of the workers says, then: minirq requeue {ids}",
        )
    if queue.failed:
        trouble = True
        to_do = f"See why with minirq job ID; run them again: minirq requeue --all --queue {word}"
        mark: Mark = "warn"
        if queue.failed >= MANY_FAILED:
            mark, to_do = "bad", f"{to_do}; or delete them: minirq empty {word} --failed"
        yield Finding(
            subject, mark, f"{counted(queue.failed, 'failed job is', 'failed jobs are')} kept", to_do
        )
    if not trouble:
        yield Finding(subject, "ok", f"{_wait(queue.waiting)}, {queue.running:,} run")


def _orphans(vitals: Health) -> Iterator[Finding]:
    found = [finding for held in vitals.held if (finding := _orphan(held, vitals))]
    yield from found
    if not vitals.is_search_complete:
        text = "Jobs that nobody owns were looked for in a part of the keys only, as there are many"
        yield Finding("orphans", "warn", text, "Run this again when Redis has less to do.")
    elif not found:
        yield Finding("orphans", "ok", "Every job that is held has a living owner")


def _orphan(held: Held, vitals: Health) -> Finding | None:
    subject = f"queue {safe_text(held.queue)}"
    text = f"{counted(held.jobs, 'job is', 'jobs are')} held by {safe_text(held.owner)}"
    has_workers = bool(vitals.overview.workers)
    to_do = "See the log of the workers." if has_workers else "Start a worker: it takes them back."
    match held.state:
        case "unknown":
            to_do = "Nobody takes them back by itself. Was the key 'owners' of this queue deleted?"
            return Finding(subject, "bad", f"{text}, who is not registered", to_do)
        case "buried" if held.seconds > _SWEPT_WITHIN:
            return Finding(subject, "bad", f"{text}, who has been dead for {span(held.seconds)}", to_do)
        case "late":
            text = f"{text}, whose lease ran out {span(held.seconds)} ago"
            is_soon = has_workers and held.seconds < _SWEPT_WITHIN
            return Finding(
                subject, "warn" if is_soon else "bad", text, "Wait a minute." if is_soon else to_do
            )
    return None  # dead for a moment: the next sweep finds it


def _wait(count: int) -> str:
    return counted(count, "job waits", "jobs wait")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
