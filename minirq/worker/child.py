"""A child process: what has to be set up after the fork so that jobs run safely, then the loop."""

from __future__ import annotations

import ctypes
import logging
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from minirq.exceptions import AccessDenied
from minirq.worker.board import Board
from minirq.worker.executor import Executor
from minirq.worker.link import Link
from minirq.worker.loop import LOST, Loop, close_quietly
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis

logger = logging.getLogger(__name__)

#: exit codes that tell the supervisor more than "ended"
EXIT_LOST, EXIT_DENIED, EXIT_BROKEN = 75, 77, 70

_PR_SET_PDEATHSIG = 1


def run_child(
    settings: WorkerSettings,
    client: redis.Redis,
    owner: str,
    board: Board,
    quota: int | None,
    supervisor: int,
    release: Callable[[], None],
) -> NoReturn:
    """Be a child of the process `supervisor` until the loop ends. Never returns, never raises.

    `release` closes what the fork copied from the supervisor and the child must not touch.
    """
    code = EXIT_BROKEN
    try:
        _set_up(supervisor)
        release()
        sys.path[:0] = [path for path in settings.paths if path not in sys.path]
        code = _run(settings, client, owner, board, quota)
    except AccessDenied as error:
        logger.error("%s", error)
        code = EXIT_DENIED
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # a job may have closed it
                continue
        os._exit(code)


def _run(settings: WorkerSettings, client: redis.Redis, owner: str, board: Board, quota: int | None) -> int:
    link = Link(client, settings, owner, is_quiet=True)
    executor = Executor(
        settings.name, allow=settings.allow, accept=settings.accept, miss_window=settings.miss_window
    )
    loop = Loop(
        link,
        executor,
        board,
        settings,
        client=client,
        is_stopping=lambda: board.is_asked_to_stop,
        quota=quota,
    )
    reason = loop.run()
    close_quietly(link, executor)
    return EXIT_LOST if reason == LOST else 0


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
    """Stop requests come over the board."""


def _die_with(supervisor: int) -> None:
    """Have the kernel kill this process when its supervisor dies (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it died before that
        os._exit(EXIT_BROKEN)
