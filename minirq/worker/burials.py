"""Burials: what has to be said in the names of owners that cannot say it any more, in its order.

A burial takes back what a dead owner holds; a verdict settles one run that was given up, before that.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

from minirq.connection.sender import Sender
from minirq.protocol import operations
from minirq.protocol.failure import Failure
from minirq.protocol.operations import SetAside, Settlement, TakenBack
from minirq.text import safe_text
from minirq.worker.journal import log_death, log_failed, log_set_aside
from minirq.worker.rounds import Rounds
from minirq.worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Burial:
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
class Verdict:
    """What follows for a run that was given up, said in its owner's name."""

    owner: str
    settlement: Settlement


class Burials:
    """What is still to be said; what could not be said stays."""

    def __init__(self, sender: Sender, rounds: Rounds, settings: WorkerSettings) -> None:
        self._sender = sender
        self._rounds = rounds
        self._settings = settings
        self._due: deque[Burial | Verdict] = deque()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, what: Burial | Verdict) -> None:
        """Say this too, after what is there."""
        self._due.append(what)

    def hold(self) -> None:
        """Say all of it. Raises what Redis raises; the rest can be said later."""
        while self._due:
            match self._due[0]:
                case Verdict(owner, settlement):
                    queues = self._settings.queue_keys
                    settled = self._sender.send(operations.finish(queues, owner, [settlement], want=0))
                    log_set_aside(settled.aside)
                    if settlement.verb == "failed" and settled.codes == [operations.SETTLED]:
                        log_failed(self._settings, settlement)
                case Burial() as burial:
                    self._hold(burial)
            self._due.popleft()

    def _hold(self, burial: Burial) -> None:
        settings = self._settings
        proof = burial.evidence.encode()
        calls = [
            operations.bury(
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
