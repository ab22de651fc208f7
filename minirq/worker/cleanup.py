"""What a job has changed about its process is put back before the next one, or the process ends.

A process runs one job after another, so what one leaves behind surrounds the next. Put back are the working
directory, the umask, the signal mask, handlers and timers, the event loop, and stdin, stdout and stderr. What
cannot be put back (a connection to Redis that a job closed) ends the process. Threads and child processes are
left alone until there are many: libraries start them for good reasons and keep them.

Imported modules, environment variables and the state of libraries stay as a job leaves them.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from minirq.text import safe_text

logger = logging.getLogger(__name__)

#: a process that has gathered more threads, or child processes, is replaced
MOST_LEFT = 40
#: threads of the worker itself
_OWN_THREADS = "minirq-"
#: where the copies of stdin, stdout and stderr are kept: out of the way of jobs that close small numbers
_SPARE_FROM = 200

_SIGNALS = {
    "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGCHLD", "SIGPIPE", "SIGURG", "SIGUSR1", "SIGUSR2",
}  # fmt: skip

Identity = tuple[int, int]


@dataclass(slots=True)
class _Stream:
    """Stdin, stdout or stderr as it was: its name in sys, the object there, the file, and a copy of that."""

    name: str
    stream: Any
    identity: Identity | None
    spare: int | None


class ProcessState:
    """Remembers how the process was before its first job.

    `sockets` are those that lead to Redis; `put_back_alarm` returns whether a job has changed the timer.
    """

    def __init__(
        self,
        sockets: Callable[[], Iterable[socket.socket]],
        put_back_alarm: Callable[[], bool] = lambda: signal.setitimer(signal.ITIMER_REAL, 0)[0] > 0,
    ) -> None:
        self._sockets = sockets
        self._put_back_alarm = put_back_alarm
        self._known: WeakKeyDictionary[socket.socket, Identity | None] = WeakKeyDictionary()
        self._folder = _folder()
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._handlers = {one: signal.getsignal(one) for one in signal.Signals if one.name in _SIGNALS}
        self._streams = [
            _Stream(name, getattr(sys, name), _identity(number), _spare(number))
            for number, name in enumerate(("stdin", "stdout", "stderr"))
        ]
        self._logged: set[tuple[str, str]] = set()
        #: since `restore` began
        self._changed: list[str] = []
        self._is_fit = True

    def remember(self) -> None:
        """Note the connections as they are: before a job."""
        for sock in self._sockets():
            if sock not in self._known:
                self._known[sock] = _identity(sock.fileno())

    def restore(self, function: str) -> bool:
        """Put back what `function` changed; False if the process should not run another job."""
        self._changed, self._is_fit = [], True
        for number, stream in enumerate(self._streams):
            self._put_back_stream(number, stream)
        self._put_back_signals()
        if _folder() != self._folder:
            self._put_back_folder()
        if os.umask(self._umask) != self._umask:
            self._changed.append("the umask")
        _forget_event_loop()
        self._drop_foreign_sockets()
        self._count(function, "threads", _thread_count())
        self._count(function, "processes", _process_count())
        if self._changed or not self._is_fit:
            what = ", ".join(self._changed) or f"more than {MOST_LEFT} threads or processes"
            end = "it was put back" if self._is_fit else "the process is replaced"
            logger.warning("%s has left changed: %s; %s", safe_text(function), what, end)
        return self._is_fit

    # --- one thing each -----------------------------------------------------------------------

    def _put_back_stream(self, number: int, kept: _Stream) -> None:
        if _identity(number) != kept.identity:
            self._changed.append(f"descriptor {number}")
            if kept.spare is not None and _identity(kept.spare) == kept.identity:
                os.dup2(kept.spare, number)
            else:  # so that no socket gets its number, and no print goes into a socket
                null = os.open(os.devnull, os.O_RDWR)
                if null != number:
                    os.dup2(null, number)
                    os.close(null)
                kept.identity = _identity(number)
                self._is_fit = False
        if getattr(sys, kept.name) is not kept.stream:
            self._changed.append(f"sys.{kept.name}")
        if getattr(kept.stream, "closed", False):
            self._changed.append(f"a closed sys.{kept.name}")
            kept.stream = os.fdopen(number, "r" if number == 0 else "w", closefd=False)
            self._is_fit = False  # loggers may hold the closed one
        setattr(sys, kept.name, kept.stream)

    def _put_back_signals(self) -> None:
        if signal.pthread_sigmask(signal.SIG_BLOCK, ()) != self._mask:
            self._changed.append("the signal mask")
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        if self._put_back_alarm():
            self._changed.append("an alarm")
        for one, before in self._handlers.items():
            if signal.getsignal(one) != before:
                self._changed.append(f"the handler of {one.name}")
                if before is None:  # it was not Python's
                    self._is_fit = False
                else:
                    signal.signal(one, before)

    def _put_back_folder(self) -> None:
        self._changed.append("the working directory")
        try:
            os.chdir(self._folder or "/")
        except OSError:
            self._is_fit = False
        self._is_fit = self._is_fit and self._folder is not None

    def _drop_foreign_sockets(self) -> None:
        foreign = []
        for sock in self._sockets():
            now = _identity(sock.fileno())
            if now is None or self._known.setdefault(sock, now) != now:
                foreign.append(sock)
        for sock in foreign:
            sock.detach()  # whatever has this number by now is not ours to close
        if foreign:
            self._changed.append("connections to Redis, which it closed")
            self._is_fit = False

    def _count(self, function: str, what: str, count: int) -> None:
        if count and (function, what) not in self._logged:
            self._logged.add((function, what))
            logger.info("%s has left %d %s behind, or one before it", safe_text(function), count, what)
        self._is_fit = self._is_fit and count <= MOST_LEFT


def _identity(number: int) -> Identity | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _spare(number: int) -> int | None:
    import fcntl  # not on every system, and needed once

    try:
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _SPARE_FROM)
    except OSError:
        return None


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # it was removed
        return None


def _thread_count() -> int:
    """Threads besides the main one and the worker's own."""
    count = threading.active_count() - 1
    if count:
        count -= sum(thread.name.startswith(_OWN_THREADS) for thread in threading.enumerate())
    return count


def _process_count() -> int:
    """Child processes that have not ended."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # the usual case
        return 0
    try:
        mine = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:
        return 0
    return sum(not _is_zombie(pid) for pid in mine.split())


def _is_zombie(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _forget_event_loop() -> None:
    """Let the next job find the event loop of a fresh thread: none, or one that is made when it asks."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None:
        return
    if sys.version_info >= (3, 14):
        asyncio.set_event_loop(None)
        return
    policy = asyncio.get_event_loop_policy()
    local = getattr(policy, "_local", None)
    # after asyncio.run, or with a loop set, get_event_loop behaves otherwise than in a fresh process
    if type(policy) is asyncio.DefaultEventLoopPolicy and getattr(local, "_set_called", False):
        asyncio.set_event_loop_policy(None)
