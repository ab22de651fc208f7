"""Evidence: what is put on record about a process that died, or was killed, with a job in its hands.

An obituary: what the log says of a child that has died.

A watch on the jobs of one child: which of them are over their time, or do not heed a request to stop.

It reads the board, and decides; ending a process or a job is for others.

A handle on a child process: start, kill, and learn how it ended. Knows no Redis and no jobs.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from minirq.exceptions import DeserializationError, JobTimeoutException
from minirq.protocol import payload
from minirq.protocol.commands import Claimed, Settlement, StopRequest
from minirq.protocol.record import Failure
from minirq.text import safe_text
from minirq.worker.interrupts import SIGNAL, timeout_message
from minirq.worker.outcome import after_error, settlement
from minirq.worker.scoreboard import WAITING, Scoreboard, Slot
from minirq.worker.settings import MOST_HELD

logger = logging.getLogger(__name__)


def of_death(death: Death, ran: float | None, worker: str, *, is_deliberate: bool = False) -> Failure:
    """Say how a process ended, after how many seconds of the job, and how much memory it had used."""
    how = "was ended by its worker" if is_deliberate else str(death)
    after = "" if ran is None else f" after {ran:.1f} s of the job"
    message = f"the process {how}{after}; its peak memory was {death.peak_mib:.0f} MiB"
    if not is_deliberate and death.signal == signal.SIGKILL and death.oom_kills > 0:
        message += "; possible OOM: the kernel has killed in its control group for lack of memory meanwhile"
    return Failure("WorkerLost", message, worker=worker, kind="lost")


def of_silence() -> Failure:
    """Say that a worker stopped beating; nobody knows why."""
    return Failure("WorkerLost", "the worker that ran the job stopped beating", kind="lost")


def of_stop(worker: str) -> Failure:
    """Say that a worker was stopped: on record only where it cut off a job that must not run again."""
    return Failure("WorkerLost", "the worker was stopped", worker=worker, kind="lost")


def overdue(
    slot: Slot, raw: bytes, attempts: int, lost: int, worker: str, what: str = "was killed"
) -> Settlement | None:
    """Return what follows for a job that ignored its timeout and `what`: the end, or a retry.

    None for a payload that cannot be read: it is taken back like any other.
    """
    try:
        options = payload.decode(raw).options
    except DeserializationError:
        return None
    error = JobTimeoutException(f"{timeout_message(options.timeout)}, ignored it, and {what}")
    failure = Failure("minirq.exceptions.JobTimeoutException", str(error), "", worker, "timeout")
    claimed = Claimed(slot.queue, slot.id, raw, slot.run, attempts, lost)
    return settlement(claimed, after_error(error, failure, claimed, options))


#: jobs that are named when a process died with many
_MOST_NAMED = 5


def of_lost(pid: int, death: Death, ran: Sequence[Slot]) -> None:
    """Say that a process died by itself, while it ran these jobs."""
    if not ran:
        logger.warning("process %d %s while it ran no job", pid, death)
        return
    shown = ", ".join(safe_text(slot.id) for slot in ran[:_MOST_NAMED])
    more = f" and {len(ran) - _MOST_NAMED} more" if len(ran) > _MOST_NAMED else ""
    jobs = "jobs" if len(ran) > 1 else "job"
    logger.warning("process %d %s while it ran %s %s%s", pid, death, jobs, shown, more)


def of_unfit(pid: int, last: Slot) -> None:
    """Say that a process ended because its last job has left something behind that it could not put right."""
    logger.warning("process %d is replaced: job %s has left it unfit", pid, safe_text(last.id))


class Watch:
    """Gives jobs up that go on `grace` seconds after their deadline, or after they were asked to stop."""

    def __init__(
        self, board: Scoreboard, owners: tuple[str, ...], queues: tuple[str, ...], grace: float
    ) -> None:
        self._board = board
        self._owners = owners
        self._queues = queues
        self._grace = grace
        self._asked: dict[tuple[int, int], tuple[Slot, float]] = {}
        self._given_up: dict[tuple[int, int], Slot] = {}
        self._progress: tuple[int, tuple[int, int]] | None = None
        self._progress_at = 0.0

    def owner_of(self, slot: Slot) -> str:
        """The owner that holds the job of a slot."""
        return self._owners[slot.number // MOST_HELD]

    def ask_to_stop(self, request: StopRequest, now: float) -> bool:
        """Ask a run to stop that is under way here. The child has to be told to look."""
        if request.owner not in self._owners or request.queue not in self._queues:
            return False
        first = self._owners.index(request.owner) * MOST_HELD
        queue = self._queues.index(request.queue)
        slot = self._board.find(queue, request.id, request.run, range(first, first + MOST_HELD))
        if slot is None:
            return False
        self._board.ask_run_to_stop(slot)
        self._asked.setdefault(_key(slot), (slot, now + self._grace))
        return True

    def is_asked(self, slot: Slot) -> bool:
        """Whether this run was asked to stop."""
        return _key(slot) in self._asked

    @property
    def next_time(self) -> float:
        """When the next job may have to be given up, monotonic; infinite if none."""
        if self._given_up:
            deadlines = [
                slot.deadline
                for slot in self._board.running()
                if slot.deadline and _key(slot) not in self._given_up
            ]
            first = min(deadlines, default=float("inf"))
        else:
            first = self._board.next_deadline
        asked = [at for key, (_, at) in self._asked.items() if key not in self._given_up]
        return min([first + self._grace, *asked])

    def give_up(self, now: float) -> list[Slot]:
        """Return the runs whose time has come, each once."""
        self._asked = {key: (slot, at) for key, (slot, at) in self._asked.items() if self._is_current(slot)}
        self._given_up = {key: slot for key, slot in self._given_up.items() if self._is_current(slot)}
        late = self._board.overdue(now - self._grace)
        late += [slot for slot, at in self._asked.values() if at <= now]
        new = {_key(slot): slot for slot in late if _key(slot) not in self._given_up}
        self._given_up.update(new)
        return list(new.values())

    def is_hopeless(self) -> bool:
        """Whether jobs were given up, and nothing else runs."""
        return bool(self._given_up) and all(_key(slot) in self._given_up for slot in self._board.running())

    def is_frozen(self, now: float, held_for: float, patience: float) -> bool:
        """Whether the child has only waited for so long, and held a job that it should have claimed."""
        progress = self._board.state, self._board.counts
        if progress != self._progress:
            self._progress, self._progress_at = progress, now
        return self._board.state == WAITING and min(held_for, now - self._progress_at) > patience

    def _is_current(self, slot: Slot) -> bool:
        return self._board.is_current(slot)


def _key(slot: Slot) -> tuple[int, int]:
    return slot.number, slot.sequence


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended: `signal` 0 if it exited by itself, peak memory in MiB.

    `oom_kills`: how many processes of its control group the kernel killed for lack of memory meanwhile.
    """

    code: int
    signal: int
    peak_mib: float
    oom_kills: int = 0

    def __str__(self) -> str:
        if self.signal:
            with suppress(ValueError):
                return f"was killed by {signal.Signals(self.signal).name}"
            return f"was killed by signal {self.signal}"
        return f"exited with code {self.code}"


class Process:
    """A forked child with its board and a watch on it, its owners, and its share of the jobs to run."""

    def __init__(
        self,
        owners: tuple[str, ...],
        board: Scoreboard,
        share: int | None = None,
        memory_events: Path | None = None,
        queues: tuple[str, ...] = (),
        grace: float = 0.0,
    ) -> None:
        self._memory_events = memory_events
        self._oom_kills = oom_kills(memory_events)
        self.owners = owners
        self.board = board
        self.watch = Watch(board, owners, queues, grace)
        #: when it has to be gone because some of its jobs were given up
        self.retires_at: float | None = None
        self.share = share
        self.pid = 0
        self.pidfd: int | None = None
        self.started = time.monotonic()
        self.death: Death | None = None

    def start(self, main: Callable[[], NoReturn]) -> None:
        """Fork; `main` runs in the child. Call it from the supervisor's main thread only."""
        self.pid = os.fork()
        if self.pid == 0:
            main()
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an old kernel: then the supervisor looks from time to time
                self.pidfd = os.pidfd_open(self.pid)

    def interrupt(self) -> None:
        """Have the process look on its board which runs are asked to stop."""
        if SIGNAL is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, SIGNAL)

    def kill(self) -> None:
        """Kill the process and what its jobs have started."""
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)

    def reap(self, *, wait: bool = False) -> Death | None:
        """Return how the process ended, None while it lives."""
        if self.death is None:
            try:
                pid, status, usage = os.wait4(self.pid, 0 if wait else os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                self.death = Death(-1, 0, 0.0)
            else:
                if pid == 0:
                    return None
                code, number = (
                    (0, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (os.WEXITSTATUS(status), 0)
                )
                killed = oom_kills(self._memory_events) - self._oom_kills
                self.death = Death(code, number, usage.ru_maxrss / 1024, killed)
            self._sweep_group()
        return self.death

    def close(self) -> None:
        """Give back what the handle holds."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        self.board.close()

    def _sweep_group(self) -> None:
        # what a job left running in the group must not go on without it
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def memory_events() -> Path | None:
    """The file in which the kernel counts what it kills in this process' control group (Linux, version 2)."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                file = Path("/sys/fs/cgroup") / line[3:].lstrip("/") / "memory.events"
                return file if file.is_file() else None
    return None


def oom_kills(file: Path | None) -> int:
    """How many processes the kernel has killed for lack of memory, as far as the file says."""
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines() if file else ():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
