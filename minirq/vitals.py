"""The vitals of a Redis and of what minirq keeps in it, as `minirq doctor` looks at them. Not judged."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Literal

from minirq.connection.binary import version_in
from minirq.overview import Overview, overview
from minirq.protocol import reads
from minirq.protocol.states import JobStatus
from minirq.store import Store

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
class Vitals:
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


def read_vitals(store: Store) -> Vitals:
    """Look at everything. Changes nothing."""
    seen = overview(store)
    names = [queue.name for queue in seen.queues]
    now_ms = store.sender.send(reads.server_time())
    due_ms = now_ms - int(LATE_AFTER * 1000)
    counts = store.sender.send_all(
        [reads.index_count_until(store.keys.of(name), JobStatus.SCHEDULED, due_ms) for name in names]
    )
    aside = [queue.name for queue in seen.queues if queue.unknown]
    ids = store.sender.send_all(
        [reads.index_ids(store.keys.of(name), "unknown", 0, MOST_NAMED - 1) for name in aside]
    )
    lists, is_complete = _search(store)
    return Vitals(
        server=_server(store),
        overview=seen,
        held=tuple(_held(store, lists, now_ms)),
        is_search_complete=is_complete,
        late={name: count for name, count in zip(names, counts, strict=True) if count},
        aside=dict(zip(aside, ids, strict=True)),
    )


def _server(store: Store) -> Server:
    about = store.sender.send(reads.server_info())
    round_trips, ahead = [], []
    for _ in range(_PINGS):
        started, wall = time.perf_counter(), time.time()
        now_ms = store.sender.send(reads.server_time())
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
        cursor, found = store.sender.send(reads.held_lists(store.keys, cursor))
        lists.update(filter(reads.can_be_key, found))
        if not cursor or time.monotonic() > deadline:
            return sorted(lists), not cursor


def _held(store: Store, lists: list[str], now_ms: int) -> list[Held]:
    places = {key: place for key in lists if (place := store.keys.held_by(key))}
    ends = store.sender.send_all([reads.lease_end(store.keys.of(queue), o) for queue, o in places.values()])
    counts = store.sender.send_all([reads.held_in(key) for key in places])
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
