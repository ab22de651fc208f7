"""Signals as something that can be waited for: a descriptor, and the numbers that came.

Requests to stop runs, on their way from Redis to the board of the child that has the run.

The judge: says what follows for runs that were given up, in their owners' names.

The supervisor: keeps children running, ends those that hang, and does the chores. No user code runs here.

One thread waits for whatever comes first: a signal, the death of a child, a delayed job, the next tick.
Every end of a child goes the same way: kill, wait for the death, read the board, then take back its jobs.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from minirq.backoff import Backoff
from minirq.connection.connect import open_sockets
from minirq.exceptions import AccessDenied, MinirqError
from minirq.protocol.commands import Claimed, Settlement, StopRequest
from minirq.text import counted, safe_text
from minirq.worker import process
from minirq.worker.cancellation import RunUnderWay, log_stopped, log_stopping
from minirq.worker.child import (
    EXIT_DRAINED,
    EXIT_HOPELESS,
    EXIT_LOST,
    EXIT_RECYCLED,
    EXIT_UNFIT,
    run_child,
)
from minirq.worker.maintenance import Maintenance
from minirq.worker.outcome import Interrupted, settlement
from minirq.worker.process import Process, memory_events
from minirq.worker.recovery import DeadOwner, GivenUp
from minirq.worker.scoreboard import STARTING, WAITING, Scoreboard, Slot, busiest
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis


logger = logging.getLogger(__name__)


class Signals:
    """Hears the named signals while it is open, and gives them back afterwards.

    Only the main thread can hear signals: elsewhere there is no descriptor and nothing comes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = [name for name in names if hasattr(signal, name)]
        self._came: list[int] = []
        self._old: dict[int, Any] = {}
        self._ends: tuple[int, int] | None = None
        self._old_fd = -1

    def open(self) -> None:
        """Begin to hear."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._ends = os.pipe()
        for end in self._ends:
            os.set_blocking(end, False)
        self._old_fd = signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
        for name in self._names:
            number = getattr(signal, name)
            self._old[number] = signal.signal(number, lambda received, frame: self._came.append(received))

    @property
    def fd(self) -> int | None:
        """A descriptor that becomes readable when a signal comes."""
        return self._ends[0] if self._ends else None

    def taken(self) -> list[int]:
        """Return the numbers that came since the last call."""
        if self._ends:
            with suppress(BlockingIOError):
                os.read(self._ends[0], 4096)
        came = list(self._came)
        del self._came[: len(came)]
        return came

    def close(self) -> None:
        """Give the signals back."""
        if self._ends is None:
            return
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        for end in self._ends:
            os.close(end)
        self._ends = None


class Requests:
    """Those that no board shows the run of (yet): it may be about to start. They are kept for `patience`."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._pending: dict[StopRequest, float] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def pass_on(self, came: Iterable[StopRequest], children: Sequence[Process]) -> None:
        """Ask the runs to stop that shall."""
        now = time.monotonic()
        for request in came:
            self._pending.setdefault(request, now + self._patience)
        for request, until in list(self._pending.items()):
            child = next((child for child in children if child.watch.ask_to_stop(request, now)), None)
            if child is not None:
                child.interrupt()
            if child is not None or now >= until:
                del self._pending[request]


class Judge:
    """Decides for the children of one worker; `chores` settle it."""

    def __init__(self, chores: Maintenance, worker: str) -> None:
        self._chores = chores
        self._worker = worker

    def decide(self, child: Process, given_up: Iterable[Slot], what: str) -> None:
        """Settle runs: those that were asked to stop as the request says, the others as timed out."""
        for slot in given_up:
            owner = child.watch.owner_of(slot)
            if child.watch.is_asked(slot):
                claimed = Claimed(slot.queue, slot.id, b"", slot.run, 0, 0)
                self._chores.judge(GivenUp(owner, settlement(claimed, Interrupted())))
            elif (overdue := self._overdue(owner, slot, what)) is not None:
                self._chores.judge(GivenUp(owner, overdue))

    def _overdue(self, owner: str, slot: Slot, what: str) -> Settlement | None:
        with suppress(MinirqError):  # if it cannot be looked up now, the job is taken back with its process
            raw, attempts, lost = self._chores.held_by(owner, slot.queue, slot.id)
            if raw is not None:
                return process.overdue(slot, raw, attempts, lost, self._worker, what)
        return None


#: a child that ends sooner than this without having run anything is started again after a pause, seconds
_QUICK_DEATH = 1.0
#: ends of a child that it has given its reason for
_SAID = (EXIT_DRAINED, EXIT_RECYCLED, EXIT_LOST, EXIT_HOPELESS, EXIT_UNFIT)
#: without a descriptor for a child's death it is looked at this often, seconds
_LOOK_EVERY = 0.1


class Supervisor:
    """Runs a worker's children until it is told to stop, or in a burst until the queues are empty."""

    def __init__(self, client: redis.Redis, settings: WorkerSettings) -> None:
        self._client = client
        self._settings = settings
        self._chores = Maintenance(client, settings)
        self._chores.report = self._report
        self._chores.stops.running = self._running
        self._signals = Signals(("SIGINT", "SIGTERM", "SIGHUP", "SIGCHLD"))
        self._selector = selectors.DefaultSelector()
        self._requests = Requests(settings.beat)
        self._judge = Judge(self._chores, settings.name)
        self._memory_events = memory_events()
        self._ears: int | None = None
        self._children: list[Process] = []
        self._outdated: list[Process] = []
        self._shares = _shares(settings.max_jobs, settings.processes)
        self._stop_at: float | None = None
        self._stopping_since = 0.0
        self._is_drained = False
        self._is_hopeless = False
        self._start_at = self._last_death = 0.0
        self._backoff = Backoff(0.1, 5.0)
        self._done = self._failed = 0

    @property
    def counts(self) -> tuple[int, int]:
        """Jobs run so far, and how many runs failed."""
        live = [child.board.counts for child in self._children]
        return self._done + sum(done for done, _ in live), self._failed + sum(failed for _, failed in live)

    def run(self) -> None:
        """Work until the end. Raises AccessDenied if Redis refuses what a worker needs, and in a burst
        ServerUnavailable.
        """
        settings = self._settings
        logger.info(
            "worker %s started: queues %s, %s%s",
            settings.name, ", ".join(settings.queues), counted(settings.processes, "process", "processes"),
            f" of {settings.concurrency} jobs" if settings.concurrency > 1 else "",
        )  # fmt: skip
        self._signals.open()
        try:
            if self._signals.fd is not None:
                self._selector.register(self._signals.fd, selectors.EVENT_READ, "signal")
            while self._turn():
                pass
        finally:
            for child in list(self._children):
                self._end(child)
            self._chores.farewell()
            self._chores.close()
            self._selector.close()
            self._signals.close()
        log_stopped(settings, *self.counts)
        if self._is_hopeless:
            raise AccessDenied("a process of this worker cannot work; the log has the reason")

    def stop(self) -> None:
        """Stop warmly: running jobs have `stop_timeout` seconds to end, nothing new is started."""
        if self._stop_at is not None:
            return
        log_stopping(self._settings)
        self._stop_at = time.monotonic() + self._settings.stop_seconds
        self._stopping_since = time.time()
        for child in self._children:
            child.board.ask_to_stop()
        self._chores.show_soon()

    def _stop_now(self) -> None:
        logger.warning("stopping now: running jobs are cut off and go back to the queue")
        self._stop_at = 0.0

    # --- one turn -----------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Do what is due, then wait for what comes next. False when all is over."""
        wait, lost = self._chores.tick()
        for child in [child for child in self._children if not lost.isdisjoint(child.owners)]:
            logger.warning("process %d has lost its lease and is replaced", child.pid)
            self._end(child)
        self._start_children()
        if self._is_over:
            return False
        self._hear(self._patience(wait))
        for number in self._signals.taken():
            self._on_signal(number)
        self._heed_shutdown()
        self._requests.pass_on(self._chores.stops.taken(), self._children)
        for child in list(self._children):
            if child.reap() is not None:
                self._bury(child)
            else:
                self._watch(child)
        self._renew_one()
        return True

    @property
    def _is_over(self) -> bool:
        if self._children:
            return False
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            return True  # what cannot be said to Redis any more is left to the lease
        return not self._wanted and not self._chores.has_burials

    @property
    def _wanted(self) -> int:
        """How many children there should be."""
        if self._stop_at is not None:
            return 0
        if self._is_drained:
            return len(self._children)
        if self._settings.max_jobs is not None:
            return len(self._children) + len(self._shares)
        return self._settings.processes

    def _start_children(self) -> None:
        while len(self._children) < self._wanted and time.monotonic() >= self._start_at:
            owners = self._settings.new_owners()
            if not self._chores.register(*owners):
                return
            self._fork(owners)

    def _fork(self, owners: tuple[str, ...]) -> None:
        settings = self._settings
        share = self._shares.pop() if self._shares else None
        child = Process(
            owners, Scoreboard(settings.concurrency), share, self._memory_events,
            settings.queues, settings.patience_with_jobs,
        )  # fmt: skip
        supervisor = os.getpid()
        child.start(
            lambda: run_child(
                settings, self._client, owners, child.board, child.share, supervisor, self._release
            )
        )
        self._children.append(child)
        self._follow_ears()  # if they were closed meanwhile, the child may have got their descriptor
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, "child")

    def _release(self) -> None:
        """In a child: close the copies of what is the supervisor's."""
        self._selector.close()
        self._chores.abandon()
        for sock in open_sockets(self._client):
            sock.close()
        for other in self._children:
            other.close()

    def _report(self) -> dict[str, Any]:
        """What people want to see of this worker."""
        done, failed = self.counts
        slots = [slot for child in self._children for slot in child.board.running()]
        return {
            "processes": [child.pid for child in self._children],
            "concurrency": self._settings.concurrency,
            "running": len(slots),
            "busy": busiest(slots, self._settings.queues),
            "done": done,
            "failed": failed,
            "failing": sum(child.board.is_failing for child in self._children),
            "stopping": self._stopping_since,
        }

    def _running(self) -> list[RunUnderWay]:
        return [
            RunUnderWay(child.watch.owner_of(slot), slot.queue, slot.id, slot.run, slot.started)
            for child in self._children
            for slot in child.board.running()
        ]

    # --- waiting ------------------------------------------------------------------------------

    def _patience(self, wait: float) -> float:
        """How long nothing may need to be done: until the next tick, deadline, start, or look."""
        now = time.monotonic()
        times = [now + wait, now + min(self._settings.beat, self._settings.kill_grace / 2, 1.0)]
        if self._stop_at is not None:
            times.append(self._stop_at)
        if self._start_at > now:
            times.append(self._start_at)
        if self._requests or self._outdated or any(child.pidfd is None for child in self._children):
            times.append(now + _LOOK_EVERY)
        for child in self._children:
            times.append(child.watch.next_time)
            if child.retires_at is not None:
                times.append(child.retires_at)
        return max(min(times) - now, 0.001)

    def _follow_ears(self) -> None:
        """Select on the subscription that the chores have now."""
        ears = self._chores.fileno()
        if ears == self._ears:
            return
        if self._ears is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(self._ears)
        if ears is not None:
            self._selector.register(ears, selectors.EVENT_READ, "publication")
        self._ears = ears

    def _hear(self, seconds: float) -> None:
        self._follow_ears()
        for key, _ in self._selector.select(seconds):
            if key.data == "publication":
                self._chores.hurry()
                self._follow_ears()  # if it closed them, the next ones may get the same number

    def _on_signal(self, number: int) -> None:
        if number == getattr(signal, "SIGCHLD", None):
            return
        if number == getattr(signal, "SIGHUP", None):
            logger.info("replacing %s one by one", counted(len(self._children), "process", "processes"))
            self._outdated = list(self._children)
        elif self._stop_at is None:
            self.stop()
        else:
            self._stop_now()

    def _heed_shutdown(self) -> None:
        """Do what `minirq stop` asks for."""
        how = self._chores.stops.shutdown
        if how is not None and self._stop_at is None:
            self.stop()
        if how == "now" and self._stop_at != 0.0:
            self._stop_now()

    # --- watching the children ----------------------------------------------------------------

    def _watch(self, child: Process) -> None:
        """End a child that waits although it shall stop or holds a job, or whose jobs heed nothing."""
        now = time.monotonic()
        is_late = self._stop_at is not None and now >= self._stop_at
        if is_late or (child.board.is_asked_to_stop and child.board.state == WAITING):
            self._end(child)
            return
        if child.watch.is_frozen(now, self._chores.held_for(child.owners), self._settings.linger):
            logger.warning("process %d was brought a job and does not take it: it is replaced", child.pid)
            self._end(child)
            return
        given_up = child.watch.give_up(now)
        for slot in given_up:
            what = "does not stop" if child.watch.is_asked(slot) else "ignores its timeout"
            logger.warning("job %s %s: process %d is replaced", safe_text(slot.id), what, child.pid)
        if child.watch.is_hopeless() or (child.retires_at is not None and now >= child.retires_at):
            self._end(child, given_up)
        elif given_up:
            # the others may end, and the process takes no more
            self._judge.decide(child, given_up, "was given up")
            child.board.ask_to_stop()
            child.retires_at = child.retires_at or now + self._settings.stop_seconds

    def _renew_one(self) -> None:
        """Replace outdated children one after the other, so that work goes on meanwhile."""
        self._outdated = [child for child in self._outdated if child in self._children]
        if not self._outdated or self._stop_at is not None:
            return
        if len(self._children) < self._wanted or any(c.board.state == STARTING for c in self._children):
            return  # the last one's successor does not work yet
        self._outdated[0].board.ask_to_stop()

    def _end(self, child: Process, given_up: Sequence[Slot] = ()) -> None:
        """Kill a child and take back its jobs, without blame."""
        child.kill()
        child.reap(wait=True)
        # those that ended in the last moment are left alone
        self._judge.decide(child, [slot for slot in given_up if child.board.is_current(slot)], "was killed")
        self._bury(child, is_deliberate=True)

    def _bury(self, child: Process, *, is_deliberate: bool = False) -> None:
        """Take a dead child's jobs back: what ran is blamed, and spared if it was we who killed it."""
        death, slots, latest = child.death, child.board.running(), child.board.latest()
        assert death is not None
        # also the runs that ended last, if not settled: they may take down one process after the other
        blamed = tuple((slot.queue, slot.id, slot.run) for slot in latest)
        is_unexplained = bool(death.signal) or death.code not in _SAID
        if not is_deliberate and (slots or is_unexplained):  # with a job, the exit code may be its choice
            process.of_lost(child.pid, death, slots)
        elif death.code == EXIT_UNFIT and latest:
            process.of_unfit(child.pid, latest[0])
        ran = time.monotonic() - slots[0].started if len(slots) == 1 else None
        proof = process.of_death(death, ran, self._settings.name, is_deliberate=is_deliberate)
        linger = self._settings.linger if child.board.may_be_served else 0.0
        self._chores.bury(DeadOwner(child.owners, proof, blamed, is_deliberate, linger))
        self._learn_from(child, None if slots or death.signal else death.code)
        if not latest and not is_deliberate and is_unexplained:
            self._hold_back(child)
        else:
            self._backoff.succeeded()
        self._children.remove(child)
        if child.pidfd is not None:
            self._selector.unregister(child.pidfd)
        child.close()

    def _learn_from(self, child: Process, code: int | None) -> None:
        """Draw the conclusions for the children to come. `code` is None where no exit code can be trusted."""
        done, failed = child.board.counts
        self._done += done
        self._failed += failed
        if child.share is not None and child.share > done:
            self._shares.append(child.share - done)
        if code == EXIT_HOPELESS:
            self._is_hopeless = True
            self.stop()
        if code not in (EXIT_DRAINED, EXIT_RECYCLED):
            self._last_death = time.monotonic()
        # a child that has found the queues empty ends the burst, unless it looked before the jobs of one
        # that died were put back
        self._is_drained = (
            self._settings.is_burst and code == EXIT_DRAINED and child.started > self._last_death
        )

    def _hold_back(self, child: Process) -> None:
        """Children that die by themselves, with no job in sight, are not started again in a hurry."""
        if time.monotonic() - child.started < _QUICK_DEATH:
            self._start_at = time.monotonic() + self._backoff.failed()


def _shares(max_jobs: int | None, processes: int) -> list[int]:
    """Share out the jobs of a worker over its children."""
    if max_jobs is None:
        return []
    each, rest = divmod(max_jobs, processes)
    return [share for i in range(processes) if (share := each + (i < rest))]
