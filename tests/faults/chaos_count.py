"""The count that a campaign ends with: where each accepted job is, and what it took.

A job is lost if it is in no place at all, or has ended without what its end must leave behind. One that still
waits, or runs, when the time allowed is over is neither lost nor stuck: it is counted as what it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import redis as redis_py

from minirq.protocol.payload import id_of

Accepted = set[tuple[str, str]]


@dataclass
class Outage:
    """A long absence of the server: which workers it ended, and how soon after it the next job ran."""

    seconds: float
    workers: int
    dead: int = 0
    first_run: float = 0.0

    @property
    def is_good(self) -> bool:
        return not self.dead and self.first_run < 2


@dataclass
class Count:
    """What a campaign ends with. `cases` are jobs that deserve a look."""

    enqueued: int = 0
    finished: int = 0
    failed: int = 0
    waiting: int = 0
    running: int = 0
    stuck: int = 0
    lost: int = 0
    run_again: int = 0
    runs: int = 0
    slowest_second: float = 0.0
    slowest_next: float = 0.0
    backlog: int = 0
    drained_in: float = 0.0
    outage: Outage | None = None
    wounds: Counter[str] = field(default_factory=Counter)
    memory: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        wounds = ", ".join(f"{count} {what}" for what, count in sorted(self.wounds.items()))
        lines = [
            f"wounds                    {sum(self.wounds.values())}: {wounds}",
            f"enqueued                  {self.enqueued}",
            f"finished                  {self.finished}",
            f"failed                    {self.failed}",
            f"lost                      {self.lost}",
            f"left in processing lists  {self.stuck}",
            f"still waiting             {self.waiting}, and {self.running} running",
            f"backlog                   {self.backlog} after the last wound, gone in {self.drained_in:.1f} s",
            f"run more than once        {self.run_again} jobs ({self.runs} runs in all)",
            f"slowest recovery          {self.slowest_second:.2f} s from one run of a job to the next",
            f"longest standstill        {self.slowest_next:.2f} s from a wound to the next end of a job",
        ]
        if self.outage:
            lines.append(
                f"server away for {self.outage.seconds:g} s".ljust(26)
                + f"{self.outage.dead} of {self.outage.workers} workers ended,"
                f" the next job ran {self.outage.first_run:.2f} s after it was back"
            )
        return "\n".join([*lines, *self.memory, *self.cases])

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, nothing is stuck, and no worker ended because the server was away."""
        is_over = not (self.lost or self.stuck or self.waiting or self.running)
        return self.enqueued > 0 and is_over and (self.outage is None or self.outage.is_good)


@dataclass
class _Places:
    """Which jobs are where, when it is over."""

    waiting: Accepted = field(default_factory=set)
    running: Accepted = field(default_factory=set)
    stuck: Accepted = field(default_factory=set)


def left(client: redis_py.Redis, queues: tuple[str, ...]) -> int:
    """How many jobs have not ended yet."""
    pipe = client.pipeline(transaction=False)
    for name in queues:
        pipe.llen(f"minirq:{{{name}}}:queue")
        pipe.zcard(f"minirq:{{{name}}}:scheduled")
    for key in client.scan_iter("*:processing:*", count=10_000):
        pipe.llen(key)
    return sum(pipe.execute())


def take_stock(
    count: Count, client: redis_py.Redis, accepted: Accepted, trace: Path, wounds: list[float]
) -> None:
    """Look for each accepted job: its end on record, or the place that it is in."""
    queues = tuple(sorted({queue for queue, _ in accepted}))
    starts = runs_of(trace)
    places = _places(client, queues)
    ends: list[float] = []
    for (queue, job_id), (status, ended_ms, lost, errors) in _records(client, accepted):
        has_run = (queue, job_id) in starts
        if status == "finished" and has_run:
            count.finished += 1
        elif status == "failed" and errors:
            count.failed += 1
        elif (queue, job_id) in places.waiting:
            count.waiting += 1
        elif (queue, job_id) in places.running:
            count.running += 1
        elif (queue, job_id) not in places.stuck:
            count.lost += 1
            count.cases.append(
                f"lost: {queue} {job_id}, status {status or 'none'}, {errors} errors, {has_run=}"
            )
        ends.append(ended_ms / 1000)
        if errors == lost <= 1:  # neither retried nor paused, both of which put it behind what waits
            times = sorted(starts.get((queue, job_id), ()))
            gaps = [later - start for start, later in pairwise(times)]
            count.slowest_second = max([count.slowest_second, *gaps])
    count.stuck = len(places.stuck)
    count.cases += [f"stuck: {queue} {job_id}" for queue, job_id in places.stuck]
    count.enqueued = len(accepted)
    count.runs = sum(map(len, starts.values()))
    count.run_again = sum(len(times) > 1 for times in starts.values())
    count.slowest_next = _standstill(sorted(ends), wounds)


def _standstill(ends: list[float], wounds: list[float]) -> float:
    """The longest time from a wound to the next end of a job."""
    longest = 0.0
    for wound in wounds:
        at = bisect_left(ends, wound)
        if at < len(ends):
            longest = max(longest, ends[at] - wound)
    return longest


def runs_of(trace: Path) -> dict[tuple[str, str], list[float]]:
    """When each job started, each time."""
    runs: dict[tuple[str, str], list[float]] = {}
    for line in trace.read_text().splitlines():
        queue, job_id, started = line.split()
        runs.setdefault((queue, job_id), []).append(float(started))
    return runs


def _places(client: redis_py.Redis, queues: tuple[str, ...]) -> _Places:
    places = _Places()
    now_ms = client.time()[0] * 1000
    for name in queues:
        prefix = f"minirq:{{{name}}}:"
        places.waiting |= {(name, id_of(raw)) for raw in client.lrange(f"{prefix}queue", 0, -1)}
        places.waiting |= {(name, raw.decode()) for raw in client.zrange(f"{prefix}scheduled", 0, -1)}
        for key in client.scan_iter(f"{prefix}processing:*", count=10_000):
            owner = key.decode().removeprefix(f"{prefix}processing:")
            is_alive = (client.zscore(f"{prefix}owners", owner) or 0) > now_ms
            held = {(name, id_of(raw)) for raw in client.lrange(key, 0, -1)}
            if is_alive and places.waiting:  # a worker is at it
                places.running |= held
            else:
                places.stuck |= held
    return places


def _records(client: redis_py.Redis, accepted: Accepted) -> Any:
    """Each accepted job with its status, its end in ms, and how many errors are on record."""
    jobs = sorted(accepted)
    for at in range(0, len(jobs), 1000):
        some = jobs[at : at + 1000]
        pipe = client.pipeline(transaction=False)
        for queue, job_id in some:
            pipe.hmget(f"minirq:{{{queue}}}:job:{job_id}", "status", "ended_ms", "lost")
            pipe.llen(f"minirq:{{{queue}}}:errors:{job_id}")
        replies = pipe.execute()
        for job, (status, ended_ms, lost), errors in zip(some, replies[::2], replies[1::2], strict=True):
            yield job, ((status or b"").decode(), float(ended_ms or 0), int(lost or 0), errors)
