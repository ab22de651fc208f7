"""A SimpleWorker's work: jobs run in the calling thread, and a second thread does the chores.

No fork, so it works everywhere; and no supervisor: a job that holds the interpreter for longer than the
lease may be taken over by another worker, and nothing kills a job that ignores its timeout.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from minirq.exceptions import ServerUnavailable
from minirq.text import safe_text
from minirq.worker import process
from minirq.worker.cancellation import RunUnderWay, log_stopped, log_stopping
from minirq.worker.executor import Executor
from minirq.worker.fetcher import LOST
from minirq.worker.interrupts import SIGNAL, BaseDeathPenalty, Guard, MainGuard, ThreadGuard
from minirq.worker.link import Link
from minirq.worker.maintenance import Maintenance
from minirq.worker.outcome import Interrupted, Outcome
from minirq.worker.recovery import DeadOwner
from minirq.worker.runner import CutOff, SerialRunner, close_quietly
from minirq.worker.scoreboard import WAITING, Scoreboard, Slot, busiest
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis

logger = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY = 0.1


class _Interrupted(BaseException):
    """A stop was asked for while the loop waited for work."""


class SimpleWork:
    """Runs jobs here until told to stop, or in a burst until the queues are empty."""

    def __init__(
        self, client: redis.Redis, settings: WorkerSettings, penalty: type[BaseDeathPenalty] | None = None
    ) -> None:
        self._client = client
        self._settings = settings
        self._penalty = penalty
        self._board = Scoreboard()
        self._chores = Maintenance(client, settings)
        self._chores.report, self._chores.stops.running = self._report, self._running
        self._chores_lock = threading.Lock()
        self._owner = ""
        self._guard: MainGuard | ThreadGuard | None = None
        self._over = threading.Event()
        self._stop_at: float | None = None
        self._stopping_since = 0.0
        self._is_stop_told = self._is_cut_off = False

    @property
    def counts(self) -> tuple[int, int]:
        """Jobs run so far, and how many runs failed."""
        return self._board.counts

    def stop(self) -> None:
        """End after the current job; it has `stop_timeout` seconds for that. Callable from any thread."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self._settings.stop_seconds
            self._stopping_since = time.time()
            self._chores.show_soon()

    def _stop_now(self) -> None:
        self.stop()
        self._stop_at = 0.0

    @property
    def _is_stopping(self) -> bool:
        return self._stop_at is not None

    def run(self) -> None:
        """Work until the end. Raises AccessDenied, and in a burst ServerUnavailable."""
        settings = self._settings
        logger.info(
            "worker %s started: queues %s, in this process", settings.name, ", ".join(settings.queues)
        )
        old = self._hear_signals()
        sys.path[:0] = [path for path in self._settings.paths if path not in sys.path]
        thread = threading.Thread(target=self._do_chores, name="minirq-chores", daemon=True)
        thread.start()
        try:
            while self._run_as_new_owner() == LOST:
                pass
        except _Interrupted:
            pass
        finally:
            self._over.set()
            thread.join()
            self._chores.farewell()
            self._chores.close()
            for number, handler in old.items():
                signal.signal(number, handler)
            log_stopped(settings, *self.counts)

    def _run_as_new_owner(self) -> str:
        owner = self._owner = self._settings.new_owner()
        while not self._register(owner):
            if self._is_stopping:
                return ""
            time.sleep(_RETRY)
        link = Link(
            self._client, self._settings, owner, self._board, is_quiet=True, limit=self._settings.patience
        )
        executor = Executor(self._settings, self._penalty)
        loop = SerialRunner(
            link,
            executor,
            self._board,
            self._settings,
            client=self._client,
            is_stopping=lambda: self._is_stopping,
            quota=self._settings.max_jobs,
            guard=_Cutting(self._guarded(executor), lambda: self._is_cut_off),
        )
        try:
            return loop.run()
        finally:
            close_quietly(link, executor)
            ran = tuple((slot.queue, slot.id, slot.run) for slot in self._board.running())
            with self._chores_lock:
                linger = self._settings.linger if self._board.may_be_served else 0.0
                self._chores.bury(
                    DeadOwner(
                        (owner,), process.of_stop(self._settings.name), ran, is_spared=True, linger=linger
                    )
                )

    def _guarded(self, executor: Executor) -> Guard:
        if threading.current_thread() is threading.main_thread() and SIGNAL is not None:
            self._guard = MainGuard(self._board, executor.cancel_coroutine, executor.stop_alarm)
            self._guard.listen()
        else:
            self._guard = ThreadGuard(executor.cancel_coroutine)
        return self._guard

    def _register(self, owner: str) -> bool:
        with self._chores_lock:
            return self._chores.register(owner)

    def _do_chores(self) -> None:
        wait = 0.0
        while not self._over.wait(wait):
            self._see_to_the_stop()
            with self._chores_lock:
                try:
                    wait, _ = self._chores.tick()
                except ServerUnavailable:  # the loop gives up as well, and says so
                    return
                # there is nobody to select on the subscription
                self._chores.hurry()
                self._pass_on_requests()
            self._heed_shutdown()
            wait = min(wait, _RETRY)

    def _report(self) -> dict[str, Any]:
        """What people get to see of this worker: the next beat takes it along."""
        done, failed = self.counts
        slots = self._board.running()
        return {
            "processes": [os.getpid()],
            "running": len(slots),
            "busy": busiest(slots, self._settings.queues),
            "done": done,
            "failed": failed,
            "failing": int(self._board.is_failing),
            "stopping": self._stopping_since,
        }

    def _running(self) -> list[RunUnderWay]:
        return [RunUnderWay(self._owner, s.queue, s.id, s.run, s.started) for s in self._board.running()]

    def _pass_on_requests(self) -> None:
        """Interrupt the run that is asked to stop. Nothing kills one that swallows that."""
        for request in self._chores.stops.taken():
            queues = self._settings.queues
            if request.owner != self._owner or request.queue not in queues:
                continue
            slot = self._board.find(queues.index(request.queue), request.id, request.run, range(1))
            if slot is not None:
                self._interrupt(slot)

    def _interrupt(self, slot: Slot) -> None:
        self._board.ask_run_to_stop(slot)
        if self._guard is not None:
            self._guard.interrupt()

    def _heed_shutdown(self) -> None:
        """Do what `minirq stop` asks for."""
        match self._chores.stops.shutdown:
            case "warm":
                self.stop()
            case "now":
                self._stop_now()

    def _see_to_the_stop(self) -> None:
        """Say that this worker stops, and cut off what still runs when its time is up."""
        if self._stop_at is None:
            return
        if not self._is_stop_told:  # not by who asks for it: that may be a signal handler
            self._is_stop_told = True
            log_stopping(self._settings)
        if time.monotonic() >= self._stop_at:
            self._cut_off()

    def _cut_off(self) -> None:
        """Interrupt the run that is under way; its job goes back to the queue. It may start only now."""
        for slot in self._board.running():
            if not self._board.is_run_asked_to_stop(slot.number):
                logger.warning("stopping now: job %s is cut off", safe_text(slot.id))
                self._is_cut_off = True
                self._interrupt(slot)

    def _hear_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}
        old: dict[int, Any] = {}
        if SIGNAL is not None:
            old[SIGNAL] = signal.getsignal(SIGNAL)
        for number in (signal.SIGINT, signal.SIGTERM):
            old[number] = signal.signal(number, self._on_signal)
        return old

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop_at == 0.0:  # what goes on in spite of the second one is left to the lease
            raise KeyboardInterrupt
        if self._is_stopping:
            self._stop_now()
            return
        self.stop()
        if self._board.state == WAITING:
            raise _Interrupted


class _Cutting:
    """A guard that gives up the run that it has interrupted because the worker stops."""

    def __init__(self, guard: Guard, is_cut_off: Callable[[], bool]) -> None:
        self._guard = guard
        self._is_cut_off = is_cut_off

    def run(self, job: Callable[[T], Outcome], argument: T) -> Outcome:
        """See Guard."""
        outcome = self._guard.run(job, argument)
        if isinstance(outcome, Interrupted) and self._is_cut_off():
            raise CutOff
        return outcome
