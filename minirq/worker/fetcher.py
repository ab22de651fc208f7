"""Pace: how long functions take, and so how many jobs are worth claiming at once. Pure arithmetic.

The batch: jobs claimed together, and the outcomes of those that have run and are not sent yet.

Outcomes travel with the next claim, so a batch of tiny jobs costs one round trip. What must not
happen is that a result waits, or a job that was claimed and not started, while another one runs for
long. So a ticker thread looks every 5 ms: it sends what is unsent, and if the running job has turned
out long it gives the unstarted ones back. It exists only while a batch of short jobs is under way.

Jobs and outcomes are in deques whose single operations are atomic: whichever thread takes one has it.

Hands: what one owner of a process that runs many jobs holds. The porter alone touches it.

An exception is `ended`, into which any thread puts what has ended: a deque's append is atomic.

The porter: carries outcomes to Redis and brings the next jobs, for a process that runs many at once.

One thread does that. While a request is under way, what ends collects and goes with the next one: one
settlement for all that has ended, one claim for all slots that are free. A second thread waits where
there is nothing to claim while jobs run; meanwhile nothing is claimed, so the slots cannot be too few.

It runs nothing itself: `start` does, and calls `ended` from whichever thread. Which jobs may run beside
each other the server decides (lua/lib/claim.lua): a claim says what company the process keeps.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue

from minirq.protocol.commands import Claim, Claimed, Settlement
from minirq.worker.job_log import JobLog
from minirq.worker.link import Link
from minirq.worker.outcome import Released, settlement
from minirq.worker.scoreboard import BUSY, WAITING, Scoreboard
from minirq.worker.settings import MOST_HELD

#: why a loop ended
STOPPED, DRAINED, QUOTA, LOST, UNFIT = "stopped", "drained", "quota", "lost", "unfit"
#: a batch is meant to hold this much work, seconds: it ends just before a result would be sent by itself
BATCH_SECONDS = 0.0049
#: jobs in a batch at most: what an owner may hold
MOST = 64
#: a function that takes less on average may run with unsent results behind it, seconds
SHORT_SECONDS = 0.002
#: what takes longer counts as this much, seconds: all of it is long, and one such run says little of the next
LONG_SECONDS = 0.005
#: how much the newest measurement counts
_WEIGHT = 0.2
#: functions that are remembered; beyond that all start anew
_MOST_FUNCTIONS = 1000


class BatchSize:
    """Moving averages of run times, per function and of all jobs. `most` 1 turns batches off."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._by_function: dict[str, float] = {}
        self._average = BATCH_SECONDS
        self._want = 1

    def ran(self, function: str, seconds: float) -> None:
        """Note how long a run took. A rare long one weighs little: the tick sees to what waits behind it."""
        seconds = min(seconds, LONG_SECONDS)
        known = self._by_function.get(function)
        if known is None:
            if len(self._by_function) >= _MOST_FUNCTIONS:
                self._by_function.clear()
            self._by_function[function] = seconds
        else:
            self._by_function[function] = known + (seconds - known) * _WEIGHT
        self._average += (seconds - self._average) * _WEIGHT

    def is_short(self, function: str) -> bool:
        """Whether this function was measured short. One that was never measured is not."""
        return self._by_function.get(function, 1.0) < SHORT_SECONDS

    def want(self) -> int:
        """How many jobs to claim: it doubles at most from one batch to the next."""
        fitting = int(BATCH_SECONDS / max(self._average, 1e-6))
        self._want = max(1, min(self._want * 2, fitting, self._most))
        return self._want


#: how long a result may wait, and how long a job may run before those behind it are given back, seconds
TICK = 0.005


class Batch:
    """What an owner holds: at most one job runs, the others wait here or have left their outcome here."""

    def __init__(self, link: Link, journal: JobLog) -> None:
        self._link = link
        self._journal = journal
        self._todo: deque[Claimed] = deque()
        self._unsent: deque[Settlement] = deque()
        self._unsent_since = 0.0
        self._running_since = 0.0
        self._ticker: threading.Thread | None = None
        self._over = threading.Event()
        self._fault: Exception | None = None

    def __len__(self) -> int:
        return len(self._todo)

    def add(self, jobs: Iterable[Claimed]) -> None:
        """Take jobs into the batch."""
        self._todo.extend(jobs)

    def next(self) -> Claimed | None:
        """Take the next job out, None if there is none (any more)."""
        try:
            return self._todo.popleft()
        except IndexError:
            return None

    def give_back(self, claimed: Claimed) -> None:
        """Give back a job that was taken out and not started, and those behind it."""
        self._todo.appendleft(claimed)
        self.send(give_back=True)

    def starts(self, now: float, *, is_short: bool) -> None:
        """A job starts. Unless it is known to be short, neither a result nor a job may wait for its end."""
        if not is_short:
            self.rest()
            self.send(give_back=True)
        elif self._ticker is None and (self._todo or self._unsent):
            self._tick_from_now_on()
        self._running_since = now

    def ended(self, outcome: Settlement, now: float) -> None:
        """A job has ended."""
        if not self._unsent:
            self._unsent_since = now
        self._unsent.append(outcome)
        self._running_since = 0.0

    def send(self, *, give_back: bool = False, want: int = 0) -> Claim:
        """Send all outcomes, and claim. With `give_back` unstarted jobs return to the front, in order."""
        if self._fault is not None:
            raise self._fault
        with self._link.lock:
            return self._send(give_back, want)

    def rest(self) -> None:
        """End the ticker: from here on there is nothing that could wait."""
        if self._ticker is not None:
            self._over.set()
            self._ticker.join()
            self._ticker = None

    def _send(self, give_back: bool, want: int) -> Claim:
        outcomes = []
        while self._unsent:
            outcomes.append(self._unsent.popleft())
        if give_back:
            while self._todo:  # the newest first, each to the front: they end up in their order
                try:
                    outcomes.append(settlement(self._todo.pop(), Released()))
                except IndexError:
                    break
        if not outcomes and not want:
            return Claim("ok", [])
        settled = self._link.settle(
            outcomes, want=want, in_hand=[(job.queue, job.id) for job in self._todo] if want else ()
        )
        self._journal.answered(outcomes, settled.codes)
        return settled.claim

    # --- the ticker ---------------------------------------------------------------------------

    def _tick_from_now_on(self) -> None:
        self._over = threading.Event()
        self._ticker = threading.Thread(
            target=self._tick, args=(self._over,), name="minirq-tick", daemon=True
        )
        self._ticker.start()

    def _tick(self, over: threading.Event) -> None:
        pause = TICK
        while not over.wait(pause):
            now = time.monotonic()
            running_since = self._running_since
            is_long = bool(running_since) and now - running_since >= TICK
            waited = now - self._unsent_since if self._unsent else 0.0
            pause = TICK
            if waited >= TICK or (is_long and self._todo):
                try:
                    with self._link.lock:
                        self._send(give_back=is_long, want=0)
                except Exception as fault:  # the main thread raises it where it can be acted upon
                    self._fault = fault
                    return
            elif waited:
                pause = TICK - waited


#: outcomes and jobs in one request at most. A large one keeps all slots waiting for its end, and sets all
#: its jobs off at once, so that they end at once too
PART = 8


class OwnerSlots:
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


#: while the lease has run out and the next beat has not come yet, seconds
_LATE_PAUSE = 0.1
#: while jobs wait that must not run beside these: how often to look for others behind them, seconds
_BLOCKED_PAUSE = 0.25


class Fetcher:
    """Works for the owners of one process until it is told to stop; `work` says why it ended.

    `start` is handed jobs and the slots in which they run; `tidy` is called whenever nothing runs, and says
    whether the process may go on.
    """

    def __init__(
        self,
        links: tuple[Link, Link],
        owners: tuple[str, ...],
        board: Scoreboard,
        journal: JobLog,
        *,
        concurrency: int,
        is_burst: bool,
        is_stopping: Callable[[], bool],
        quota: int | None,
        start: Callable[[list[tuple[Claimed, int]]], None],
        tidy: Callable[[], bool],
    ) -> None:
        self._link, self._waiting_link = links
        self._hands = [OwnerSlots(owner, number, concurrency) for number, owner in enumerate(owners)]
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
        self._draining: OwnerSlots | None = None
        #: the last claim: whether it brought less than was wanted, and how long to wait otherwise
        self._is_dry = False
        self._claim = Claim("ok", [])
        #: the hands into which a wait may bring a job
        self._expecting: OwnerSlots | None = None
        self._errands: SimpleQueue[OwnerSlots] = SimpleQueue()
        self._bell: SimpleQueue[OwnerSlots | Exception | None] = SimpleQueue()
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

    def _want(self, hands: OwnerSlots) -> int:
        if self._is_dry or self._is_closing or self._draining not in (None, hands):
            return 0
        left = PART if self._quota is None else self._quota - self._started
        return min(len(hands.free), left, PART)

    def _serve(self, hands: OwnerSlots) -> bool:
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

    def _request(self, hands: OwnerSlots, outcomes: list[Settlement], want: int) -> None:
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

    def _take_in(self, hands: OwnerSlots, claim: Claim, want: int) -> None:
        self._claim = claim
        self._is_lost = claim.state == "lost"
        self._is_dry = len(claim.jobs) < want and claim.state != "more"
        if claim.jobs:
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

    def _come_back(self, hands: OwnerSlots) -> None:
        """A wait is over: claim for the hands into which it may have brought something, whatever happens."""
        self._expecting = None
        self._is_dry = False
        outcomes = hands.take_ended()
        self._left(len(outcomes))
        self._request(hands, outcomes, max(self._want(hands), 1))

    def _wait(self, link: Link, hands: OwnerSlots) -> None:
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
