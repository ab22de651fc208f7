"""A stage for the scripts: queues on a real server, and each event that can happen to them in a short line.

What a test looks at afterwards comes from the server, in plain types. Time is the server's and is not
faked: a lease, a due time or a ttl is made to have passed by setting it by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import redis as redis_py

from minirq.connection.client import Sender
from minirq.protocol import commands, queries
from minirq.protocol.commands import (
    Beat,
    Call,
    Claim,
    Enqueued,
    NewJob,
    Promoted,
    Settled,
    Settlement,
    Swept,
    TakenBack,
)
from minirq.protocol.keys import Keys
from minirq.protocol.payload import Payload, id_of
from minirq.protocol.record import Failure

LEASE = 15.0
LINGER = 60.0
EVIDENCE = Failure("WorkerLost", "the process died", kind="lost").encode()
ERROR = Failure("ValueError", "no").encode()

Held = tuple[int, str]  # number of the queue, job id


def payload(job_id: str, blob: bytes = b"") -> bytes:
    return Payload(job_id, "app.function", "msgpack", blob).encode()


def new_job(
    job_id: str, *, blob: bytes = b"", fields: dict[str, Any] | None = None, **options: Any
) -> NewJob:
    return NewJob(job_id, payload(job_id, blob), fields={"func": "f", **(fields or {})}, **options)


class Stage:
    """Some queues of one slot-like group, served in their order."""

    def __init__(self, client: redis_py.Redis, *names: str, namespace: str = "minirq-test") -> None:
        self.client = client
        self.sender = Sender(client)
        self.names = names
        self.queues = [Keys(namespace).of(name) for name in names]
        self.keys = self.queues[0]

    def send(self, call: Call[Any]) -> Any:
        return self.sender.send(call)

    # --- events -------------------------------------------------------------------------------

    def enqueue(self, *job_ids: str, queue: int = 0, **options: Any) -> list[Enqueued]:
        jobs = [new_job(job_id, **options) for job_id in job_ids]
        return self.send(commands.enqueue(self.queues[queue], jobs))

    def register(self, *owners: str) -> Beat:
        return self.send(commands.beat(self.queues, [], lease=LEASE, worker="one", new=owners))

    def beat(self, *owners: str, worker: str = "one") -> Beat:
        return self.send(commands.beat(self.queues, owners, lease=LEASE, worker=worker))

    def claim(
        self, owner: str, want: int = 10, in_hand: Iterable[Held] = (), company: str | None = None
    ) -> Claim:
        return self.finish(owner, want=want, in_hand=in_hand, company=company).claim

    def finish(
        self,
        owner: str,
        *settlements: Settlement,
        want: int = 0,
        in_hand: Iterable[Held] = (),
        company: str | None = None,
    ) -> Settled:
        """`company` None: what is in hand has no death on record."""
        if company is None:
            company = "others" if in_hand else ""
        call = commands.finish(self.queues, owner, settlements, want=want, in_hand=in_hand, company=company)
        return self.send(call)

    def settle(self, owner: str, job_id: str, run: int, verb: str = "finished", **options: Any) -> int:
        """Settle one run, and return the code."""
        return self.finish(owner, settlement(job_id, run, verb, **options)).codes[0]

    def bring(self, owner: str, queue: int = 0) -> bool:
        """What a BLMOVE does when it is served."""
        keys = self.queues[queue]
        return self.client.lmove(keys.queue, keys.processing(owner), "RIGHT", "LEFT") is not None

    def bury(
        self,
        owner: str,
        *,
        blamed: Sequence[tuple[str, int]] | None = None,
        pause: float = 0,
        queue: int = 0,
        is_spared: bool = False,
        linger: float = LINGER,
    ) -> list[TakenBack]:
        call = commands.take_back(
            self.queues[queue],
            owner,
            evidence=EVIDENCE,
            blamed=blamed,
            pause=pause,
            is_spared=is_spared,
            linger=linger,
        )
        return self.send(call).taken

    def sweep(self, *, off_ms: int = 0, tolerance: float = 1, pause: float = 0, queue: int = 0) -> Swept:
        call = commands.sweep(
            self.queues[queue],
            now_ms=self.now_ms() + off_ms,
            tolerance=tolerance,
            evidence=EVIDENCE,
            lease=LEASE,
            pause=pause,
            linger=LINGER,
        )
        return self.send(call)

    def promote(
        self, *, most: int = 200, trim: bool = False, missed: Iterable[str] = (), queue: int = 0
    ) -> Promoted:
        return self.send(commands.promote(self.queues[queue], most=most, trim=trim, missed=missed))

    def mark_canceled(self, job_id: str, *, keep: bool = True, queue: int = 0) -> str:
        """The first step of canceling a waiting job, without the search for its payload."""
        return self.send(commands.cancel(self.queues[queue], job_id, keep=keep))

    def stop(self, job_id: str, *, queue: int = 0) -> str:
        return self.send(commands.stop(self.queues[queue], job_id))

    def cancel(self, job_id: str, *, keep: bool = True, queue: int = 0) -> str:
        return self.sender.run(queries.cancel(self.queues[queue], job_id, keep=keep))

    def requeue(self, job_id: str, *, at_front: bool = False, queue: int = 0) -> str:
        return self.send(commands.requeue(self.queues[queue], job_id, at_front=at_front))

    def pause(self, seconds: float | None = None, *, queue: int = 0) -> bool:
        return self.send(commands.pause(self.queues[queue], seconds=seconds))

    def resume(self, *, queue: int = 0) -> bool:
        return self.pause(0, queue=queue)

    def empty(self, place: str, *, queue: int = 0) -> int:
        return self.sender.run(queries.empty(self.queues[queue], place))

    def wait(self, job_id: str, waiter: str, *, here: bool = True, queue: int = 0) -> str:
        return self.send(commands.wait(self.queues[queue], job_id, waiter, here=here))

    def fail(self, job_id: str, owner: str = "a", **options: Any) -> None:
        """Enqueue a job, run it and have it fail."""
        self.enqueue(job_id, **options)
        (job,) = self.claim(owner, 1).jobs
        assert job.id == job_id
        assert self.settle(owner, job_id, job.run, "failed") == 1

    # --- time that has passed -----------------------------------------------------------------

    def now_ms(self) -> int:
        return self.send(queries.server_time())

    def let_lease_run_out(self, owner: str) -> None:
        for keys in self.queues:
            self.client.zadd(keys.owners, {owner: self.now_ms() - 1})

    def make_due(self, *job_ids: str, queue: int = 0) -> None:
        index = self.queues[queue].index("scheduled")
        self.client.zadd(index, dict.fromkeys(job_ids, self.now_ms() - 1), xx=True)

    def let_linger_pass(self, owner: str) -> None:
        """A buried owner is so long dead that nothing can be brought to it any more."""
        for keys in self.queues:
            self.client.zadd(keys.owners, {owner: -(self.now_ms() - 1)}, xx=True)

    def let_ttl_pass(self, job_id: str) -> None:
        self.client.hset(self.keys.job(job_id), "expires_ms", self.now_ms() - 1)

    def let_skips_age(self, queue: int = 0) -> None:
        """What has been skipped has been for too long."""
        keys = self.queues[queue]
        long_ago = self.now_ms() - 10_001
        for name in self.client.scan_iter(keys.job("*")):
            if self.client.hexists(name, "skipped_ms"):
                self.client.hset(name, "skipped_ms", long_ago)
        if hint := self.client.hget(keys.meta, "skipped"):
            self.client.hset(keys.meta, "skipped", b"%d %b" % (long_ago, hint.partition(b" ")[2]))

    # --- what is there ------------------------------------------------------------------------

    def waiting(self, queue: int = 0) -> list[str]:
        """The ids in the waiting list, the one that runs next in front."""
        return [id_of(raw) for raw in reversed(self.send(queries.waiting(self.queues[queue], 0, -1)))]

    def held(self, owner: str, queue: int = 0) -> list[str]:
        """The ids in the owner's processing list, the oldest in front."""
        return [id_of(raw) for raw in reversed(self.send(queries.processing(self.queues[queue], owner)))]

    def index(self, status: str) -> list[str]:
        return self.send(queries.index_ids(self.keys, status))

    def job(self, job_id: str) -> dict[str, str]:
        """The hash of a job."""
        fields = self.client.hgetall(self.keys.job(job_id))
        return {name.decode(): value.decode("utf-8", "replace") for name, value in fields.items()}

    def status(self, job_id: str) -> str | None:
        return self.job(job_id).get("status")

    def counters(self, job_id: str) -> tuple[int, int, int]:
        """The three counters: run, attempts, lost."""
        job = self.job(job_id)
        return int(job.get("run", 0)), int(job.get("attempts", 0)), int(job.get("lost", 0))

    def ttl_ms(self, key: str) -> int:
        """-1 without a TTL, -2 without the key."""
        return self.client.pttl(key)

    def errors(self, job_id: str) -> list[str]:
        """The messages on record, the newest in front."""
        return [failure.message for failure in self.send(queries.errors(self.keys, job_id))]

    def mailbox(self, waiter: str) -> list[str]:
        return [job_id.decode() for job_id in self.client.lrange(self.keys.mailbox(waiter), 0, -1)]

    def bell_rings(self, queue: int = 0) -> bool:
        """Whether the bell has been rung since the last look."""
        return bool(self.client.zpopmin(self.queues[queue].bell))

    def lease_end(self, owner: str, queue: int = 0) -> float | None:
        return self.client.zscore(self.queues[queue].owners, owner)


def settlement(
    job_id: str, run: int, verb: str = "finished", *, queue: int = 0, **options: Any
) -> Settlement:
    """An outcome, with what such an outcome usually carries."""
    if verb == "finished":
        options = {"seconds": 500, **options}
    elif verb == "failed":
        options = {"seconds": 3600, "blob": ERROR, **options}
    elif verb in ("retry", "miss"):
        options = {"blob": ERROR, **options}
    return Settlement(queue, job_id, run, verb, **options)


def ids(claim: Claim) -> list[str]:
    return [job.id for job in claim.jobs]
