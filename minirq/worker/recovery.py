"""A round: one call for each of some queues. One whose keys are broken keeps no other waiting.

Burials: what has to be said in the names of owners that cannot say it any more, in its order.

A burial takes back what a dead owner holds; a verdict settles one run that was given up, before that.

The search for owners that hold jobs and that no index knows: a step at a time through all keys.

The index may be lost while processing lists are not. Who is met gets a lease: one that lives renews it, and
a sweep takes back what the others hold. It knows nothing of beats and sweeps.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minirq.connection.client import Sender
from minirq.exceptions import MinirqError
from minirq.protocol import commands, queries
from minirq.protocol.commands import SetAside, Settlement, TakenBack
from minirq.protocol.keys import Keys
from minirq.protocol.record import Failure
from minirq.text import safe_text
from minirq.worker.job_log import log_death, log_failed, log_set_aside
from minirq.worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


class QueueCalls:
    """Makes rounds. What is wrong with a queue is said once, until it is well again."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._unwell: set[tuple[str, str]] = set()

    def make(self, chore: str, names: Sequence[str], calls: list[Any]) -> Iterator[tuple[str, Any]]:
        """Send a call to each queue; yield the replies of those that could answer."""
        for name, reply in zip(names, self._sender.send_each(calls), strict=True):
            place = (chore, name)
            if not isinstance(reply, MinirqError):
                self._unwell.discard(place)
                yield name, reply
            elif place not in self._unwell:
                self._unwell.add(place)
                logger.error("queue %s: %s", safe_text(name), safe_text(str(reply), 500))


@dataclass(frozen=True, slots=True)
class DeadOwner:
    """Dead owners whose jobs are to be taken back.

    `blamed` are the runs that were under way: number of the queue, id, run; None if nobody knows.
    `is_spared`: the worker itself has ended the process, so what ran is not to blame. `linger`: for how long
    a BLMOVE that was under way may still bring it something, seconds.
    """

    owners: tuple[str, ...]
    evidence: Failure
    blamed: tuple[tuple[int, str, int], ...] | None = ()
    is_spared: bool = False
    linger: float = 0.0

    def blamed_of(self, queue: int) -> list[tuple[str, int]] | None:
        """Return the runs of one queue that are blamed."""
        if self.blamed is None:
            return None
        return [(job_id, run) for number, job_id, run in self.blamed if number == queue]


@dataclass(frozen=True, slots=True)
class GivenUp:
    """What follows for a run that was given up, said in its owner's name."""

    owner: str
    settlement: Settlement


class Recovery:
    """What is still to be said; what could not be said stays."""

    def __init__(self, sender: Sender, rounds: QueueCalls, settings: WorkerSettings) -> None:
        self._sender = sender
        self._rounds = rounds
        self._settings = settings
        self._due: deque[DeadOwner | GivenUp] = deque()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, what: DeadOwner | GivenUp) -> None:
        """Say this too, after what is there."""
        self._due.append(what)

    def hold(self) -> None:
        """Say all of it. Raises what Redis raises; the rest can be said later."""
        while self._due:
            match self._due[0]:
                case GivenUp(owner, settlement):
                    queues = self._settings.queue_keys
                    settled = self._sender.send(commands.finish(queues, owner, [settlement], want=0))
                    log_set_aside(settled.aside)
                    if settlement.verb == "failed" and settled.codes == [commands.SETTLED]:
                        log_failed(self._settings, settlement)
                case DeadOwner() as burial:
                    self._hold(burial)
            self._due.popleft()

    def _hold(self, burial: DeadOwner) -> None:
        settings = self._settings
        proof = burial.evidence.encode()
        calls = [
            commands.bury(
                keys,
                owner,
                evidence=proof,
                blamed=burial.blamed_of(number),
                is_spared=burial.is_spared,
                pause=settings.loss_pause,
                linger=burial.linger,
            )
            for owner in burial.owners
            for number, keys in enumerate(settings.queue_keys)
        ]
        # where a queue's keys are broken, the owner is listed as dead, and later sweeps go on
        for name, swept in self._rounds.make("bury", settings.queues * len(burial.owners), calls):
            log_taken_back(name, swept.taken, burial.evidence)


def log_taken_back(queue: str, taken: list[TakenBack], evidence: Failure) -> None:
    """Say which jobs of a queue were taken back, and from whom; and that those failed that died too often."""
    for job in taken:
        if job.fate == "failed":
            log_death(queue, job.id, evidence, job.owner.rsplit(":", 2)[0])
            continue
        if job.fate == "unknown":
            log_set_aside([SetAside(queue, job.id, job.why)])
            continue
        logger.warning(
            "job %s taken back from %s (queue %s): %s, deaths of its process so far: %d",
            safe_text(job.id), safe_text(job.owner), safe_text(queue), job.fate, job.lost,
        )  # fmt: skip


#: so many keys a step, with this pause: a step takes the server 2 ms
COUNT = 2000
PAUSE = 0.5


class UnlistedOwners:
    """Where the search is. `lease` is what an owner is given that is met, seconds."""

    def __init__(self, sender: Sender, keys: Keys, lease: float) -> None:
        self._sender = sender
        self._keys = keys
        self._lease = lease
        self._cursor = 0

    def step(self, known: Container[str], *, now_ms: float) -> float | None:
        """Look at the next keys; `known` owners are no news. Return the pause until more, None at the end."""
        self._cursor, met = self._sender.send(queries.scan_owners(self._keys, self._cursor, COUNT))
        self._list([(queue, owner) for queue, owner in met if owner not in known], now_ms)
        return PAUSE if self._cursor else None

    def _list(self, met: list[tuple[str, str]], now_ms: float) -> None:
        end_ms = int(now_ms + self._lease * 1000)
        calls: list[Any] = [queries.list_owner(self._keys.of(queue), owner, end_ms) for queue, owner in met]
        for (queue, owner), reply in zip(met, self._sender.send_each(calls), strict=True):
            if reply == 1:
                logger.warning(
                    "queue %s: %s holds jobs and was not known", safe_text(queue), safe_text(owner)
                )
                self._sender.send(queries.know_queues(self._keys, [queue]))
                self._sender.send(queries.maintain_from(self._keys, [queue], int(now_ms), is_new=True))
