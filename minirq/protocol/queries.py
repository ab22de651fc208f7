"""What is read from Redis, and the few plain writes that need no script; then what takes several calls.

Each function of the first part returns a `Call`: one plain command and how its reply is read. Those of the
last part are generators: they yield calls (or lists of calls) and are sent the replies, so the order of
events is written once for whoever has a connection, blocking or asyncio.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from minirq.protocol import commands
from minirq.protocol.commands import Argument, Call, Hint, script, text_of
from minirq.protocol.keys import SUFFIXES, Keys, QueueKeys, can_be_key
from minirq.protocol.payload import id_of
from minirq.protocol.record import Failure, Record, read_failure, read_record

#: how a worker stops: after its running jobs, or at once
Shutdown = Literal["warm", "now"]
#: a worker that does not come back to read it within this is gone, seconds
_SHUTDOWN_SECONDS = 3600

# --- one job ----------------------------------------------------------------------------------


def record(keys: QueueKeys, job_id: str) -> Call[Record | None]:
    """The record of a job, None if there is none."""
    return Call(("HGETALL", keys.job(job_id)), lambda reply: read_record(_mapping(reply)))


def payload(keys: QueueKeys, job_id: str) -> Call[bytes | None]:
    """The payload of a parked job; None while it is in a list, or when it was not kept."""
    return Call(("GET", keys.payload(job_id)), _same)


def errors(keys: QueueKeys, job_id: str) -> Call[list[Failure]]:
    """The last failed attempts and deaths of a job, newest first."""
    return Call(("LRANGE", keys.errors(job_id), 0, -1), lambda reply: [*map(read_failure, reply)])


def is_asked_to_stop(keys: QueueKeys, job_id: str, run: int) -> Call[bool]:
    """Whether this run of a job shall be interrupted."""
    call = ("HMGET", keys.job(job_id), "run", "stop", "gone")
    return Call(call, lambda f: f[0] == b"%d" % run and f[1] is not None and f[2] is None)


def kept_ms(keys: QueueKeys, job_id: str) -> Call[int]:
    """For how long the record is kept, ms; -1 until something happens to the job, -2 without one."""
    return Call(("PTTL", keys.job(job_id)), int)


# --- a queue's lists and indexes --------------------------------------------------------------


def count(keys: QueueKeys) -> Call[int]:
    """How many payloads are waiting."""
    return Call(("LLEN", keys.queue), int)


def waiting(keys: QueueKeys, start: int, stop: int) -> Call[list[bytes]]:
    """Payloads of the waiting list, by Redis index (0 is the newest, -1 the next to run)."""
    return Call(("LRANGE", keys.queue, start, stop), list)


def index_count(
    keys: QueueKeys, status: str, from_ms: int | str = "-inf", until_ms: int | str = "+inf"
) -> Call[int]:
    """How many jobs are parked with this status and leave its index (due, or forgotten) in this time."""
    return Call(("ZCOUNT", keys.index(status), from_ms, until_ms), int)


def index_ids(keys: QueueKeys, status: str, start: int = 0, stop: int = -1) -> Call[list[str]]:
    """The ids parked with this status, the one that leaves first in front."""
    return Call(("ZRANGE", keys.index(status), start, stop), _texts)


def index_score(keys: QueueKeys, status: str, job_id: str) -> Call[float | None]:
    """When a parked job leaves its index, ms of Redis time: due, or forgotten."""
    return Call(("ZSCORE", keys.index(status), job_id), _number)


def paused(keys: QueueKeys) -> Call[int]:
    """Until when a queue is paused, ms of Redis time; -1 until resumed, 0 not at all."""
    return Call(("HGET", keys.meta, "paused"), lambda reply: int(reply or 0))


def has_keys(keys: QueueKeys) -> Call[bool]:
    """Whether a queue has waiting jobs or settings, also where its name is not on the list."""
    return Call(("EXISTS", keys.queue, keys.meta), bool)


def has_any_key(keys: QueueKeys) -> Call[bool]:
    """Whether there is anything of a queue: jobs in any state, owners, settings."""
    return Call(("EXISTS", *(keys.prefix + name for name in SUFFIXES if not name.endswith(":"))), bool)


# --- owners -----------------------------------------------------------------------------------


def owners(keys: QueueKeys) -> Call[list[str]]:
    """The owners of a queue, 5,000 at most: dead ones are left out first."""
    return Call(("ZRANGE", keys.owners, -5000, -1), _texts)


def processing(keys: QueueKeys, owner: str) -> Call[list[bytes]]:
    """The payloads that an owner holds, the newest first."""
    return Call(("LRANGE", keys.processing(owner), 0, -1), list)


def held_count(keys: QueueKeys, owner: str) -> Call[int]:
    """How many payloads an owner holds."""
    return Call(("LLEN", keys.processing(owner)), int)


def lease_end(keys: QueueKeys, owner: str) -> Call[float | None]:
    """When an owner's lease ends, ms of Redis time; negative once it is dead, None if not listed."""
    return Call(("ZSCORE", keys.owners, owner), _number)


def list_owner(keys: QueueKeys, owner: str, end_ms: int) -> Call[int]:
    """Put an owner into the index if it is not there, with a lease that ends then; 1 if that was so."""
    return Call(("ZADD", keys.owners, "NX", end_ms, owner), int)


def no_promoter(keys: QueueKeys) -> Call[int]:
    """Let another worker promote the delayed jobs."""
    return Call(("DEL", keys.promoter), int)


def scan_owners(keys: Keys, cursor: int, count: int) -> Call[tuple[int, list[tuple[str, str]]]]:
    """A step through all keys: the next cursor (0 at the end), and (queue, owner) of processing lists.

    The one search for lists that no index of owners may name any more: for workers and for people.
    """
    _, middle = keys.of("*").processing("").split("*")

    def read(reply: Any) -> tuple[int, list[tuple[str, str]]]:
        # by its prefix, not by the pattern: the namespace may contain what MATCH takes for one
        places = filter(None, map(keys.held_by, _names(reply[1])))
        return int(reply[0]), [(queue, owner) for queue, owner in places if owner]

    return Call(("SCAN", cursor, "MATCH", f"*{middle}*", "COUNT", count), read)


# --- the names of queues ----------------------------------------------------------------------


def queue_names(keys: Keys) -> Call[list[str]]:
    """The names of all queues ever used, sorted."""
    return Call(("SMEMBERS", keys.queues), lambda reply: sorted(_names(reply)))


def scan_queue_names(keys: Keys, cursor: int, count: int) -> Call[tuple[int, list[str]]]:
    """A step through the names of all queues: the next cursor (0 at the end), and names."""
    args = ("SSCAN", keys.queues, cursor, "COUNT", count)
    return Call(args, lambda reply: (int(reply[0]), _names(reply[1])))


def know_queues(keys: Keys, names: Sequence[str]) -> Call[int]:
    """Put names on the list of known queues."""
    return Hint(("SADD", keys.queues, *names), int)


def forget_queue(keys: Keys, name: str) -> Call[int]:
    """Take a queue's name off that list; 1 if it was there. Producers and beats put it back."""
    return Call(("SREM", keys.queues, name), int)


def maintain_from(keys: Keys, names: Sequence[str], at_ms: int, *, is_new: bool = False) -> Call[int]:
    """Let workers of other queues maintain these from then on; `is_new`: only those not in the index yet."""
    return Call(("ZADD", keys.maintenance, *_scored(names, at_ms, is_new)), int)


def forget_maintenance(keys: Keys, names: Sequence[str]) -> Call[int]:
    """Let nobody maintain these queues any more."""
    return Call(("ZREM", keys.maintenance, *names), int)


def note_served(keys: Keys, names: Sequence[str], at_ms: int, *, is_new: bool = False) -> Call[int]:
    """Note when their own workers served these queues; `is_new`: only of those not in the index yet."""
    return Call(("ZADD", keys.served, *_scored(names, at_ms, is_new)), int)


def unserved(keys: Keys, before_ms: int, most: int) -> Call[list[str]]:
    """Names of queues that no worker of their own has served since then."""
    return Call(("ZRANGEBYSCORE", keys.served, "-inf", before_ms, "LIMIT", 0, most), _names)


def forget_served(keys: Keys, names: Sequence[str]) -> Call[int]:
    """Forget when workers served these queues."""
    return Call(("ZREM", keys.served, *names), int)


def _scored(names: Sequence[str], score: int, is_new: bool) -> list[Argument]:
    return [*(["NX"] if is_new else []), *(part for name in names for part in (score, name))]


# --- workers and the server -------------------------------------------------------------------


def show_worker(
    keys: Keys, worker_id: str, status: dict[str, str | int | float], *, now_ms: int, ttl: float
) -> list[Call[Any]]:
    """Show people what a worker is and does; it vanishes after `ttl` seconds without a beat."""
    fields = [part for field in status.items() for part in field]
    return [
        Call((1, keys.worker(worker_id), int(ttl * 1000), *fields), int, script("show")),
        Call(("ZADD", keys.workers, now_ms, worker_id), int),
    ]


def hide_worker(keys: Keys, worker_id: str) -> list[Call[Any]]:
    """Take a worker off the list, with what it was asked."""
    return [
        Call(("DEL", keys.worker(worker_id)), int),
        Call(("DEL", keys.shutdown(worker_id)), int),
        Call(("ZREM", keys.workers, worker_id), int),
    ]


def worker_count(keys: Keys, since_ms: int) -> Call[int]:
    """How many workers have beaten since then."""
    return Call(("ZCOUNT", keys.workers, since_ms, "+inf"), int)


def worker_beats(keys: Keys) -> Call[dict[str, float]]:
    """The workers that were here lately, by id, and their last beats, ms of Redis time; 0 is unknown."""
    return Call(("ZRANGE", keys.workers, 0, -1, "WITHSCORES"), _scores)


def forget_workers(keys: Keys, *, before_ms: int) -> Call[int]:
    """Take workers off the list that have not beaten since then."""
    return Call(("ZREMRANGEBYSCORE", keys.workers, "-inf", before_ms), int)


def worker_status(keys: Keys, worker_id: str) -> Call[dict[str, str]]:
    """What a worker shows of itself; empty once it is gone."""
    return Call(
        ("HGETALL", keys.worker(worker_id)),
        lambda reply: {k.decode(): v.decode("utf-8", "replace") for k, v in _mapping(reply).items()},
    )


def served_queues(keys: Keys, worker_id: str) -> Call[list[str]]:
    """The queues that a worker takes jobs from, as far as it shows them; none if it stops or is gone."""
    return Call(("HMGET", keys.worker(worker_id), "queues", "stopping"), _read_served)


def _read_served(reply: Any) -> list[str]:
    queues, stopping = reply
    try:
        names = json.loads(queues or "[]") if stopping in (None, b"0.0") else []
    except ValueError:
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def ask_to_shut_down(keys: Keys, worker_id: str, how: Shutdown) -> list[Call[Any]]:
    """Ask a worker to stop: a key that it finds at its next beat, and a hint that it need not wait for it."""
    return [
        Call(("SET", keys.shutdown(worker_id), how, "EX", _SHUTDOWN_SECONDS), _same),
        Call(("PUBLISH", keys.stops, shutdown_message(worker_id, how)), int),
    ]


def shutdown_message(worker_id: str, how: Shutdown) -> bytes:
    """The hint that is published when a worker is asked to stop."""
    return f"{how} {worker_id}".encode("utf-8", "surrogateescape")


def shutdown_asked(keys: Keys, worker_id: str) -> Call[Shutdown | None]:
    """How a worker is asked to stop, None if it is not."""
    asked: dict[bytes, Shutdown] = {b"now": "now", b"warm": "warm"}
    return Call(("GET", keys.shutdown(worker_id)), asked.get)


def server_time() -> Call[int]:
    """The server's time, ms."""
    return Call(("TIME",), lambda reply: int(reply[0]) * 1000 + int(reply[1]) // 1000)


def server_info() -> Call[dict[str, Any]]:
    """What the server reports of itself, by the names of INFO."""
    return Call(("INFO",), _read_info)


def _read_info(reply: bytes) -> dict[str, Any]:
    pairs = (line.split(":", 1) for line in reply.decode("utf-8", "replace").splitlines() if ":" in line)
    return {name: int(value) if value.isdigit() else value for name, value in pairs}


# --- what blocks ------------------------------------------------------------------------------


def take_one(keys: QueueKeys, owner: str, seconds: float) -> Call[bool]:
    """Block until a payload has moved into the owner's processing list; False after so many seconds."""
    args = ("BLMOVE", keys.queue, keys.processing(owner), "RIGHT", "LEFT", max(seconds, 0.01))
    return Call(args, lambda reply: reply is not None)


def wait_for_bell(queues: Sequence[QueueKeys], seconds: float) -> Call[bool]:
    """Block until the bell of one of the queues rings; False after so many seconds."""
    return Call(("BZPOPMIN", *(keys.bell for keys in queues), max(seconds, 0.01)), bool)


def wait_for_mail(queues: Sequence[QueueKeys], waiter: str, seconds: float) -> Call[str | None]:
    """Block until one of the waiter's mailboxes has an id, and take it; None after so many seconds."""
    mailboxes = (keys.mailbox(waiter) for keys in queues)
    return Call(("BLPOP", *mailboxes, max(seconds, 0.01)), lambda reply: reply and text_of(reply[1]))


def take_mail(keys: QueueKeys, waiter: str, most: int = 1000) -> Call[list[str]]:
    """Take the ids out of a waiter's mailbox, without blocking."""
    return Call(("LPOP", keys.mailbox(waiter), most), lambda reply: _texts(reply or ()))


def remove_mailbox(keys: QueueKeys, waiter: str) -> Call[int]:
    """Remove a waiter's mailbox."""
    return Call(("DEL", keys.mailbox(waiter)), int)


# --- how replies are read ---------------------------------------------------------------------


def _number(reply: Any) -> float | None:
    return None if reply is None else float(reply)


def _same(reply: Any) -> Any:
    return reply


def _texts(reply: Any) -> list[str]:
    return [text_of(value) for value in reply]


def _names(reply: Any) -> list[str]:
    return [name for name in map(text_of, reply) if can_be_key(name)]


def _scores(reply: Any) -> dict[str, float]:
    # redis-py pairs and converts the reply in some versions, and leaves it flat in others
    is_paired = bool(reply) and isinstance(reply[0], (list, tuple))
    pairs = reply if is_paired else zip(reply[::2], reply[1::2], strict=True)
    named = ((text_of(name), float(score)) for name, score in sorted(pairs))
    return {name: score for name, score in named if can_be_key(name)}


def _mapping(reply: Any) -> dict[bytes, bytes]:
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


# --- what takes several calls -----------------------------------------------------------------

T = TypeVar("T")
Steps = Generator[Any, Any, T]

#: payloads read at a time when a list is searched
CHUNK = 500


@dataclass(frozen=True, slots=True)
class Found:
    """Where a job is known: its queue and its record."""

    queue: str
    record: Record


@dataclass(frozen=True, slots=True)
class Waiting:
    """A payload in the waiting list; position 0 runs next."""

    position: int
    payload: bytes


def find(keys: Keys, job_ids: list[str], queue: str | None = None) -> Steps[list[Found | None]]:
    """Look jobs up by id: in one queue, or in all known ones, in one pipeline."""
    names = [queue] if queue is not None else (yield queue_names(keys))
    lookups = [record(keys.of(name), job_id) for job_id in job_ids for name in names]
    now_ms, *records = yield [server_time(), *lookups]
    found: list[Found | None] = []
    for i in range(len(job_ids)):
        mine = zip(names, records[i * len(names) : (i + 1) * len(names)], strict=True)
        found.append(next((Found(name, record.seen_at(now_ms)) for name, record in mine if record), None))
    return found


def locate(keys: QueueKeys, job_id: str) -> Steps[Waiting | None]:
    """Search the waiting list for a job, from the end that runs next. Jobs that leave meanwhile shift it."""
    position = 0
    while True:
        chunk = yield waiting(keys, -position - CHUNK, -position - 1)
        for offset, payload in enumerate(reversed(chunk)):
            if id_of(payload) == job_id:
                return Waiting(position + offset, payload)
        if len(chunk) < CHUNK:
            return None
        position += CHUNK


def find_payload(keys: QueueKeys, job_id: str, record: Record | None) -> Steps[bytes | None]:
    """Return a job's payload from wherever it is: parked, held by an owner, or waiting (a search)."""
    parked = yield payload(keys, job_id)
    if parked is not None:
        return bytes(parked)
    if record is not None and record.owner:
        held = yield from find_held(keys, job_id, record.owner)
        if held is not None:
            return held
    waiting = yield from locate(keys, job_id)
    return waiting.payload if waiting else None


def find_held(keys: QueueKeys, job_id: str, owner: str) -> Steps[bytes | None]:
    """Return a job's payload from an owner's processing list."""
    held = yield processing(keys, owner)
    return next((bytes(payload) for payload in held if id_of(payload) == job_id), None)


def cancel(keys: QueueKeys, job_id: str, *, keep: bool = True) -> Steps[str]:
    """Cancel or delete a job, a waiting one out of the list. Returns the status it had, "" without one.

    If this is cut short, or a worker takes the payload meanwhile, the claim that meets it clears it away.
    """
    status = yield commands.cancel(keys, job_id, keep=keep)
    if status != "waiting":
        return str(status)
    waiting = yield from locate(keys, job_id)
    if waiting is not None:
        yield commands.cancel(keys, job_id, keep=keep, payload=waiting.payload)
    return "queued"


def empty(keys: QueueKeys, place: str) -> Steps[int]:
    """Delete all jobs of one place that are there now; returns how many."""
    deleted = 0
    while True:
        seen, gone = yield commands.empty(keys, place)
        deleted += gone
        if not seen:
            return int(deleted)
