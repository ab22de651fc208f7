"""The settings of a worker: made once where it starts, and passed down."""

from __future__ import annotations

import math
import os
import secrets
import socket
from dataclasses import dataclass, field
from math import inf

from minirq.connection.config import DEFAULT_MAX_PAYLOAD
from minirq.exceptions import InvalidOption
from minirq.protocol.defaults import DEFAULT_NAMESPACE
from minirq.protocol.keys import Keys, QueueKeys, check_queue_name

#: the serializers that a worker reads by default; pickle can run code
SAFE_SERIALIZERS = ("msgpack", "json")

#: how long a deploy may take to bring a new function to all workers, seconds
MISS_WINDOW = 60.0

#: how long a burst waits for a server that is unreachable, seconds
BURST_PATIENCE = 30.0

#: jobs that one owner holds at most
MOST_HELD = 64

_RANGES = (
    ("processes", 1, 1000),
    ("concurrency", 1, 10_000),
    ("max_jobs", 1, 10**12),
    ("max_jobs_per_child", 1, 10**12),
    ("max_memory_per_child", 1, 2**50),
    ("lease", 0.3, 300),
    ("kill_grace", 0, 86400),
    ("loss_pause", 0, 86400),
)


_LONGEST_STOP = 86400


def _default_name() -> str:
    return f"{socket.gethostname().partition('.')[0]}.{os.getpid()}"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Queues in the order in which they are served, and everything else; seconds.

    `token` tells workers of the same name apart. A worker without a heartbeat for the `lease` counts as dead.
    `block` is the longest wait of an idle process before it asks again. Running jobs may go on for
    `stop_timeout` after a stop request (-1: until they end). A job's process is killed `kill_grace` after the
    job's timeout. A job whose process died twice runs again after `loss_pause`. The worker stops after
    `max_jobs` in all. With `is_batching` short jobs are claimed in batches. A child is replaced after
    `max_jobs_per_child` jobs, and after a job that leaves it with more than `max_memory_per_child` bytes; it
    imports the `preload` modules before its first job. A payload or result above `max_payload` bytes fails
    its job. Jobs import from `paths` first, which are the application's own; without any, all of sys.path is.
    `allow` opens other functions by pattern, `only` narrows by pattern.
    """

    queues: tuple[str, ...] = ("default",)
    name: str = field(default_factory=_default_name)
    token: str = field(default_factory=lambda: secrets.token_hex(3))
    namespace: str = DEFAULT_NAMESPACE
    processes: int = 1
    concurrency: int = 1
    is_burst: bool = False
    is_batching: bool = True
    max_jobs: int | None = None
    max_jobs_per_child: int | None = None
    max_memory_per_child: int | None = None
    preload: tuple[str, ...] = ()
    max_payload: int = DEFAULT_MAX_PAYLOAD
    allow: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    accept: tuple[str, ...] = SAFE_SERIALIZERS
    paths: tuple[str, ...] = ()
    lease: float = 15.0
    block: float = 5.0
    stop_timeout: float = 8.0
    kill_grace: float = 5.0
    loss_pause: float = 3.0

    def __post_init__(self) -> None:
        if not self.queues:
            raise InvalidOption("a worker needs at least one queue")
        for queue in self.queues:
            check_queue_name(queue)
        if len(set(self.queues)) < len(self.queues):
            raise InvalidOption("a queue is named twice")
        for what, least, most in _RANGES:
            value = getattr(self, what)
            if value is not None and not least <= value <= most:
                raise InvalidOption(f"{what} is {value:g}: give from {least:g} to {most:g}")
        if not (0 <= self.stop_timeout <= _LONGEST_STOP or self.stop_timeout == -1):
            raise InvalidOption(
                f"stop_timeout is {self.stop_timeout:g}: give from 0 to {_LONGEST_STOP}, or -1 for no limit"
            )

    @property
    def id(self) -> str:
        """The worker's name and its token: never used twice."""
        return f"{self.name}:{self.token}"

    @property
    def stop_seconds(self) -> float:
        """How long running jobs may go on after a stop was asked for; infinite without a limit."""
        return math.inf if self.stop_timeout == -1 else self.stop_timeout

    @property
    def beat(self) -> float:
        """Seconds between two beats: a lease outlives four missed ones."""
        return self.lease / 5

    @property
    def linger(self) -> float:
        """How long after the death of a process the server may still serve its BLMOVE.

        A process that is alive has claimed by then what BLMOVE brought.
        """
        return self.block + 2

    @property
    def most_age(self) -> float:
        """How old a claim may be when a job of it starts: later, another worker may have run the job."""
        return self.lease / 2

    @property
    def patience_with_jobs(self) -> float:
        """How long after its deadline, or a request to stop, a job is given up.

        Beside others it may take a second longer: it may be waiting for its neighbour.
        """
        return self.kill_grace + (1.0 if self.concurrency > 1 else 0.0)

    @property
    def owners_per_child(self) -> int:
        """A process holds its jobs as so many owners."""
        return -(-self.concurrency // MOST_HELD)

    @property
    def miss_window(self) -> float:
        """How long a job whose function is not known here is left to other workers before it fails.

        A burst gives it back, whatever the time (-1).
        """
        return -1.0 if self.is_burst else MISS_WINDOW

    @property
    def patience(self) -> float:
        """How long the server may be unreachable before the worker gives up; only a burst does."""
        return BURST_PATIENCE if self.is_burst else inf

    @property
    def keys(self) -> Keys:
        """The keys of the namespace."""
        return Keys(self.namespace)

    @property
    def queue_keys(self) -> list[QueueKeys]:
        """The keys of the queues, in order."""
        return [self.keys.of(queue) for queue in self.queues]

    def new_owners(self) -> tuple[str, ...]:
        """The owners of a new process: all but the first have its id and a number (see lua/reclaim.lua)."""
        first = self.new_owner()
        return (first, *(f"{first}+{n}" for n in range(1, self.owners_per_child)))

    def new_owner(self) -> str:
        """An owner id that was never used and never will be: worker name, pid, random."""
        return f"{self.name}:{os.getpid()}:{secrets.token_hex(5)}"
