"""Every key that minirq uses, spelled once, and which names may go into keys.

The namespace comes first, then the queue's name in braces (the Cluster hash tag), then what the key
holds. Scripts are given the key of the waiting list and derive the queue's other keys from its
prefix; the names that they append are listed in `SUFFIXES`, and a test compares both.
"""

from __future__ import annotations

from dataclasses import dataclass

from minirq.exceptions import InvalidOption
from minirq.protocol.defaults import DEFAULT_NAMESPACE, MAX_ID_BYTES
from minirq.text import safe_repr, safe_text

MAX_NAME = 200


def check_queue_name(name: object) -> str:
    """Return the name if a queue may have it, else raise InvalidOption."""
    return _check(name, "queue name", MAX_NAME)


def check_job_id(job_id: object) -> str:
    """Return the id if a job may have it, else raise InvalidOption."""
    return _check(job_id, "job id", MAX_ID_BYTES)


def _check(name: object, what: str, most: int) -> str:
    if not isinstance(name, str):
        hint = "; pass it as connection=" if hasattr(name, "connection_pool") else f": {safe_repr(name)}"
        raise InvalidOption(f"a {what} is text, not {type(name).__name__}{hint}")
    if not name:
        raise InvalidOption(f"a {what} cannot be empty")
    shown = safe_text(name)
    if any(char.isspace() or not char.isprintable() or char in "{}" for char in name):
        raise InvalidOption(f"a {what} must not contain spaces, braces or control characters: {shown!r}")
    if len(name.encode("utf-8", "surrogatepass")) > most:
        raise InvalidOption(f"a {what} can be {most} bytes long at most: {shown!r}")
    return name


def can_be_key(name: str) -> bool:
    """Whether a name that was read from Redis can be part of a key: bytes that are not UTF-8 cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


#: what may follow `namespace:{queue}:`. A name that ends in ":" is followed by an id.
SUFFIXES = (
    "queue", "processing:", "owners", "bell", "promoter", "meta", "stats", "outbox",
    "scheduled", "deferred", "failed", "finished", "canceled", "stopped", "expired", "unknown",
    "job:", "payload:", "errors:", "mailbox:", "unique:", "dependents:",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue. All carry its hash tag, so one script may touch any of them."""

    prefix: str

    @property
    def queue(self) -> str:
        """LIST of waiting payloads: pushed at the left, taken from the right. A public contract."""
        return f"{self.prefix}queue"

    def processing(self, owner: str) -> str:
        """LIST of the payloads that this owner holds: the ground truth of "running"."""
        return f"{self.prefix}processing:{owner}"

    @property
    def owners(self) -> str:
        """ZSET owner -> end of its lease, ms of Redis time; negative once its jobs were taken back."""
        return f"{self.prefix}owners"

    def index(self, status: str) -> str:
        """ZSET job id -> ms, of the jobs that are parked with this status."""
        return f"{self.prefix}{status}"

    def job(self, job_id: str) -> str:
        """HASH of a job: all that changes."""
        return f"{self.prefix}job:{job_id}"

    def payload(self, job_id: str) -> str:
        """STRING: the payload while the job is parked."""
        return f"{self.prefix}payload:{job_id}"

    def errors(self, job_id: str) -> str:
        """LIST of the last failed attempts and deaths, newest first."""
        return f"{self.prefix}errors:{job_id}"

    @property
    def bell(self) -> str:
        """ZSET with at most one member: wakes a worker that waits on several queues."""
        return f"{self.prefix}bell"

    @property
    def promoter(self) -> str:
        """STRING with a TTL: the worker that promotes the delayed jobs."""
        return f"{self.prefix}promoter"

    def mailbox(self, waiter: str) -> str:
        """LIST of the ids of ended jobs, for this waiter."""
        return f"{self.prefix}mailbox:{waiter}"

    @property
    def meta(self) -> str:
        """HASH of the queue's own state: `paused`."""
        return f"{self.prefix}meta"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace."""

    namespace: str = DEFAULT_NAMESPACE

    def of(self, queue: str) -> QueueKeys:
        """The keys of this queue."""
        return QueueKeys(f"{self.namespace}:{{{queue}}}:")

    def held_by(self, key: str) -> tuple[str, str] | None:
        """The queue and the owner of a processing list, by its key; None for any other key."""
        start, end = self.of("*").processing("").split("*")
        queue, found, owner = key.removeprefix(start).partition(end)
        return (queue, owner) if found and key.startswith(start) else None

    @property
    def queues(self) -> str:
        """SET of the names of all queues ever used."""
        return f"{self.namespace}:queues"

    @property
    def maintenance(self) -> str:
        """ZSET queue name -> from when on workers of other queues may look after it, ms of Redis time."""
        return f"{self.namespace}:maintenance"

    @property
    def served(self) -> str:
        """ZSET queue name -> when a worker of its own was last there, ms of Redis time."""
        return f"{self.namespace}:served"

    @property
    def workers(self) -> str:
        """ZSET worker id -> its last beat, ms of Redis time. For people: nothing decides on it."""
        return f"{self.namespace}:workers"

    def worker(self, worker_id: str) -> str:
        """HASH: what a worker shows of itself at each beat, with a TTL."""
        return f"{self.namespace}:worker:{worker_id}"

    def shutdown(self, worker_id: str) -> str:
        """STRING: how a worker is asked to stop, "warm" or "now", with a TTL."""
        return f"{self.namespace}:shutdown:{worker_id}"

    @property
    def chores(self) -> str:
        """Channel: a queue's name is published here when one of its delayed jobs becomes the earliest."""
        return f"{self.namespace}:chores"

    @property
    def stops(self) -> str:
        """Channel: which run is asked to stop (the words: lua/lib/interrupt.lua), or which worker."""
        return f"{self.namespace}:stops"
