"""The judge: says what follows for runs that were given up, in their owners' names."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from minirq.exceptions import MinirqError
from minirq.protocol.operations import Claimed, Settlement
from minirq.worker import evidence
from minirq.worker.board import Slot
from minirq.worker.burials import Verdict
from minirq.worker.chores import Chores
from minirq.worker.outcome import Interrupted, settlement
from minirq.worker.process import Process


class Judge:
    """Decides for the children of one worker; `chores` settle it."""

    def __init__(self, chores: Chores, worker: str) -> None:
        self._chores = chores
        self._worker = worker

    def decide(self, child: Process, given_up: Iterable[Slot], what: str) -> None:
        """Settle runs: those that were asked to stop as the request says, the others as timed out."""
        for slot in given_up:
            owner = child.watch.owner_of(slot)
            if child.watch.is_asked(slot):
                claimed = Claimed(slot.queue, slot.id, b"", slot.run, 0, 0)
                self._chores.judge(Verdict(owner, settlement(claimed, Interrupted())))
            elif (overdue := self._overdue(owner, slot, what)) is not None:
                self._chores.judge(Verdict(owner, overdue))

    def _overdue(self, owner: str, slot: Slot, what: str) -> Settlement | None:
        with suppress(MinirqError):  # if it cannot be looked up now, the job is taken back with its process
            raw, attempts, lost = self._chores.held_by(owner, slot.queue, slot.id)
            if raw is not None:
                return evidence.overdue(slot, raw, attempts, lost, self._worker, what)
        return None
