"""The porter: carries outcomes to Redis and brings the next jobs, for a process that runs many at once.

One thread does that. While a request is under way, what ends collects and goes with the next one: one
settlement for all that has ended, one claim for all slots that are free. A second thread waits where
there is nothing to claim while jobs run; meanwhile nothing is claimed, so the slots cannot be too few.

It runs nothing itself: `start` does, and calls `ended` from whichever thread. Which jobs may run beside
each other the server decides (lua/lib/claim.lua): a claim says what company the process keeps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from minirq.protocol.operations import Claim, Claimed, Settlement
from minirq.worker.board import BUSY, WAITING, Board
from minirq.worker.fault_points import fault
from minirq.worker.hands import PART, Hands
from minirq.worker.journal import Journal
from minirq.worker.link import Link
from minirq.worker.loop import DRAINED, LOST, QUOTA, STOPPED, UNFIT
from minirq.worker.outcome import Released, settlement
from minirq.worker.settings import MOST_HELD

#: while the lease has run out and the next beat has not come yet, seconds
_LATE_PAUSE = 0.1
#: while jobs wait that must not run beside these: how often to look for others behind them, seconds
_BLOCKED_PAUSE = 0.25


class Porter:
    """Works for the owners of one process until it is told to stop; `work` says why it ended.

    `start` is handed jobs and the slots in which they run; `tidy` is called whenever nothing runs, and says
    whether the process may go on.
    """

    def __init__(
        self,
        links: tuple[Link, Link],
        owners: tuple[str, ...],
        board: Board,
        journal: Journal,
        *,
        concurrency: int,
        is_burst: bool,
        is_stopping: Callable[[], bool],
        quota: int | None,
        start: Callable[[list[tuple[Claimed, int]]], None],
        tidy: Callable[[], bool],
    ) -> None:
        self._link, self._waiting_link = links
        self._hands = [Hands(owner, number, concurrency) for number, owner in enumerate(owners)]
        self._board = board
        self._journal = journal
        self._is_burst = is_burst
        self._is_stopping = is_stopping
        self._quota = quota
        self._start = start
        self._tidy = tidy
        self._running = self._started = 0
        self._is_fit = True
        self._is_lost = False
        #: the company that the jobs that run keep
        self._company = ""
        #: jobs of another company wait; when to look for others behind them
        self._is_blocked = False
        self._look_at = 0.0
        #: whose claims say that nothing is to be taken until nothing runs
        self._draining: Hands | None = None
        #: the last claim: whether it brought less than was wanted, and how long to wait otherwise
        self._is_dry = False
        self._claim = Claim("ok", [])
        #: the hands into which a wait may bring a job
        self._expecting: Hands | None = None
        self._errands: SimpleQueue[Hands] = SimpleQueue()
        self._bell: SimpleQueue[Hands | Exception | None] = SimpleQueue()
        self._is_awake = True

    def ended(self, outcome: Settlement, number: int) -> None:
        """A job has ended. From any thread."""
        self._hands[number // MOST_HELD].ended.append((outcome, number))
        if not self._is_awake:
            self._is_awake = True
            self._bell.put(None)

    def work(self) -> str:
        """Carry until the end; nothing runs by then, unless the owners are lost."""
        while True:
            self._is_awake = False
            has_worked = False
            for hands in self._hands:
                has_worked = self._serve(hands) or has_worked
            if self._is_lost:
                return LOST
            if has_worked:
                continue
            if self._running == 0 and (reason := self._rest_idle()):
                return reason
            if self._running:
                self._rest_busy()

    # --- one request --------------------------------------------------------------------------

    @property
    def _is_closing(self) -> bool:
        return not self._is_fit or self._started == self._quota or self._is_stopping()

    def _want(self, hands: Hands) -> int:
        if self._is_dry or self._is_closing or self._draining not in (None, hands):
            return 0
        left = PART if self._quota is None else self._quota - self._started
        return min(len(hands.free), left, PART)

    def _serve(self, hands: Hands) -> bool:
        """Settle what has ended in these hands, and claim what fits; False if there was nothing to do."""
        outcomes = hands.take_ended()
        if outcomes:
            self._left(len(outcomes))
        want = self._want(hands)
        if not outcomes and not want:
            return False
        self._request(hands, outcomes, want)
        return True

    def _left(self, count: int) -> None:
        self._running -= count
        is_due = self._is_blocked and (not self._running or time.monotonic() >= self._look_at)
        self._is_dry = self._is_dry and not (self._is_burst or is_due)

    def _request(self, hands: Hands, outcomes: list[Settlement], want: int) -> None:
        self._link.owner = hands.owner
        settled = self._link.settle(
            outcomes,
            want=want,
            in_hand=hands.held if want else (),
            company=self._company if self._running else "",
        )
        self._journal.answered(outcomes, settled.codes)
        if want:
            self._take_in(hands, settled.claim, want)

    def _take_in(self, hands: Hands, claim: Claim, want: int) -> None:
        self._claim = claim
        self._is_lost = claim.state == "lost"
        self._is_dry = len(claim.jobs) < want and claim.state != "more"
        if claim.jobs:
            fault("claimed")
            self._board.set_state(BUSY)
        if claim.state == "drain":
            self._draining = hands
        elif self._draining is hands:
            self._draining = None
        self._is_blocked = claim.state in ("blocked", "drain")
        self._look_at = time.monotonic() + _BLOCKED_PAUSE
        mine = claim.jobs
        back = len(mine) if self._is_closing else max(len(mine) - len(hands.free), 0)
        if back:  # a wait has brought it meanwhile
            self._give_back(mine[-back:])
            del mine[-back:]
        if mine:
            self._company = claim.company
            self._running += len(mine)
            self._started += len(mine)
            hands.held.update((job.queue, job.id) for job in mine)
            self._start([(job, hands.free.pop()) for job in mine])

    def _give_back(self, jobs: list[Claimed]) -> None:
        """Put jobs back to the front, in their order."""
        self._link.settle([settlement(job, Released()) for job in reversed(jobs)], want=0)

    # --- rest ---------------------------------------------------------------------------------

    def _rest_idle(self) -> str:
        """Nothing runs: end, or wait for work in this thread. Return why to end."""
        self._is_fit = self._tidy() and self._is_fit
        if self._is_closing:  # what a wait may bring yet is taken back from the dead
            return UNFIT if not self._is_fit else QUOTA if self._started == self._quota else STOPPED
        if self._expecting is not None:
            self._board.set_state(WAITING)
            self._hear(None)
            return ""
        if self._claim.state == "late":
            self._hear(_LATE_PAUSE)
        elif self._is_burst:
            return DRAINED
        else:
            self._board.set_state(WAITING)
            self._wait(self._link, self._hands[0])
            self._come_back(self._hands[0])
        self._is_dry = False
        return ""

    def _rest_busy(self) -> None:
        """Jobs run: hear of their ends, and wait for work beside them if there is room."""
        if self._claim.state == "late":
            self._hear(_LATE_PAUSE)
            self._is_dry = False
        elif self._is_blocked:
            if not self._hear(max(self._look_at - time.monotonic(), 0)):
                self._is_dry = False
                self._look_at = time.monotonic() + _BLOCKED_PAUSE
        else:
            if self._expecting is None and not (self._is_burst or self._is_closing):
                self._expecting = next((hands for hands in self._hands if hands.free), None)
                if self._expecting is not None:
                    self._errands.put(self._expecting)
            self._hear(None)

    def _hear(self, seconds: float | None) -> bool:
        """Wait until something has happened, or so long."""
        try:
            came = self._bell.get(timeout=seconds)
        except Empty:
            return False
        if isinstance(came, Exception):
            raise came
        if came is not None:
            self._come_back(came)
        return True

    def _come_back(self, hands: Hands) -> None:
        """A wait is over: claim for the hands into which it may have brought something, whatever happens."""
        self._expecting = None
        self._is_dry = False
        outcomes = hands.take_ended()
        self._left(len(outcomes))
        self._request(hands, outcomes, max(self._want(hands), 1))

    def _wait(self, link: Link, hands: Hands) -> None:
        link.owner = hands.owner
        if self._claim.state == "paused":
            link.wait_while_paused(self._claim.pause)
        else:
            link.wait()

    def wait_beside(self) -> None:
        """Wait for work while jobs run, when asked to: the work of a second thread."""
        try:
            while True:
                hands = self._errands.get()
                self._wait(self._waiting_link, hands)
                self._bell.put(hands)
        except Exception as error:  # the porter's own thread raises it where it can be acted upon
            self._bell.put(error)

    def start_waiting(self) -> None:
        """Start that thread."""
        threading.Thread(target=self.wait_beside, name="minirq-wait", daemon=True).start()
