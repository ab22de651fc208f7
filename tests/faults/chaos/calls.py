"""Calls: what producers and meddlers have asked for, and what they were attempt."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.chaos.trace import JobKey, job_of

from minirq import Queue, Retry
from minirq.exceptions import MinirqError, ServerUnavailable
from minirq.job import Job

QUEUES = ("high", "low", "bulk")
#: no job of this one kills its process, and its worker suffers only what happens to the server
CALM = "calm"
#: longer than any campaign, seconds
LONG = 7200

ACCEPTED, REFUSED, UNKNOWN = "accepted", "refused", "unknown"


@dataclass(frozen=True)
class Call:
    """One call of `enqueue`; `ttl`, `result_ttl` and `failure_ttl` as they were given."""

    token: str
    kind: str
    seconds: float
    options: dict[str, Any]
    delay: float = 0.0

    @property
    def job(self) -> JobKey:
        return job_of(self.token)

    @property
    def is_unique(self) -> bool:
        return not self.job[1].startswith("again-")

    @property
    def is_kept(self) -> bool:
        """Whether its record is there at the end of the campaign, however the job ends."""
        return all(self.options[name] in (-1, LONG) for name in ("result_ttl", "failure_ttl"))


@dataclass(frozen=True)
class Attempt:
    """What came of a call, and when it began and was over."""

    call: Call
    answer: str
    began: float
    over: float


@dataclass
class Ledger:
    """All calls, and everything else that was done to jobs. Shared by threads."""

    attempts: list[Attempt] = field(default_factory=list)
    #: for each job the ends of all calls that may have ended it: cancel, delete, stop
    ended: dict[JobKey, list[float]] = field(default_factory=lambda: defaultdict(list))
    #: jobs that were requeued
    requeued: set[JobKey] = field(default_factory=set)
    #: those that were enqueued last: there is something to be done to them
    recent: deque[tuple[Call, Job[Any]]] = field(default_factory=lambda: deque(maxlen=300))
    lock: threading.Lock = field(default_factory=threading.Lock)
    _count: int = 0

    def token(self, queue: str, job_id: str) -> str:
        """A name for the next call."""
        with self.lock:
            self._count += 1
            return f"{queue}/{job_id}/{self._count}"

    def note(self, attempt: Attempt, job: Job[Any] | None = None) -> None:
        with self.lock:
            self.attempts.append(attempt)
            if job is not None:
                self.recent.append((attempt.call, job))

    @property
    def meddled(self) -> set[JobKey]:
        return self.requeued | set(self.ended)


@dataclass(frozen=True)
class RandomCalls:
    """Throws calls: `again` is how often an id is one of a few, which are used again in each queue."""

    random: random.Random
    ledger: Ledger
    again: float

    def call(self, queue: str) -> Call:
        """Any call that a campaign knows."""
        dice = self.random
        is_calm = queue == CALM
        job_id = f"again-{dice.randrange(30)}" if dice.random() < self.again else f"{dice.getrandbits(48):x}"
        kind = self._kind(is_calm)
        return Call(
            self.ledger.token(queue, job_id),
            kind,
            2.0 if dice.random() < 0.01 else dice.choice([0, 0, 0, 0.002, 0.002, 0.02, 0.02, 0.2]),
            self._options(kind),
            dice.uniform(0.1, 2) if dice.random() < 0.1 else 0.0,
        )

    def _kind(self, is_calm: bool) -> str:
        kinds = {
            "work": 40, "await_work": 30, "remember": 6, "await_remember": 6, "fail_at_times": 6,
            "fail_at_times_and_await": 6, "overrun": 0.5,
        }  # fmt: skip
        if not is_calm:
            kinds |= {"die_at_times": 4, "swallow": 0.3}
        return self.random.choices(list(kinds), list(kinds.values()))[0]

    def _options(self, kind: str) -> dict[str, Any]:
        dice = self.random
        options: dict[str, Any] = {
            "result_ttl": dice.choice([-1, -1, -1, LONG, LONG, 0, 1]),
            "failure_ttl": dice.choice([-1, -1, -1, LONG, LONG, 0, 1]),
            "at_front": dice.random() < 0.05,
        }
        if kind.startswith("fail"):
            pauses = [0, 0, dice.uniform(0.05, 0.5)]
            options["retry"] = dice.choice([Retry(50), Retry(50, interval=pauses), Retry(1), None])
        if kind in ("overrun", "swallow"):
            options["job_timeout"] = dice.uniform(0.2, 1)
        if dice.random() < 0.03:
            options["ttl"] = dice.uniform(0.2, 3)
        if dice.random() < 0.03:
            options["on_worker_lost"] = dice.choice([1, 3, "fail"])
        return options


@dataclass(frozen=True)
class Application:
    """Where calls are made: the server's URL and the file that jobs write to."""

    url: str
    trace: Path
    ledger: Ledger

    def queue(self, name: str) -> Queue:
        return Queue(name, connection=self.url)

    def arguments(self, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional ones, and the options with the job's id and meta."""
        options = {**call.options, "job_id": call.job[1], "meta": {"token": call.token}}
        return (str(self.trace), call.token, call.seconds), options

    def enqueue(self, queue: Queue, call: Call) -> Attempt:
        """Make the call, and keep what came of it."""
        args, options = self.arguments(call)
        name = f"faults.chaos.jobs.{call.kind}"
        began, answer, job = time.time(), ACCEPTED, None
        try:
            if call.delay:
                job = queue.enqueue_in(call.delay, name, *args, **options)
            else:
                job = queue.enqueue(name, *args, **options)
        except ServerUnavailable:
            answer = UNKNOWN
        except MinirqError:
            answer = REFUSED
        attempt = Attempt(call, answer, began, time.time())
        self.ledger.note(attempt, job)
        return attempt
