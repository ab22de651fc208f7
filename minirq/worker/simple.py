"""A SimpleWorker's work: jobs run in the calling thread, and a second thread does the chores.

No fork, so it works everywhere; and no supervisor: a job that holds the interpreter for longer than the
lease may be taken over by another worker, and nothing kills a job that ignores its timeout.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from minirq.worker import evidence
from minirq.worker.board import WAITING, Board, portrait
from minirq.worker.burials import Burial
from minirq.worker.chores import Chores
from minirq.worker.executor import Executor
from minirq.worker.interruption import SIGNAL, Guard, MainGuard, ThreadGuard
from minirq.worker.link import Link
from minirq.worker.loop import LOST, Loop, close_quietly
from minirq.worker.settings import WorkerSettings
from minirq.worker.stops import Held
from minirq.worker.timeouts import BaseDeathPenalty

if TYPE_CHECKING:
    import redis

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
        self._board = Board()
        self._chores = Chores(client, settings)
        self._chores.report, self._chores.stops.running = self._report, self._running
        self._chores_lock = threading.Lock()
        self._owner = ""
        self._guard: MainGuard | ThreadGuard | None = None
        self._over = threading.Event()
        self._is_stopping = False

    @property
    def counts(self) -> tuple[int, int]:
        """Jobs run so far, and how many runs failed."""
        return self._board.counts

    def stop(self) -> None:
        """End after the current job. Callable from any thread."""
        self._is_stopping = True

    def run(self) -> None:
        """Work until the end. Raises AccessDenied."""
        old = self._hear_signals()
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

    def _run_as_new_owner(self) -> str:
        owner = self._owner = self._settings.new_owner()
        while not self._register(owner):
            if self._is_stopping:
                return ""
            time.sleep(_RETRY)
        link = Link(self._client, self._settings, owner, self._board, is_quiet=True)
        executor = Executor(self._settings, self._penalty)
        loop = Loop(
            link,
            executor,
            self._board,
            self._settings,
            client=self._client,
            is_stopping=lambda: self._is_stopping,
            quota=self._settings.max_jobs,
            guard=self._guarded(executor),
        )
        try:
            return loop.run()
        finally:
            close_quietly(link, executor)
            with self._chores_lock:
                linger = self._settings.linger if self._board.may_be_served else 0.0
                self._chores.bury(Burial((owner,), evidence.of_stop(self._settings.name), linger=linger))

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
            with self._chores_lock:
                wait, _ = self._chores.tick()
                # there is nobody to select on the subscription
                self._chores.hurry()
                self._pass_on_requests()
            wait = min(wait, _RETRY)

    def _report(self) -> dict[str, Any]:
        """What people get to see of this worker: the next beat takes it along."""
        done, failed = self.counts
        slots = self._board.running()
        return {
            "processes": [os.getpid()],
            "running": len(slots),
            "busy": portrait(slots, self._settings.queues),
            "done": done,
            "failed": failed,
        }

    def _running(self) -> list[Held]:
        return [Held(self._owner, s.queue, s.id, s.run, s.started) for s in self._board.running()]

    def _pass_on_requests(self) -> None:
        """Interrupt the run that is asked to stop. Nothing kills one that swallows that."""
        for request in self._chores.stops.taken():
            queues = self._settings.queues
            if request.owner != self._owner or request.queue not in queues:
                continue
            slot = self._board.find(queues.index(request.queue), request.id, request.run, range(1))
            if slot is not None:
                self._board.ask_run_to_stop(slot)
                if self._guard is not None:
                    self._guard.interrupt()

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
        if self._is_stopping:  # the second one cuts the job off
            raise KeyboardInterrupt
        self._is_stopping = True
        if self._board.state == WAITING:
            raise _Interrupted
