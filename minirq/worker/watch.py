"""A watch on the jobs of one child: which of them are over their time, or do not heed a request to stop.

It reads the board, and decides; ending a process or a job is for others.
"""

from __future__ import annotations

from minirq.protocol.operations import StopRequest
from minirq.worker.board import WAITING, Board, Slot
from minirq.worker.settings import MOST_HELD


class Watch:
    """Gives jobs up that go on `grace` seconds after their deadline, or after they were asked to stop."""

    def __init__(self, board: Board, owners: tuple[str, ...], queues: tuple[str, ...], grace: float) -> None:
        self._board = board
        self._owners = owners
        self._queues = queues
        self._grace = grace
        self._asked: dict[tuple[int, int], tuple[Slot, float]] = {}
        self._given_up: dict[tuple[int, int], Slot] = {}
        self._progress: tuple[int, tuple[int, int]] | None = None
        self._progress_at = 0.0

    def owner_of(self, slot: Slot) -> str:
        """The owner that holds the job of a slot."""
        return self._owners[slot.number // MOST_HELD]

    def ask_to_stop(self, request: StopRequest, now: float) -> bool:
        """Ask a run to stop that is under way here. The child has to be told to look."""
        if request.owner not in self._owners or request.queue not in self._queues:
            return False
        first = self._owners.index(request.owner) * MOST_HELD
        queue = self._queues.index(request.queue)
        slot = self._board.find(queue, request.id, request.run, range(first, first + MOST_HELD))
        if slot is None:
            return False
        self._board.ask_run_to_stop(slot)
        self._asked.setdefault(_key(slot), (slot, now + self._grace))
        return True

    def is_asked(self, slot: Slot) -> bool:
        """Whether this run was asked to stop."""
        return _key(slot) in self._asked

    @property
    def next_time(self) -> float:
        """When the next job may have to be given up, monotonic; infinite if none."""
        if self._given_up:
            deadlines = [
                slot.deadline
                for slot in self._board.running()
                if slot.deadline and _key(slot) not in self._given_up
            ]
            first = min(deadlines, default=float("inf"))
        else:
            first = self._board.next_deadline
        asked = [at for key, (_, at) in self._asked.items() if key not in self._given_up]
        return min([first + self._grace, *asked])

    def give_up(self, now: float) -> list[Slot]:
        """Return the runs whose time has come, each once."""
        self._asked = {key: (slot, at) for key, (slot, at) in self._asked.items() if self._is_current(slot)}
        self._given_up = {key: slot for key, slot in self._given_up.items() if self._is_current(slot)}
        late = self._board.overdue(now - self._grace)
        late += [slot for slot, at in self._asked.values() if at <= now]
        new = {_key(slot): slot for slot in late if _key(slot) not in self._given_up}
        self._given_up.update(new)
        return list(new.values())

    def is_hopeless(self) -> bool:
        """Whether jobs were given up, and nothing else runs."""
        return bool(self._given_up) and all(_key(slot) in self._given_up for slot in self._board.running())

    def is_frozen(self, now: float, held_for: float, patience: float) -> bool:
        """Whether the child has only waited for so long, and held a job that it should have claimed."""
        progress = self._board.state, self._board.counts
        if progress != self._progress:
            self._progress, self._progress_at = progress, now
        return self._board.state == WAITING and min(held_for, now - self._progress_at) > patience

    def _is_current(self, slot: Slot) -> bool:
        return self._board.is_current(slot)


def _key(slot: Slot) -> tuple[int, int]:
    return slot.number, slot.sequence
