"""A child process as its supervisor sees it: started, watched by its scoreboard, killed, and how it died.

A run that goes on `grace` seconds after its deadline, or after it was asked to stop, is abandoned; then the
supervisor replaces the process. Nothing here knows Redis.

    state of a run    on the scoreboard             in `_asked`    in `_abandoned`
    under way         current                       no             no
    asked to stop     current, request set          since when     no
    abandoned         current                       maybe          yes, reported once
    over              ended, or the slot is reused  forgotten      forgotten
"""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import NoReturn

from minirq.protocol.commands import StopRequest
from minirq.protocol.record import Failure
from minirq.text import safe_text
from minirq.worker.interrupts import STOP_SIGNAL
from minirq.worker.outcome import worker_lost
from minirq.worker.scoreboard import WAITING, Scoreboard, Slot
from minirq.worker.settings import MOST_HELD, WorkerSettings

logger = logging.getLogger(__name__)

#: which control group this process is in, and where the groups are (Linux, version 2)
_GROUP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
#: jobs that are named when a process died with many
_MOST_NAMED = 5


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

    def as_failure(self, ran: Sequence[Slot], worker: str, *, is_deliberate: bool = False) -> Failure:
        """Return what goes on record: how it ended, how long its one job had run, and its peak memory."""
        how = "was ended by its worker" if is_deliberate else str(self)
        after = f" after {time.monotonic() - ran[0].started:.1f} s of the job" if len(ran) == 1 else ""
        message = f"the process {how}{after}; its peak memory was {self.peak_mib:.0f} MiB"
        if not is_deliberate and self.signal == signal.SIGKILL and self.oom_kills > 0:
            message += (
                "; possible OOM: the kernel has killed in its control group for lack of memory meanwhile"
            )
        return worker_lost(message, worker)


class Process:
    """A forked child: its scoreboard, its owners, and its share of the jobs to run."""

    def __init__(self, settings: WorkerSettings, owners: tuple[str, ...], share: int | None = None) -> None:
        self.owners = owners
        self.share = share
        self.board = Scoreboard(settings.concurrency)
        self.pid = 0
        self.started = time.monotonic()
        self.death: Death | None = None
        #: when it has to be gone because some of its runs were abandoned
        self.retires_at = inf
        self._queues = settings.queues
        self._grace = settings.patience_with_jobs
        self._oom_kills = oom_kills()
        self._asked: dict[tuple[int, int], tuple[Slot, float]] = {}
        self._abandoned: dict[tuple[int, int], Slot] = {}
        self._progress: tuple[int, tuple[int, int]] | None = None
        self._progress_at = 0.0

    # --- from its start to its death ----------------------------------------------------------

    def start(self, main: Callable[[], NoReturn]) -> None:
        """Fork; `main` runs in the child. Call it from the supervisor's main thread only."""
        self.pid = os.fork()
        if self.pid == 0:
            main()

    def kill(self) -> Death:
        """Kill the process and what its jobs have started; wait for its death."""
        for kill in (os.killpg, os.kill):
            self._signal(kill, signal.SIGKILL)
        death = self.reap(wait=True)
        assert death is not None
        return death

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
                is_killed = os.WIFSIGNALED(status)
                self.death = Death(
                    0 if is_killed else os.WEXITSTATUS(status),
                    os.WTERMSIG(status) if is_killed else 0,
                    usage.ru_maxrss / 1024,
                    oom_kills() - self._oom_kills,
                )
            # what a job left running in the group must not go on without it
            self._signal(os.killpg, signal.SIGKILL)
        return self.death

    def log_death(self, death: Death, ran: Sequence[Slot]) -> None:
        """Log that the process died by itself, while it ran these jobs."""
        if not ran:
            logger.warning("process %d %s while it ran no job", self.pid, death)
            return
        shown = ", ".join(safe_text(slot.id) for slot in ran[:_MOST_NAMED])
        more = f" and {len(ran) - _MOST_NAMED} more" if len(ran) > _MOST_NAMED else ""
        jobs = "jobs" if len(ran) > 1 else "job"
        logger.warning("process %d %s while it ran %s %s%s", self.pid, death, jobs, shown, more)

    def _signal(self, send: Callable[[int, int], None], number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            send(self.pid, number)

    # --- its runs -----------------------------------------------------------------------------

    def running(self) -> list[tuple[str, Slot]]:
        """What runs, and as which owner."""
        return [(self.owner_of(slot), slot) for slot in self.board.running()]

    def owner_of(self, slot: Slot) -> str:
        """The owner that holds the job of a slot."""
        return self.owners[slot.number // MOST_HELD]

    def ask_to_stop(self, request: StopRequest) -> bool:
        """Interrupt a run; False if it is not under way here."""
        if request.owner not in self.owners or request.queue not in self._queues:
            return False
        first = self.owners.index(request.owner) * MOST_HELD
        numbers = range(first, first + MOST_HELD)
        slot = self.board.find(self._queues.index(request.queue), request.id, request.run, numbers)
        if slot is None:
            return False
        self.board.ask_run_to_stop(slot)
        self._asked.setdefault(_key(slot), (slot, time.monotonic() + self._grace))
        if STOP_SIGNAL is not None:
            self._signal(os.kill, STOP_SIGNAL)  # it looks on its board then
        return True

    def is_asked(self, slot: Slot) -> bool:
        """Whether this run was asked to stop."""
        return _key(slot) in self._asked

    @property
    def next_deadline(self) -> float:
        """When the next run may have to be abandoned, or the process has to be gone (monotonic)."""
        if self._abandoned:
            others = (slot for slot in self.board.running() if _key(slot) not in self._abandoned)
            first = min((slot.deadline for slot in others if slot.deadline), default=inf)
        else:
            first = self.board.next_deadline
        asked = [at for key, (_, at) in self._asked.items() if key not in self._abandoned]
        return min([first + self._grace, self.retires_at, *asked])

    def abandon_late_runs(self, now: float) -> list[Slot]:
        """Return the runs that went on for too long, each once."""
        self._asked = {key: kept for key, kept in self._asked.items() if self.board.is_current(kept[0])}
        self._abandoned = {key: slot for key, slot in self._abandoned.items() if self.board.is_current(slot)}
        late = self.board.overdue(now - self._grace)
        late += [slot for slot, at in self._asked.values() if at <= now]
        new = {_key(slot): slot for slot in late if _key(slot) not in self._abandoned}
        self._abandoned.update(new)
        return list(new.values())

    @property
    def is_hopeless(self) -> bool:
        """Whether runs were abandoned, and nothing else runs."""
        return bool(self._abandoned) and all(_key(slot) in self._abandoned for slot in self.board.running())

    def is_frozen(self, now: float, held_for: float, patience: float) -> bool:
        """Whether it has only waited for this long, and held a job that it should have claimed."""
        progress = self.board.state, self.board.counts
        if progress != self._progress:
            self._progress, self._progress_at = progress, now
        return self.board.state == WAITING and min(held_for, now - self._progress_at) > patience


def _key(slot: Slot) -> tuple[int, int]:
    return slot.number, slot.sequence


def oom_kills() -> int:
    """How many processes of this control group the kernel has killed for lack of memory; 0 if unknown."""
    with suppress(OSError, ValueError):
        [group] = re.findall(r"^0::/*(.*)$", _GROUP.read_text(), re.MULTILINE)
        events = (_GROUPS / group / "memory.events").read_text()
        [count] = re.findall(r"^oom_kill (\d+)$", events, re.MULTILINE)
        return int(count)
    return 0
