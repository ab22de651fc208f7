"""The whole server at one moment: every key with its type, its TTL and what the audit has to know of it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgpack
import redis as redis_py
from faults.chaos.trace import JobKey

from minirq.protocol.payload import id_of

# one script, so that no TTL runs out and no job moves while it looks
_READ = """
local found = {}
for _, key in ipairs(redis.call("KEYS", "minirq:*")) do
  local kind, holds = redis.call("TYPE", key).ok, {}
  if kind == "list" and not key:find(":errors:", 1, true) then holds = redis.call("LRANGE", key, 0, -1)
  elseif kind == "zset" then holds = redis.call("ZRANGE", key, 0, -1, "WITHSCORES")
  elseif kind == "set" then holds = redis.call("SMEMBERS", key)
  elseif kind == "hash" and key:find(":job:", 1, true) then
    holds = redis.call("HMGET", key, "status", "ended_ms", "lost", "meta")
  end
  found[#found + 1] = {key, kind, redis.call("PTTL", key), holds}
end
local now = redis.call("TIME")
return {now[1] * 1000 + math.floor(now[2] / 1000), found}
"""
#: the indexes of jobs that are parked
#: global keys that workers tend
_INDEXES = ("workers", "maintenance", "served")
_LIVING = ("scheduled", "deferred")
PARKED = (*_LIVING, "finished", "failed", "canceled", "stopped", "expired")


@dataclass(frozen=True)
class Record:
    """A job's hash. `ttl_ms` is -1 without one; `token` is the call that it was enqueued with."""

    status: str
    ended: float
    lost: int
    token: str
    ttl_ms: int


@dataclass
class Snapshot:
    """What is where. `unknown` are keys of no kind that minirq has without a TTL."""

    now_ms: int = 0
    records: dict[JobKey, Record] = field(default_factory=dict)
    waiting: dict[JobKey, int] = field(default_factory=lambda: defaultdict(int))
    held: dict[JobKey, list[str]] = field(default_factory=lambda: defaultdict(list))
    parked: dict[JobKey, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    #: TTLs of payload:<id> and errors:<id>, ms
    beside: dict[str, dict[JobKey, int]] = field(default_factory=lambda: defaultdict(dict))
    unknown: list[str] = field(default_factory=list)
    queues: set[str] = field(default_factory=set)
    #: queues that have any key
    used: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, client: redis_py.Redis) -> Snapshot:
        """Look at everything, in one step."""
        snapshot = cls()
        # by EVALSHA would be to have two reasons for a script that is not there
        snapshot.now_ms, found = client.execute_command("EVAL", _READ, 0)
        for key, kind, ttl_ms, holds in found:
            snapshot._add(key.decode(), kind.decode(), ttl_ms, holds)
        return snapshot

    def _add(self, key: str, kind: str, ttl_ms: int, holds: list[Any]) -> None:
        _, _, rest = key.partition(":")
        if not rest.startswith("{"):
            self._add_global(rest, ttl_ms, holds)
            return
        queue, _, name = rest[1:].partition("}:")
        self.used.add(queue)
        what, _, last = name.partition(":")
        if what == "job":
            self.records[queue, last] = _record(holds, ttl_ms)
        elif what in ("queue", "processing"):
            for raw in holds:
                self._add_payload((queue, _id(raw)), last)
        elif what in PARKED:
            for member, score in zip(holds[::2], holds[1::2], strict=True):
                self.parked[queue, member.decode()][what] = float(score)
        elif what in ("payload", "errors"):
            self.beside[what][queue, last] = ttl_ms
        elif what not in ("owners", "meta", "bell") and ttl_ms < 0:
            self.unknown.append(key)

    def _add_payload(self, job: JobKey, owner: str) -> None:
        if owner:
            self.held[job].append(owner)
        else:
            self.waiting[job] += 1

    def _add_global(self, name: str, ttl_ms: int, holds: list[Any]) -> None:
        if name == "queues":
            self.queues = {raw.decode() for raw in holds}
        elif name not in _INDEXES and ttl_ms < 0:
            self.unknown.append(f"minirq:{name}")

    def left(self) -> int:
        """How many jobs have not ended."""
        scheduled = sum("scheduled" in places for places in self.parked.values())
        return sum(self.waiting.values()) + sum(map(len, self.held.values())) + scheduled

    # --- the rules ----------------------------------------------------------------------------

    def misplaced(self) -> list[str]:
        """Jobs that are in two places, in none, or where their status does not say. True at every moment."""
        found = []
        for job in self.records.keys() | self.waiting.keys() | self.held.keys() | self.parked.keys():
            why = self._what_is_wrong_with(job)
            if why:
                found.append(f"{'/'.join(job)}: {why}")
        return found

    def _what_is_wrong_with(self, job: JobKey) -> str:
        record, held, waiting = self.records.get(job), len(self.held.get(job, ())), self.waiting.get(job, 0)
        entries = self.parked.get(job, {})
        # an entry whose time is over is trimmed later
        listed = {name for name, score in entries.items() if name in _LIVING or score > self.now_ms}
        is_kept = job in self.beside["payload"]
        places = f"waits {waiting} times, held {held} times, {is_kept=}, in {sorted(listed) or 'no index'}"
        if record is None:
            return places if listed - {"canceled"} else ""
        said = f"{record.status}, {places}"
        match record.status:
            case "queued" if waiting + held != 1 or is_kept or listed:
                return said
            case "started" if (waiting, held) != (0, 1) or is_kept or listed:
                return said
            case "scheduled" if (waiting, held) != (0, 0) or not is_kept or listed != {"scheduled"}:
                return said
            case "canceled" if waiting + held == 1 and not is_kept:
                return ""  # whoever canceled it is looking for it
            case "finished" | "failed" | "canceled" | "stopped" | "expired":
                # without a TTL for its outcome a job has neither payload nor entry
                is_gone = not is_kept and not listed and record.ttl_ms >= 0
                is_parked = is_kept and record.status in entries and listed <= {record.status}
                if (waiting, held) != (0, 0) or not (is_gone or is_parked):
                    return said
            case "queued" | "started" | "scheduled":
                return ""
            case _:
                return said
        return ""

    def leaked(self) -> list[str]:
        """Keys that have neither a TTL nor an owner, or that outlive what they belong to."""
        found = [f"{key}: without a TTL" for key in self.unknown]
        found += [f"queue {queue}: not in the list of queues" for queue in self.used - self.queues]
        for job, record in self.records.items():
            scores = [score for name, score in self.parked.get(job, {}).items() if name == record.status]
            if record.ttl_ms < 0 and record.ended and scores != [float("inf")]:
                found.append(
                    f"job {'/'.join(job)}: {record.status} without a TTL, in the index until {scores}"
                )
        for what, ttls in self.beside.items():
            for job, ttl_ms in ttls.items():
                record = self.records.get(job)
                # errors from before a requeue have a TTL of their own
                is_owned = record is not None or (what == "errors" and ttl_ms >= 0)
                is_bounded = record is None or record.ttl_ms < 0 or ttl_ms >= 0
                if not is_owned or not is_bounded:
                    found.append(f"{what} {'/'.join(job)}: {ttl_ms=} beside {record}")
        return found


def _record(fields: list[Any], ttl_ms: int) -> Record:
    status, ended_ms, lost, meta = fields
    token = msgpack.unpackb(meta).get("token", "") if meta else ""
    return Record((status or b"").decode(), float(ended_ms or 0) / 1000, int(lost or 0), token, ttl_ms)


def _id(raw: bytes) -> str:
    """The id in a payload; what has none is known by its bytes."""
    return id_of(raw) or hashlib.sha1(raw).hexdigest()
