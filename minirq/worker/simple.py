"""How jobs run in the calling thread, while a second thread does the maintenance: a SimpleWorker's work.

No fork, so it works everywhere; and no supervisor: a job that holds the interpreter for longer than the
lease may be taken over by another worker, and nothing kills a job that ignores its timeout.

    state         begins with                              the runner
    working       `run`                                    claims and runs jobs
    stopping      a signal, `stop`, `minirq stop`          ends after the running job
    stopping now  the second request, or `stop_timeout`    ends: the running job is cut off and goes back
    given up      the third signal                         KeyboardInterrupt: the rest is left to the lease
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from minirq.exceptions import ServerUnavailable
from minirq.protocol.commands import StopRequest
from minirq.text import safe_text
from minirq.worker.cancellation import log_stopped, log_stopping
from minirq.worker.executor import Executor
from minirq.worker.fetcher import Context, End
from minirq.worker.interrupts import STOP_SIGNAL, BaseDeathPenalty, SerialGuard, serial_guard
from minirq.worker.link import Link
from minirq.worker.maintenance import Maintenance, Status, worker_status
from minirq.worker.outcome import worker_lost
from minirq.worker.recovery import DeadProcess
from minirq.worker.runner import SerialRunner
from minirq.worker.scoreboard import WAITING, Scoreboard, Slot
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis

logger = logging.getLogger(__name__)

#: how often the maintenance looks for publications and for a stop, seconds: it has nothing to select on
_LOOK_EVERY = 0.1


class _StopWaiting(BaseException):
    """A stop was asked for while the runner waited for work."""


class SimpleWork:
    """Runs jobs here until it is asked to stop, or in a burst until the queues are empty."""

    def __init__(
        self, client: redis.Redis, settings: WorkerSettings, penalty: type[BaseDeathPenalty] | None = None
    ) -> None:
        self._client = client
        self._settings = settings
        self._penalty = penalty
        self._board = Scoreboard()
        self._maintenance = Maintenance(client, settings, self._status, self._running)
        #: held around every use of the maintenance, which both threads make
        self._lock = threading.Lock()
        self._owner = ""
        self._guard: SerialGuard | None = None
        self._over = threading.Event()
        self._stop_at: float | None = None
        self._stopping_since = 0.0
        self._is_stop_logged = False

    @property
    def counts(self) -> tuple[int, int]:
        """Jobs run so far, and how many runs failed."""
        return self._board.counts

    def run(self) -> None:
        """Work until the end. Raises AccessDenied, and in a burst ServerUnavailable."""
        settings = self._settings
        logger.info(
            "worker %s started: queues %s, in this process", settings.name, ", ".join(settings.queues)
        )
        old_handlers = self._handle_signals()
        sys.path[:0] = [path for path in settings.paths if path not in sys.path]
        thread = threading.Thread(target=self._maintain, name="minirq-maintenance", daemon=True)
        thread.start()
        try:
            while self._run_as_new_owner() == End.LOST:
                pass
        except _StopWaiting:
            pass
        finally:
            self._over.set()
            thread.join()
            self._maintenance.farewell()
            self._maintenance.close()
            for number, handler in old_handlers.items():
                signal.signal(number, handler)
            log_stopped(settings, *self.counts)

    # --- the thread that runs jobs ------------------------------------------------------------

    def _run_as_new_owner(self) -> End:
        settings = self._settings
        owner = self._owner = settings.new_owner()
        while not self._register(owner):
            if self._stop_at is not None:
                return End.STOPPED
            time.sleep(_LOOK_EVERY)
        link = Link(self._client, settings, owner, self._board, limit=settings.patience)
        context = Context(
            settings, self._client, self._board, (link, link), (owner,),
            lambda: self._stop_at is not None, settings.max_jobs,
        )  # fmt: skip
        self._guard = serial_guard(self._board)
        runner = SerialRunner(context, Executor(settings, self._penalty), self._guard)
        try:
            return runner.run()
        finally:
            runner.close()
            ran = tuple((slot.queue, slot.id, slot.run) for slot in self._board.running())
            linger = settings.linger if self._board.may_be_served else 0.0
            evidence = worker_lost("the worker was stopped", settings.name)
            with self._lock:
                self._maintenance.recover(DeadProcess((owner,), evidence, ran, is_spared=True, linger=linger))

    def _register(self, owner: str) -> bool:
        with self._lock:
            return self._maintenance.register(owner)

    # --- the thread of the maintenance --------------------------------------------------------

    def _maintain(self) -> None:
        pause = 0.0
        stops = self._maintenance.stops
        while not self._over.wait(min(pause, _LOOK_EVERY)):
            self._see_to_the_stop()
            with self._lock:
                try:
                    pause, _ = self._maintenance.tick()
                except ServerUnavailable:  # the runner gives up as well, and logs it
                    return
                self._maintenance.receive()
                stops.deliver(self._ask_to_stop)
            if stops.shutdown is not None:  # by `minirq stop`
                self.stop()
            if stops.shutdown == "now":
                self._stop_at = 0.0

    def _status(self) -> Status:
        return worker_status(self._settings, {os.getpid(): self._board}, self.counts, self._stopping_since)

    def _running(self) -> list[tuple[str, Slot]]:
        return [(self._owner, slot) for slot in self._board.running()]

    def _ask_to_stop(self, request: StopRequest) -> bool:
        """Interrupt a run; False if it is not under way. Nothing kills one that ignores that."""
        queues = self._settings.queues
        if request.owner != self._owner or request.queue not in queues:
            return False
        slot = self._board.find(queues.index(request.queue), request.id, request.run, range(1))
        if slot is not None:
            self._interrupt(slot)
        return slot is not None

    def _interrupt(self, slot: Slot) -> None:
        self._board.ask_run_to_stop(slot)
        if self._guard is not None:
            self._guard.look()

    # --- stopping -----------------------------------------------------------------------------

    def stop(self) -> None:
        """End after the current job; it has `stop_timeout` seconds for that. Callable from any thread."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self._settings.stop_seconds
            self._stopping_since = time.time()
            self._maintenance.beat_soon()

    def _see_to_the_stop(self) -> None:
        """Log that this worker stops, and cut off what still runs when its time is up."""
        if self._stop_at is None:
            return
        if not self._is_stop_logged:  # not by who asks for it: that may be a signal handler
            self._is_stop_logged = True
            log_stopping(self._settings)
        if time.monotonic() < self._stop_at:
            return
        for slot in self._board.running():  # a job may start only now, so look again each time
            if not self._board.is_run_asked_to_stop(slot.number):
                logger.warning("stopping now: job %s is cut off", safe_text(slot.id))
                if self._guard is not None:
                    self._guard.is_cut_off = True
                self._interrupt(slot)

    def _handle_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}
        old = {} if STOP_SIGNAL is None else {STOP_SIGNAL: signal.getsignal(STOP_SIGNAL)}
        for number in (signal.SIGINT, signal.SIGTERM):
            old[number] = signal.signal(number, self._on_signal)
        return old

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop_at == 0.0:
            raise KeyboardInterrupt
        if self._stop_at is not None:
            self._stop_at = 0.0
            return
        self.stop()
        if self._board.state == WAITING:
            raise _StopWaiting
