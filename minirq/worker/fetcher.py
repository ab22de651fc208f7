"""How a process that runs many jobs at once claims and settles them, with as few requests as possible.

It has a `Fetcher` in a thread of its own (for one job at a time see runner.py). While a request is under way,
outcomes collect, and go with the next one: one settlement for all of them, one claim for all free slots.
Whether it claims is its state:

    state     entered when                                        left for CLAIMING when
    CLAIMING  it starts; a claim brought all that was wanted
    EMPTY     a claim brought less                                a wait for a job is over (in a second thread
                                                                  if jobs run); in a burst: a job has ended
    BLOCKED   the next jobs must not run beside those that run    nothing runs, or 0.25 s are over
    LATE      the lease has run out, and the next beat renews it  0.1 s are over

The server decides which jobs may run beside each other (lua/lib/claim.lua): a claim names the company that
the process keeps. While `_draining`, only the owner whose claim was answered "drain" claims.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from minirq.current import Running, running
from minirq.protocol.commands import Claim, Claimed, Settlement
from minirq.worker.job_log import JobLog
from minirq.worker.link import Link
from minirq.worker.outcome import Released, Task, settlement
from minirq.worker.scoreboard import BUSY, WAITING, Scoreboard
from minirq.worker.settings import MOST_HELD, WorkerSettings

if TYPE_CHECKING:
    import redis

#: while the lease has run out and the next beat has not come yet, seconds
LATE_PAUSE = 0.1


class End(Enum):
    """Why a runner ended."""

    STOPPED, DRAINED, QUOTA, LOST, UNFIT = "stopped", "drained", "quota", "lost", "unfit"


@dataclass(frozen=True)
class Context:
    """What a process that runs jobs is given.

    The second of its `links` waits while the first is in use. It holds jobs as the `owners`, and may run as
    many as its `quota`. `client` is for the code of jobs.
    """

    settings: WorkerSettings
    client: redis.Redis
    board: Scoreboard
    links: tuple[Link, Link]
    owners: tuple[str, ...]
    is_stopping: Callable[[], bool]
    quota: int | None = None

    def sockets(self) -> Iterator[socket.socket]:
        """The sockets to Redis that are open now."""
        for link in self.links:
            yield from link.sockets()

    def enter(self, task: Task) -> None:
        """Make this job the current one of this thread or asyncio task."""
        job, queues, namespace = task.claimed, self.settings.queues, self.settings.namespace
        now = Running(  # by position: keywords cost as much again
            job.id, queues[job.queue], job.run, job.payload, self.client, namespace, task.serializer.name
        )
        running.set(now)


#: outcomes and jobs in one request at most. A large one keeps all slots waiting for its end, and sets all
#: its jobs off at once, so that they end at once too
_PART = 8


class OwnerSlots:
    """An owner with as many free slots of the scoreboard as it may hold jobs.

    The fetcher alone touches it, except for `ended`, to which any thread appends: that is atomic.
    """

    def __init__(self, owner: str, number: int, concurrency: int) -> None:
        first = number * MOST_HELD
        self.owner = owner
        #: the lowest one is taken next
        self.free = list(range(min(first + MOST_HELD, concurrency) - 1, first - 1, -1))
        #: the number of its queue, and the id: an id may be in use in several queues
        self.held: set[tuple[int, str]] = set()
        self.ended: deque[tuple[Settlement, int]] = deque()

    def take_ended(self) -> list[Settlement]:
        """Take out outcomes, a part at a time; their slots are free again."""
        settlements: list[Settlement] = []
        while self.ended and len(settlements) < _PART:
            settlement, number = self.ended.popleft()
            self.held.discard((settlement.queue, settlement.id))
            self.free.append(number)
            settlements.append(settlement)
        return settlements


CLAIMING, EMPTY, BLOCKED, LATE = "claiming", "empty", "blocked", "late"
#: while jobs wait that must not run beside these: how often to look for others behind them, seconds
_BLOCKED_PAUSE = 0.25


class Fetcher:
    """Claims jobs for free slots and settles those that have ended, until it is told to stop.

    `start` is handed jobs and the slots in which they run; it calls `ended` from whichever thread. `restore`
    is called whenever nothing runs, and returns whether the process may go on.
    """

    def __init__(
        self,
        context: Context,
        log: JobLog,
        *,
        start: Callable[[list[tuple[Claimed, int]]], None],
        restore: Callable[[], bool],
    ) -> None:
        self._context = context
        self._is_burst = context.settings.is_burst
        self._link, self._waiting_link = context.links
        self._slots = [
            OwnerSlots(owner, number, context.settings.concurrency)
            for number, owner in enumerate(context.owners)
        ]
        self._board = context.board
        self._log = log
        self._start = start
        self._restore = restore
        self._running = self._started = 0
        self._state = CLAIMING
        #: the answer to the last claim; when to claim again although it was blocked
        self._claim = Claim("ok", [])
        self._look_at = 0.0
        #: LOST or UNFIT
        self._failure: End | None = None
        #: the company that the running jobs keep, and the one owner that may add to it
        self._company = ""
        self._draining: OwnerSlots | None = None
        #: the owner to which a wait of the second thread may bring a job
        self._expecting: OwnerSlots | None = None
        self._waits: SimpleQueue[OwnerSlots] = SimpleQueue()
        #: a wait is over (whose), or has failed; or a job has ended while this thread was not awake
        self._events: SimpleQueue[OwnerSlots | Exception | None] = SimpleQueue()
        self._is_awake = True

    def ended(self, outcome: Settlement, number: int) -> None:
        """A job has ended. From any thread."""
        self._slots[number // MOST_HELD].ended.append((outcome, number))
        if not self._is_awake:
            self._is_awake = True
            self._events.put(None)

    def work(self) -> End:
        """Fetch until the end, and return why it came; nothing runs by then, unless the owners are lost."""
        threading.Thread(target=self._wait_beside, name="minirq-wait", daemon=True).start()
        while True:
            self._is_awake = False
            has_worked = False
            for slots in self._slots:
                has_worked = self._serve(slots) or has_worked
            if self._failure == End.LOST:
                return End.LOST
            if has_worked:
                continue
            if self._running == 0 and (reason := self._rest_idle()):
                return reason
            if self._running:
                self._rest_busy()

    # --- one request --------------------------------------------------------------------------

    @property
    def _is_closing(self) -> bool:
        return (
            self._failure is not None or self._started == self._context.quota or self._context.is_stopping()
        )

    def _want(self, slots: OwnerSlots) -> int:
        if self._state != CLAIMING or self._is_closing or self._draining not in (None, slots):
            return 0
        left = _PART if self._context.quota is None else self._context.quota - self._started
        return min(len(slots.free), left, _PART)

    def _serve(self, slots: OwnerSlots, least: int = 0) -> bool:
        """Settle the jobs of an owner that have ended, and claim; False if there was nothing to do."""
        outcomes = slots.take_ended()
        if outcomes:
            self._running -= len(outcomes)
            is_over = not self._running or time.monotonic() >= self._look_at
            if self._is_burst or (self._state == BLOCKED and is_over):
                self._state = CLAIMING
        want = max(self._want(slots), least)
        if not outcomes and not want:
            return False
        self._link.owner = slots.owner
        company = self._company if self._running else ""
        settled = self._link.settle(outcomes, want=want, in_hand=slots.held if want else (), company=company)
        self._log.answered(outcomes, settled.codes)
        if want:
            self._take_in(slots, settled.claim, want)
        return True

    def _take_in(self, slots: OwnerSlots, claim: Claim, want: int) -> None:
        self._claim = claim
        if claim.state == "lost":
            self._failure = End.LOST
        if len(claim.jobs) >= want or claim.state == "more":
            self._state = CLAIMING
        else:
            self._state = {"late": LATE, "blocked": BLOCKED, "drain": BLOCKED}.get(claim.state, EMPTY)
        if claim.state == "drain":
            self._draining = slots
        elif self._draining is slots:
            self._draining = None
        self._look_at = time.monotonic() + _BLOCKED_PAUSE
        if claim.jobs:
            self._board.set_state(BUSY)
        mine = claim.jobs
        back = len(mine) if self._is_closing else max(len(mine) - len(slots.free), 0)
        if back:  # a wait has brought it meanwhile; each goes to the front, so they keep their order
            self._link.settle([settlement(job, Released()) for job in reversed(mine[-back:])], want=0)
            del mine[-back:]
        if mine:
            self._company = claim.company
            self._running += len(mine)
            self._started += len(mine)
            slots.held.update((job.queue, job.id) for job in mine)
            self._start([(job, slots.free.pop()) for job in mine])

    # --- nothing to do ------------------------------------------------------------------------

    def _rest_idle(self) -> End | None:
        """Nothing runs: end, or wait for work in this thread. Return why to end."""
        if not self._restore():
            self._failure = End.UNFIT
        if self._is_closing:  # what a wait may bring yet is taken back from the dead owner
            return self._failure or (End.QUOTA if self._started == self._context.quota else End.STOPPED)
        if self._expecting is not None:
            self._board.set_state(WAITING)
            self._next_event(None)
        elif self._state == LATE:
            self._next_event(LATE_PAUSE)
            self._state = CLAIMING
        elif self._is_burst:
            return End.DRAINED
        else:
            self._board.set_state(WAITING)
            self._link.owner = self._slots[0].owner
            self._link.wait(self._claim)
            self._waited(self._slots[0])
        return None

    def _rest_busy(self) -> None:
        """Jobs run: wait until one ends, and for work beside them if there is room."""
        if self._state == LATE:
            self._next_event(LATE_PAUSE)
            self._state = CLAIMING
        elif self._state == BLOCKED:
            if not self._next_event(max(self._look_at - time.monotonic(), 0)):
                self._state = CLAIMING
        else:
            is_blocked = self._claim.state in ("blocked", "drain")  # although it brought all that was wanted
            if self._expecting is None and not (is_blocked or self._is_burst or self._is_closing):
                self._expecting = next((slots for slots in self._slots if slots.free), None)
                if self._expecting is not None:
                    self._waits.put(self._expecting)
            self._next_event(None)

    def _next_event(self, seconds: float | None) -> bool:
        """Wait until something has happened, or this many seconds."""
        try:
            event = self._events.get(timeout=seconds)
        except Empty:
            return False
        if isinstance(event, Exception):
            raise event
        if event is not None:
            self._expecting = None
            self._waited(event)
        return True

    def _waited(self, slots: OwnerSlots) -> None:
        """A wait is over: claim for the owner to which it may have brought a job, whatever happens."""
        self._state = CLAIMING
        self._serve(slots, least=1)

    def _wait_beside(self) -> None:
        """Wait for work while jobs run, when asked to: the second thread."""
        try:
            while True:
                slots = self._waits.get()
                self._waiting_link.owner = slots.owner
                self._waiting_link.wait(self._claim)
                self._events.put(slots)
        except Exception as error:  # the fetcher's own thread raises it where it can be acted upon
            self._events.put(error)
