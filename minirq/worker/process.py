"""A handle on a child process: start, kill, and learn how it ended. Knows no Redis and no jobs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from minirq.worker.board import Board
from minirq.worker.interruption import SIGNAL
from minirq.worker.watch import Watch


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
        board: Board,
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
