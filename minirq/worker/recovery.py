"""How jobs come back from processes that can no longer settle them.

Two things are done in the name of an owner, in the order in which they are reported: an abandoned run is
settled, and the jobs of a dead process are taken back. That an owner of another worker is dead only its lease
tells: a sweep takes back the jobs of owners whose lease has run out.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from minirq.connection.client import Sender
from minirq.exceptions import DeserializationError, JobTimeoutException, MinirqError, ServerFault
from minirq.protocol import commands, payload, queries
from minirq.protocol.commands import Claimed, SetAside, Settlement, TakenBack
from minirq.protocol.record import Failure
from minirq.text import safe_text
from minirq.worker.interrupts import timeout_message
from minirq.worker.job_log import log_death, log_failed, log_set_aside
from minirq.worker.outcome import Interrupted, after_error, settlement, worker_lost
from minirq.worker.scoreboard import Slot
from minirq.worker.settings import WorkerSettings
from minirq.worker.tasks import ServerClock

logger = logging.getLogger(__name__)


SILENCE = worker_lost("the worker that ran the job stopped beating")


@dataclass(frozen=True, slots=True)
class DeadProcess:
    """A process that has died as these owners, whose jobs have to be taken back.

    `blamed` are the runs that were under way: number of the queue, id, run.
    `is_spared`: the worker itself has ended the process, so what ran is not to blame. `linger`: for how long
    a BLMOVE that was under way may still move a job to it, seconds.
    """

    owners: tuple[str, ...]
    evidence: Failure
    blamed: tuple[tuple[int, str, int], ...] = ()
    is_spared: bool = False
    linger: float = 0.0


@dataclass(frozen=True, slots=True)
class AbandonedRun:
    """A run that ignored its timeout, and what happened then ("was killed"); "" if it was asked to stop."""

    owner: str
    slot: Slot
    what: str


class QueueCalls:
    """Sends one call to each of many queues. An error of one queue is logged once, until it is mended."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self._failing: set[tuple[str, str]] = set()

    def send(self, verb: str, names: Sequence[str], calls: list[Any]) -> Iterator[tuple[str, Any]]:
        """Yield the names and replies of the queues that could answer."""
        for name, reply in zip(names, self.sender.send_each(calls), strict=True):
            if not isinstance(reply, MinirqError):
                self._failing.discard((verb, name))
                yield name, reply
            elif (verb, name) not in self._failing:
                self._failing.add((verb, name))
                logger.error("queue %s: %s", safe_text(name), safe_text(str(reply), 500))


class Recovery:
    """Settles and takes back what was reported; what could not be sent to Redis stays to be done."""

    def __init__(self, calls: QueueCalls, clock: ServerClock, settings: WorkerSettings) -> None:
        self._sender = calls.sender
        self._calls = calls
        self.clock = clock
        self._settings = settings
        self._reported: deque[DeadProcess | AbandonedRun] = deque()

    def __len__(self) -> int:
        return len(self._reported)

    def add(self, report: DeadProcess | AbandonedRun) -> None:
        """Have this done after what was reported before."""
        self._reported.append(report)

    def run(self) -> float:
        """Do all of it: a task. Raises what Redis raises; the rest can be done later."""
        while self._reported:
            match self._reported[0]:
                case AbandonedRun() as run:
                    self._settle(run)
                case DeadProcess() as dead:
                    self._take_back(dead)
            self._reported.popleft()
        return inf

    # --- an abandoned run ---------------------------------------------------------------------

    def _settle(self, run: AbandonedRun) -> None:
        if run.what:
            settled = self._as_timed_out(run)
        else:  # how a job ends that was asked to stop is on its record
            settled = settlement(_claimed(run.slot), Interrupted())
        if settled is None:
            return
        reply = self._sender.send(commands.finish(self._settings.queue_keys, run.owner, [settled], want=0))
        log_set_aside(reply.aside)
        if settled.verb == "failed" and reply.codes == [commands.SETTLED]:
            log_failed(self._settings, settled)

    def _as_timed_out(self, run: AbandonedRun) -> Settlement | None:
        """Decide what follows: the end, or a retry. None: the job is taken back with its process."""
        slot = run.slot
        keys = self._settings.queue_keys[slot.queue]
        try:
            record = self._sender.send(queries.record(keys, slot.id))
            raw = self._sender.run(queries.find_held(keys, slot.id, run.owner))
            if raw is None:  # it has ended meanwhile
                return None
            options = payload.decode(raw).options
        except (ServerFault, DeserializationError):  # keys or a payload that cannot be read
            return None
        error = JobTimeoutException(f"{timeout_message(options.timeout)}, ignored it, and {run.what}")
        name = "minirq.exceptions.JobTimeoutException"
        failure = Failure(name, str(error), "", self._settings.name, "timeout")
        claimed = _claimed(slot, raw, record.attempts if record else 0, record.lost if record else 0)
        return settlement(claimed, after_error(error, failure, claimed, options))

    # --- a dead process, and owners whose lease has run out -----------------------------------

    def _take_back(self, dead: DeadProcess) -> None:
        settings = self._settings
        calls = [
            commands.take_back(
                keys, owner, evidence=dead.evidence.encode(), is_spared=dead.is_spared,
                blamed=[(job_id, run) for queue, job_id, run in dead.blamed if queue == number],
                pause=settings.loss_pause, linger=dead.linger,
            )
            for owner in dead.owners
            for number, keys in enumerate(settings.queue_keys)
        ]  # fmt: skip
        # where a queue's keys are broken, the owner is listed as dead, and later sweeps go on
        for name, swept in self._calls.send("take back", settings.queues * len(dead.owners), calls):
            _log_taken_back(name, swept.taken, dead.evidence)

    def sweep(self, names: Iterable[str]) -> list[str]:
        """Take back the jobs of owners whose lease has run out. Returns the queues with more to do.

        Only once the beats are steady.
        """
        names = list(names)
        settings, evidence = self._settings, SILENCE.encode()
        calls = [
            commands.sweep(
                settings.keys.of(name), now_ms=self.clock.now_ms, tolerance=settings.beat, evidence=evidence,
                lease=settings.lease, pause=settings.loss_pause, linger=settings.linger,
            )
            for name in names
        ]  # fmt: skip
        unfinished = []
        for name, swept in self._calls.send("sweep", names, calls):
            if swept.is_refused:
                logger.info("queue %s: leases prove nothing now, the server's clock or answer was off", name)
                self.clock.distrust()
            _log_taken_back(name, swept.taken, SILENCE)
            if swept.is_more:
                unfinished.append(name)
        return unfinished


def _claimed(slot: Slot, raw: bytes = b"", attempts: int = 0, lost: int = 0) -> Claimed:
    return Claimed(slot.queue, slot.id, raw, slot.run, attempts, lost)


def _log_taken_back(queue: str, taken: list[TakenBack], evidence: Failure) -> None:
    """Log which jobs of a queue were taken back, and which of them failed."""
    for job in taken:
        match job.fate:
            case "failed":
                log_death(queue, job.id, evidence, job.owner.rsplit(":", 2)[0])
            case "unknown":
                log_set_aside([SetAside(queue, job.id, job.why)])
            case fate:
                logger.warning(
                    "job %s taken back from %s (queue %s): %s, deaths of its process so far: %d",
                    safe_text(job.id), safe_text(job.owner), safe_text(queue), fate, job.lost,
                )  # fmt: skip
