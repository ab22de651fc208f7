"""What a child process does between its fork and its exit: it sets itself up, and runs jobs."""

from __future__ import annotations

import ctypes
import logging
import os
import random
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from minirq.exceptions import AccessDenied, ConfigError, UnsuitableServer
from minirq.text import safe_text
from minirq.worker.cleanup import ProcessState
from minirq.worker.executor import Executor
from minirq.worker.fetcher import Context, End
from minirq.worker.interrupts import serial_guard
from minirq.worker.link import Link
from minirq.worker.runner import SerialRunner
from minirq.worker.scoreboard import Scoreboard
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis

logger = logging.getLogger(__name__)

#: exit codes that tell the supervisor more than "ended"
EXIT_DRAINED, EXIT_BROKEN, EXIT_LOST, EXIT_RECYCLED, EXIT_HOPELESS, EXIT_UNFIT = 0, 70, 75, 76, 77, 78

_PR_SET_PDEATHSIG = 1


def run_child(
    settings: WorkerSettings,
    client: redis.Redis,
    owners: tuple[str, ...],
    board: Scoreboard,
    share: int | None,
    supervisor: int,
    release: Callable[[], None],
) -> NoReturn:
    """Be a child of the process `supervisor` until the runner ends. Never returns, never raises.

    `release` closes what the fork copied from the supervisor and the child must not touch.
    """

    def is_stopping() -> bool:
        return board.is_asked_to_stop or _has_grown(board, settings.max_memory_per_child)

    code = EXIT_BROKEN
    try:
        _set_up(supervisor)
        release()
        sys.path[:0] = [path for path in settings.paths if path not in sys.path]
        _preload(settings.preload)
        first, second = (Link(client, settings, owners[0], board) for _ in range(2))
        quota = min((most for most in (share, settings.max_jobs_per_child) if most is not None), default=None)
        code = _run(Context(settings, client, board, (first, second), owners, is_stopping, quota))
    except (AccessDenied, ConfigError, UnsuitableServer) as error:
        logger.error("%s", error)
        code = EXIT_HOPELESS
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # a job may have closed it
                continue
        os._exit(code)


def _run(context: Context) -> int:
    settings, board = context.settings, context.board
    # a daemon that a job starts must not hold the dead worker's connection open: it would be served for ever
    os.register_at_fork(after_in_child=lambda: _close_sockets(context))
    if settings.concurrency == 1:
        guard = serial_guard(board)
        state = ProcessState(context.sockets, guard.put_back_alarm)
        serial = SerialRunner(context, Executor(settings), guard, state)
        reason = serial.run()
        serial.close()
    else:
        from minirq.worker.concurrent import ConcurrentRunner  # 9 ms at the start, 0.3 MB

        reason = ConcurrentRunner(context).run()
    for link in context.links:
        with suppress(Exception):
            link.close()
    return {End.LOST: EXIT_LOST, End.DRAINED: EXIT_DRAINED, End.UNFIT: EXIT_UNFIT}.get(reason, EXIT_RECYCLED)


def _preload(modules: Sequence[str]) -> None:
    for module in modules:
        try:
            import_module(module)
        except Exception as error:  # whatever the application's module raises
            raise ConfigError(
                f"--preload {module}: it cannot be imported: {type(error).__name__}: {safe_text(str(error))}"
            ) from error


def _close_sockets(context: Context) -> None:
    for sock in context.sockets():
        sock.close()


def _has_grown(board: Scoreboard, limit: int | None) -> bool:
    """Whether this process uses more memory than it may, bytes, after its jobs: not before the first one."""
    if limit is None or not board.counts[0]:
        return False
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux: what it has used at most is the next best thing
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > limit
    return pages * resource.getpagesize() > limit


def _set_up(supervisor: int) -> None:
    os.setpgid(0, 0)  # a kill takes along what a job has started
    _die_with(supervisor)
    signal.set_wakeup_fd(-1)
    # handled and not ignored: a program that a job starts inherits what is ignored, not what is handled
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _pass)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    random.seed()


def _pass(signum: int, frame: object) -> None:
    """Ignore the signal: stop requests come over the scoreboard."""


def _die_with(supervisor: int) -> None:
    """Make the kernel kill this process when its supervisor dies (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it died before that
        os._exit(EXIT_BROKEN)
