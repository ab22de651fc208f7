"""How a worker's child processes are kept running, and how each of them ends. No user code runs here.

One thread waits for whatever comes first: a signal, the death of a child, a publication, the next turn of the
maintenance. Every end of a child goes the same way: kill, wait for the death, read the board, then take back
its jobs.

    state of the worker  begins with                              children
    working              `run`                                    `processes`, or as `max_jobs` allows
    drained              a child of a burst found no more jobs    no new ones
    stopping             a signal, `stop`, `minirq stop`          each ends after its running jobs
    stopping now         the second request, or `stop_timeout`    all are killed
    over                 the last child, once all is taken back   none

    state of a child     begins with                              ends with
    starting             its fork                                 its first claim
    waiting, busy        a state on its scoreboard                its death, or one of the following
    asked to stop        a stop, SIGHUP, an abandoned run         its exit, or a kill as soon as it waits
    retiring             an abandoned run beside others           a kill: no other runs, or `retires_at`
    dead                 `Process.reap`, `Process.kill`           its jobs are taken back; a successor starts
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from minirq.backoff import Backoff
from minirq.connection.connect import open_sockets
from minirq.exceptions import AccessDenied
from minirq.protocol.commands import StopRequest
from minirq.text import counted, safe_text
from minirq.worker import child as exits
from minirq.worker.cancellation import log_stopped, log_stopping
from minirq.worker.maintenance import Maintenance, Status, worker_status
from minirq.worker.process import Death, Process
from minirq.worker.recovery import AbandonedRun, DeadProcess
from minirq.worker.scoreboard import STARTING, WAITING, Slot
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis

logger = logging.getLogger(__name__)

#: a child that ends sooner than this without having run anything is started again after a pause, seconds
_QUICK_DEATH = 1.0
#: exit codes of a child that has logged its reason
_EXPLAINED = (
    exits.EXIT_DRAINED, exits.EXIT_RECYCLED, exits.EXIT_LOST, exits.EXIT_HOPELESS, exits.EXIT_UNFIT,
)  # fmt: skip
#: stop, replace the children, and the death of a child
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
#: where no signal tells of a child's death, it is looked at this often, seconds
_LOOK_EVERY = 0.1


class Supervisor:
    """Runs a worker's children until it is asked to stop, or in a burst until the queues are empty."""

    def __init__(self, client: redis.Redis, settings: WorkerSettings) -> None:
        self._client = client
        self._settings = settings
        self._maintenance = Maintenance(client, settings, self._status, self._running)
        self._signal_fd: int | None = None
        self._signals: list[int] = []
        self._children: list[Process] = []
        self._outdated: list[Process] = []
        self._shares = _shares(settings.max_jobs, settings.processes)
        self._stop_at: float | None = None
        self._stopping_since = 0.0
        self._is_drained = self._is_hopeless = False
        self._start_at = self._last_death = 0.0
        self._backoff = Backoff(0.1, 5.0)
        self._done = self._failed = 0

    @property
    def counts(self) -> tuple[int, int]:
        """Jobs run so far, and how many runs failed."""
        live = [child.board.counts for child in self._children]
        return self._done + sum(done for done, _ in live), self._failed + sum(failed for _, failed in live)

    def run(self) -> None:
        """Work until the end.

        Raises AccessDenied if Redis refuses what a worker needs, and in a burst ServerUnavailable.
        """
        settings = self._settings
        logger.info(
            "worker %s started: queues %s, %s%s",
            settings.name, ", ".join(settings.queues), counted(settings.processes, "process", "processes"),
            f" of {settings.concurrency} jobs" if settings.concurrency > 1 else "",
        )  # fmt: skip
        with _noting_signals(self._signals) as self._signal_fd:
            try:
                while self._turn():
                    pass
            finally:
                for child in list(self._children):
                    self._end(child)
                self._maintenance.farewell()
                self._maintenance.close()
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
        self._maintenance.beat_soon()

    def _stop_now(self) -> None:
        self.stop()
        if self._stop_at != 0.0:
            logger.warning("stopping now: running jobs are cut off and go back to the queue")
            self._stop_at = 0.0

    # --- one turn -----------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Do what is due, then wait for what comes next. False when all is over."""
        pause, lost = self._maintenance.tick()
        for child in [child for child in self._children if not lost.isdisjoint(child.owners)]:
            logger.warning("process %d has lost its lease and is replaced", child.pid)
            self._end(child)
        self._start_children()
        if self._is_over:
            return False
        self._wait(min(pause, self._longest_wait()))
        while self._signals:
            self._on_signal(self._signals.pop(0))
        stops = self._maintenance.stops
        if stops.shutdown == "now":  # by `minirq stop`
            self._stop_now()
        elif stops.shutdown is not None:
            self.stop()
        stops.deliver(self._ask_to_stop)
        for child in list(self._children):
            death = child.reap()
            if death is None:
                self._watch(child)
            else:
                self._take_back(child, death)
        self._renew_one()
        return True

    @property
    def _is_over(self) -> bool:
        if self._children:
            return False
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            return True  # what could not be sent to Redis in time is left to the lease
        return not self._wanted and not self._maintenance.is_recovering

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

    # --- starting children --------------------------------------------------------------------

    def _start_children(self) -> None:
        while len(self._children) < self._wanted and time.monotonic() >= self._start_at:
            owners = self._settings.new_owners()
            if not self._maintenance.register(*owners):
                return
            self._fork(owners)

    def _fork(self, owners: tuple[str, ...]) -> None:
        child = Process(self._settings, owners, self._shares.pop() if self._shares else None)
        supervisor = os.getpid()
        child.start(
            lambda: exits.run_child(
                self._settings, self._client, owners, child.board, child.share, supervisor, self._release
            )
        )
        self._children.append(child)

    def _release(self) -> None:
        """In a child: close the copies of what is the supervisor's."""
        self._maintenance.abandon()
        for sock in open_sockets(self._client):
            sock.close()
        for other in self._children:
            other.board.close()

    # --- what the maintenance asks for --------------------------------------------------------

    def _status(self) -> Status:
        boards = {child.pid: child.board for child in self._children}
        return worker_status(self._settings, boards, self.counts, self._stopping_since)

    def _running(self) -> list[tuple[str, Slot]]:
        return [run for child in self._children for run in child.running()]

    def _ask_to_stop(self, request: StopRequest) -> bool:
        return any(child.ask_to_stop(request) for child in self._children)

    # --- waiting ------------------------------------------------------------------------------

    def _longest_wait(self) -> float:
        """How long nothing may need to be done: until the next deadline, start, or look."""
        now = time.monotonic()
        times = [now + min(self._settings.beat, self._settings.kill_grace / 2, 1.0)]
        times += [child.next_deadline for child in self._children]
        if self._stop_at is not None:
            times.append(self._stop_at)
        if self._start_at > now:
            times.append(self._start_at)
        has_pending = self._maintenance.stops.has_pending
        if has_pending or self._outdated or self._signal_fd is None:
            times.append(now + _LOOK_EVERY)
        return min(times) - now

    def _wait(self, seconds: float) -> None:
        """Wait for a signal (also that of a child's death) or a publication."""
        # made for each wait: the subscription's descriptor may be closed, and its number used again
        with selectors.DefaultSelector() as selector:
            for fd in (self._signal_fd, self._maintenance.fileno()):
                if fd is not None:
                    selector.register(fd, selectors.EVENT_READ)
            selector.select(max(seconds, 0.001))
        if self._signal_fd is not None:
            with suppress(BlockingIOError):
                os.read(self._signal_fd, 4096)
        self._maintenance.receive()

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            return
        if number == signal.SIGHUP:
            logger.info("replacing %s one by one", counted(len(self._children), "process", "processes"))
            self._outdated = list(self._children)
        elif self._stop_at is None:
            self.stop()
        else:
            self._stop_now()

    # --- watching the children ----------------------------------------------------------------

    def _watch(self, child: Process) -> None:
        """End a child that waits although it should stop or holds a job, or whose runs ignore their end."""
        now = time.monotonic()
        is_late = self._stop_at is not None and now >= self._stop_at
        if is_late or (child.board.is_asked_to_stop and child.board.state == WAITING):
            self._end(child)
            return
        if child.is_frozen(now, self._maintenance.held_for(child.owners), self._settings.linger):
            logger.warning("process %d was handed a job and does not claim it: it is replaced", child.pid)
            self._end(child)
            return
        abandoned = child.abandon_late_runs(now)
        for slot in abandoned:
            what = "does not stop" if child.is_asked(slot) else "ignores its timeout"
            logger.warning("job %s %s: process %d is replaced", safe_text(slot.id), what, child.pid)
        if child.is_hopeless or now >= child.retires_at:
            self._end(child, abandoned)
        elif abandoned:
            # the others may end, and the process takes no more
            self._settle_abandoned(child, abandoned, "was given up")
            child.board.ask_to_stop()
            child.retires_at = min(child.retires_at, now + self._settings.stop_seconds)

    def _renew_one(self) -> None:
        """Replace outdated children one after the other, so that work goes on meanwhile."""
        self._outdated = [child for child in self._outdated if child in self._children]
        if not self._outdated or self._stop_at is not None:
            return
        if len(self._children) < self._wanted or any(c.board.state == STARTING for c in self._children):
            return  # the last one's successor does not work yet
        self._outdated[0].board.ask_to_stop()

    # --- the end of a child -------------------------------------------------------------------

    def _end(self, child: Process, abandoned: Sequence[Slot] = ()) -> None:
        """Kill a child and take back its jobs, without blame."""
        death = child.kill()
        # those that ended in the last moment are left alone
        late = [slot for slot in abandoned if child.board.is_current(slot)]
        self._settle_abandoned(child, late, "was killed")
        self._take_back(child, death, is_deliberate=True)

    def _settle_abandoned(self, child: Process, runs: Iterable[Slot], what: str) -> None:
        """Settle runs: those that were asked to stop as the request demands, the others as timed out."""
        for slot in runs:
            why = "" if child.is_asked(slot) else what
            self._maintenance.recover(AbandonedRun(child.owner_of(slot), slot, why))

    def _take_back(self, child: Process, death: Death, *, is_deliberate: bool = False) -> None:
        """Take a dead child's jobs back: what ran is blamed, and spared if it was we who killed it."""
        settings, ran, latest = self._settings, child.board.running(), child.board.latest()
        code = None if ran or death.signal else death.code  # with a job, the exit code may be its choice
        is_explained = is_deliberate or code in _EXPLAINED
        if not is_explained:
            child.log_death(death, ran)
        elif code == exits.EXIT_UNFIT and latest:
            job = safe_text(latest[0].id)
            logger.warning("process %d is replaced: job %s has left it unfit", child.pid, job)
        evidence = death.as_failure(ran, settings.name, is_deliberate=is_deliberate)
        # also the runs that ended last, if not settled: they may take down one process after the other
        blamed = tuple((slot.queue, slot.id, slot.run) for slot in latest)
        linger = settings.linger if child.board.may_be_served else 0.0
        self._maintenance.recover(DeadProcess(child.owners, evidence, blamed, is_deliberate, linger))
        self._learn_from(child, code)
        if latest or is_explained:
            self._backoff.succeeded()
        elif time.monotonic() - child.started < _QUICK_DEATH:
            self._start_at = time.monotonic() + self._backoff.failed()
        self._children.remove(child)
        child.board.close()

    def _learn_from(self, child: Process, code: int | None) -> None:
        """Draw the conclusions for the children to come. `code` is None where no exit code can be trusted."""
        done, failed = child.board.counts
        self._done += done
        self._failed += failed
        if child.share is not None and child.share > done:
            self._shares.append(child.share - done)
        if code == exits.EXIT_HOPELESS:
            self._is_hopeless = True
            self.stop()
        if code not in (exits.EXIT_DRAINED, exits.EXIT_RECYCLED):
            self._last_death = time.monotonic()
        # a child that has found the queues empty ends the burst, unless it looked before the jobs of one
        # that died were put back
        self._is_drained = (
            self._settings.is_burst and code == exits.EXIT_DRAINED and child.started > self._last_death
        )


def _shares(max_jobs: int | None, processes: int) -> list[int]:
    """Share out the jobs of a worker over its children."""
    if max_jobs is None:
        return []
    each, rest = divmod(max_jobs, processes)
    return [share for i in range(processes) if (share := each + (i < rest))]


@contextmanager
def _noting_signals(came: list[int]) -> Iterator[int | None]:
    """Append to `came` the signals that come; yield a descriptor that becomes readable when one has come.

    Only the main thread can handle signals: elsewhere there is no descriptor and nothing comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    old_fd = signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)
    old = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in _SIGNALS}
    try:
        yield ends[0]
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_fd)
        for end in ends:
            os.close(end)
