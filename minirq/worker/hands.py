"""Hands: what one owner of a process that runs many jobs holds. The porter alone touches it.

An exception is `ended`, into which any thread puts what has ended: a deque's append is atomic.
"""

from __future__ import annotations

from collections import deque

from minirq.protocol.operations import Settlement
from minirq.worker.settings import MOST_HELD

#: outcomes and jobs in one request at most. A large one keeps all slots waiting for its end, and sets all
#: its jobs off at once, so that they end at once too
PART = 8


class Hands:
    """An owner with as many free slots of the board as it may hold jobs."""

    def __init__(self, owner: str, number: int, concurrency: int) -> None:
        first = number * MOST_HELD
        self.owner = owner
        #: the lowest one is taken next
        self.free = list(range(min(first + MOST_HELD, concurrency) - 1, first - 1, -1))
        #: the number of its queue, and the id: an id may be in use in several queues
        self.held: set[tuple[int, str]] = set()
        self.ended: deque[tuple[Settlement, int]] = deque()

    def take_ended(self) -> list[Settlement]:
        """Take out what has ended, a part at a time; its slots are free again."""
        settlements: list[Settlement] = []
        while self.ended and len(settlements) < PART:
            settlement, number = self.ended.popleft()
            self.held.discard((settlement.queue, settlement.id))
            self.free.append(number)
            settlements.append(settlement)
        return settlements
