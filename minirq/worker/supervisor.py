"""The supervisor: keeps children running, ends those that hang, and does the chores. No user code runs here.

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
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from minirq.exceptions import AccessDenied, JobTimeoutException
from minirq.protocol import payload
from minirq.protocol.failure import Failure
from minirq.protocol.operations import Claimed, Settlement
from minirq.text import safe_text
from minirq.worker.board import WAITING, Board, Slot
from minirq.worker.child import EXIT_DENIED, EXIT_LOST, run_child
from minirq.worker.chores import Burial, Chores
from minirq.worker.outcome import after_error, settlement
from minirq.worker.process import Death, Process
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis

logger = logging.getLogger(__name__)

#: a child that ends sooner than this without having run anything is started again after a pause, seconds
_QUICK_DEATH = 1.0
_LONGEST_PAUSE = 5.0
#: without a descriptor for a child's death it is looked at this often, seconds
_LOOK_EVERY = 0.1


class Supervisor:
    """Runs a worker's children until it is told to stop, or in a burst until the queues are empty."""

    def __init__(self, client: redis.Redis, settings: WorkerSettings) -> None:
        self._client = client
        self._settings = settings
        self._chores = Chores(client, settings)
        self._children: list[Process] = []
        self._selector = selectors.DefaultSelector()
        self._ears: int | None = None
        self._stop_at: float | None = None
        self._signals: list[int] = []
        self._drained = 0
        self._quotas = _shares(settings.max_jobs, settings.processes)
        self._start_at = 0.0
        self._pause = 0.0
        self._done = self._failed = 0
        self._denied = False

    @property
    def counts(self) -> tuple[int, int]:
        """Jobs run so far, and how many runs failed."""
        live = [child.board.counts for child in self._children]
        return self._done + sum(done for done, _ in live), self._failed + sum(failed for _, failed in live)

    def run(self) -> None:
        """Work until the end. Raises AccessDenied if Redis refuses what a worker needs."""
        with _Signals(self._signals.append) as signals:
            if signals is not None:
                self._selector.register(signals, selectors.EVENT_READ, "signal")
            logger.info(
                "worker %s started: queues %s, %d processes",
                self._settings.name, ", ".join(self._settings.queues), self._settings.processes,
            )  # fmt: skip
            try:
                while self._turn():
                    pass
            finally:
                for child in list(self._children):
                    self._end(child)
                self._chores.farewell()
                self._chores.close()
                self._selector.close()
        done, failed = self.counts
        logger.info("worker %s stopped: %d jobs run, %d of them failed", self._settings.name, done, failed)
        if self._denied:
            raise AccessDenied("a process of this worker was denied what it needs; the log has the reason")

    # --- one turn -----------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Do what is due, then wait for what comes next. False when all is over."""
        self._chores.report = self._report()
        wait, lost = self._chores.tick()
        for child in [child for child in self._children if child.owner in lost]:
            logger.warning("process %d has lost its lease and is replaced", child.pid)
            self._end(child)
        self._start_children()
        if self._is_over:
            return False
        self._hear(self._patience(wait))
        for number in self._taken_signals():
            self._on_signal(number)
        for child in list(self._children):
            if child.reap() is not None:
                self._bury(child)
            else:
                self._watch(child)
        return True

    def _report(self) -> dict[str, Any]:
        """What people get to see of this worker: the next beat takes it along."""
        now = time.monotonic()
        slots = [slot for child in self._children if (slot := child.board.current)]
        done, failed = self.counts
        return {
            "processes": [child.pid for child in self._children],
            "busy": [
                [slot.id, self._settings.queues[slot.queue], round(now - slot.started, 3)] for slot in slots
            ],
            "done": done,
            "failed": failed,
        }

    @property
    def _is_over(self) -> bool:
        if self._children:
            return False
        if self._stop_at is not None:
            # what cannot be said to Redis any more is left to the lease
            return not self._chores.has_burials or time.monotonic() >= self._stop_at
        return not self._wanted and not self._chores.has_burials

    @property
    def _wanted(self) -> int:
        """How many children there should be."""
        if self._stop_at is not None:
            return 0
        if self._settings.max_jobs is not None:
            return len(self._quotas) + len(self._children) if not self._is_drained else len(self._children)
        return len(self._children) if self._is_drained else self._settings.processes

    @property
    def _is_drained(self) -> bool:
        return self._settings.is_burst and self._drained > 0

    def _start_children(self) -> None:
        while len(self._children) < self._wanted and time.monotonic() >= self._start_at:
            owner = self._settings.new_owner()
            if not self._chores.register(owner):
                return
            self._fork(owner, self._quotas.pop() if self._quotas else None)

    def _fork(self, owner: str, quota: int | None) -> None:
        child = Process(owner, Board())
        child.quota = quota
        supervisor = os.getpid()
        child.start(
            lambda: run_child(
                self._settings, self._client, owner, child.board, quota, supervisor, self._release
            )
        )
        self._children.append(child)
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, "child")

    def _release(self) -> None:
        """In a child: close the copies of what is the supervisor's."""
        self._selector.close()
        self._chores.close()
        self._client.connection_pool.disconnect()
        for other in self._children:
            other.close()

    # --- waiting ------------------------------------------------------------------------------

    def _patience(self, wait: float) -> float:
        """How long nothing may need to be done: until the next tick, deadline, start, or look."""
        now = time.monotonic()
        times = [now + wait, now + min(self._settings.beat, self._settings.kill_grace / 2, 1.0)]
        if self._stop_at is not None:
            times.append(self._stop_at)
        if self._start_at > now:
            times.append(self._start_at)
        if any(child.pidfd is None for child in self._children):
            times.append(now + _LOOK_EVERY)
        for child in self._children:
            slot = child.board.current
            if slot and slot.deadline:
                times.append(slot.deadline + self._settings.kill_grace)
        return max(min(times) - now, 0.001)

    def _hear(self, seconds: float) -> None:
        ears = self._chores.fileno()
        if ears != self._ears:
            if self._ears is not None:
                with suppress(KeyError, ValueError):
                    self._selector.unregister(self._ears)
            if ears is not None:
                self._selector.register(ears, selectors.EVENT_READ, "publication")
            self._ears = ears
        for key, _ in self._selector.select(seconds):
            if key.data == "publication":
                self._chores.hurry()
            elif key.data == "signal":
                with suppress(BlockingIOError):
                    os.read(key.fd, 4096)

    def _taken_signals(self) -> list[int]:
        taken = list(self._signals)
        del self._signals[: len(taken)]
        return taken

    # --- stopping -----------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        if number == getattr(signal, "SIGCHLD", None):
            return
        if self._stop_at is None:
            self.stop()
        else:
            logger.warning("stopping now: running jobs are cut off and go back to the queue")
            self._stop_at = 0.0

    def stop(self) -> None:
        """Stop warmly: running jobs have `stop_timeout` seconds to end, nothing new is started."""
        logger.info("stopping: waiting up to %g s for running jobs", self._settings.stop_timeout)
        self._stop_at = time.monotonic() + self._settings.stop_timeout
        for child in self._children:
            child.board.ask_to_stop()

    def _watch(self, child: Process) -> None:
        """End a child that waits while we stop, or whose job is over its time."""
        if self._stop_at is not None:
            is_over = time.monotonic() >= self._stop_at
            if is_over or child.board.state == WAITING:
                self._end(child)
            return
        slot = child.board.current
        if slot and slot.deadline and time.monotonic() >= slot.deadline + self._settings.kill_grace:
            logger.warning("job %s ignores its timeout: process %d is killed", safe_text(slot.id), child.pid)
            self._end(child, overdue=slot)

    # --- ends ---------------------------------------------------------------------------------

    def _end(self, child: Process, overdue: Slot | None = None) -> None:
        """Kill a child and take back its jobs, without blame."""
        child.kill()
        child.reap(wait=True)
        slot = child.board.current
        if overdue is not None and (slot is None or slot.run != overdue.run or slot.id != overdue.id):
            overdue = None  # it ended in the last moment
        self._bury(child, is_deliberate=True, overdue=overdue)

    def _bury(self, child: Process, *, is_deliberate: bool = False, overdue: Slot | None = None) -> None:
        """Take a dead child's jobs back: what ran is blamed, unless it was we who killed it."""
        death = child.death
        assert death is not None
        slot = child.board.current
        done, failed = child.board.counts
        settled = self._overdue_settlement(child, overdue) if overdue else None
        blamed: tuple[tuple[str, int], ...] = ()
        if slot is not None and not is_deliberate and death.code != EXIT_LOST:
            blamed = ((slot.id, slot.run),)
            logger.warning(
                "process %d was running job %s and %s", child.pid, safe_text(slot.id), death
            )  # fmt: skip
        elif not is_deliberate and (death.signal or death.code not in (0, EXIT_LOST, EXIT_DENIED)):
            logger.warning("process %d %s while it ran no job", child.pid, death)
        self._chores.bury(Burial(child.owner, self._evidence(child, slot, death), blamed, settled))
        self._note_end(child, death, done)
        self._done += done
        self._failed += failed
        self._children.remove(child)
        if child.pidfd is not None:
            self._selector.unregister(child.pidfd)
        child.close()

    def _note_end(self, child: Process, death: Death, done: int) -> None:
        """Draw the conclusions for the children to come."""
        if child.quota is not None and child.quota > done:
            self._quotas.append(child.quota - done)
        if death.code == EXIT_DENIED:
            self._denied = True
            self.stop()
        if death.code == 0 and not death.signal:
            self._drained += 1
            self._pause = 0.0
        elif done == 0 and time.monotonic() - child.started < _QUICK_DEATH:
            self._pause = min(max(self._pause * 2, 0.1), _LONGEST_PAUSE)
            self._start_at = time.monotonic() + self._pause
        if death.signal or death.code:
            self._drained = 0  # its job has to be run by somebody

    def _evidence(self, child: Process, slot: Slot | None, death: Death) -> Failure:
        ran = f" after {time.monotonic() - slot.started:.1f} s" if slot else ""
        message = f"the process that ran the job was {death}{ran}; peak memory {death.peak_mib:.0f} MiB"
        if not death.signal:
            message = message.replace("was exited", "exited")
        return Failure("WorkerLost", message, worker=self._settings.name, kind="lost")

    def _overdue_settlement(self, child: Process, slot: Slot) -> Settlement | None:
        """What follows for a job whose process was killed because it ignored its timeout."""
        with suppress(Exception):  # without it, the job is simply taken back
            raw, attempts, lost = self._chores.payload_of(child.owner, slot.queue, slot.id)
            if raw is None:
                return None
            options = payload.decode(raw).options
            error = JobTimeoutException(
                f"the job ran longer than its timeout of {options.timeout:g} s, ignored it, and was killed"
            )
            failure = Failure(
                "minirq.exceptions.JobTimeoutException", str(error), "", self._settings.name, "timeout"
            )
            claimed = Claimed(slot.queue, slot.id, raw, slot.run, attempts, lost)
            return settlement(claimed, after_error(error, failure, claimed, options))
        return None


def _shares(max_jobs: int | None, processes: int) -> list[int]:
    """Share out the jobs of a worker over its children."""
    if max_jobs is None:
        return []
    each, rest = divmod(max_jobs, processes)
    return [share for i in range(processes) if (share := each + (i < rest))]


class _Signals:
    """Hears signals in the main thread, and gives them back at the end. Elsewhere: None, no signals."""

    def __init__(self, hear: Callable[[int], None]) -> None:
        self._hear = hear
        self._old: dict[int, Any] = {}

    def __enter__(self) -> int | None:
        if threading.current_thread() is not threading.main_thread():
            return None
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for name in ("SIGINT", "SIGTERM", "SIGCHLD"):
            number = getattr(signal, name)
            self._old[number] = signal.signal(number, lambda received, frame: self._hear(received))
        return self._read

    def __exit__(self, *error: object) -> None:
        if not self._old:
            return
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        os.close(self._read)
        os.close(self._write)
