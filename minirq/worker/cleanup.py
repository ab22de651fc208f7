"""Hygiene: what a job has changed about its process is put back before the next one, or the process ends.

A process runs one job after another, so what one leaves behind is the next one's surroundings. Put back
are the working directory, the umask, the signal mask, handlers and timers, the event loop, and stdin, stdout
and stderr. What cannot be put back (a connection to Redis closed under its owner) ends the process. Threads
and child processes are left alone until there are many: libraries start them for good reasons and keep them.

It does not know imported modules, environment variables, or the state of libraries.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from minirq.text import safe_text

logger = logging.getLogger(__name__)

#: threads, or child processes, of which a process is replaced that has gathered more
MOST_LEFT = 40
#: threads of the worker itself
_OWN_THREADS = "minirq-"
#: where the copies of stdin, stdout and stderr are kept: out of the way of jobs that close small numbers
_SPARE_FROM = 200

_HEARD = [
    getattr(signal, name)
    for name in (
        "SIGINT",
        "SIGTERM",
        "SIGHUP",
        "SIGQUIT",
        "SIGCHLD",
        "SIGPIPE",
        "SIGURG",
        "SIGUSR1",
        "SIGUSR2",
    )
    if hasattr(signal, name)
]

Identity = tuple[int, int]


class ProcessState:
    """Remembers how the process was before its first job.

    `sockets` are those that lead to Redis; `put_back_alarm` says whether a job has changed the timer.
    """

    def __init__(
        self,
        sockets: Callable[[], Iterable[socket.socket]],
        put_back_alarm: Callable[[], bool] = lambda: _drop_alarm(),
    ) -> None:
        self._sockets = sockets
        self._put_back_alarm = put_back_alarm
        self._met: WeakKeyDictionary[socket.socket, Identity | None] = WeakKeyDictionary()
        self._folder = _folder()
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._handlers = {number: signal.getsignal(number) for number in _HEARD}
        self._streams = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
        self._numbers = {number: _identity(number) for number in (0, 1, 2)}
        self._spares = {number: _spare(number) for number in (0, 1, 2)}
        self._told: set[tuple[str, str]] = set()

    def remember(self) -> None:
        """Note the connections as they are: before a job."""
        for sock in self._sockets():
            if sock not in self._met:
                self._met[sock] = _identity(sock.fileno())

    def restore(self, function: str) -> bool:
        """Put back what was changed; False if the process should not run another job. After `function`."""
        changed: list[str] = []
        is_fit = self._put_back_numbers(changed)
        is_fit = self._put_back_streams(changed) and is_fit
        is_fit = self._put_back_signals(changed) and is_fit
        is_fit = self._put_back_folder(changed) and is_fit
        if os.umask(self._umask) != self._umask:
            changed.append("the umask")
        _forget_event_loop()
        is_fit = self._drop_foreign_sockets(changed) and is_fit
        is_fit = self._is_alone(function) and is_fit
        if changed or not is_fit:
            self._tell(function, changed, is_fit)
        return is_fit

    # --- one thing each -----------------------------------------------------------------------

    def _put_back_numbers(self, changed: list[str]) -> bool:
        is_fit = True
        for number, before in self._numbers.items():
            if _identity(number) == before:
                continue
            changed.append(f"descriptor {number}")
            spare = self._spares[number]
            if spare is not None and _identity(spare) == before:
                os.dup2(spare, number)
            else:  # so that no socket gets its number, and no print goes into a socket
                null = os.open(os.devnull, os.O_RDWR)
                if null != number:
                    os.dup2(null, number)
                    os.close(null)
                self._numbers[number] = _identity(number)
                is_fit = False
        return is_fit

    def _put_back_streams(self, changed: list[str]) -> bool:
        is_fit = True
        for name, before in self._streams.items():
            if getattr(sys, name) is not before:
                changed.append(f"sys.{name}")
                setattr(sys, name, before)
            if getattr(before, "closed", False):
                changed.append(f"a closed sys.{name}")
                number = ("stdin", "stdout", "stderr").index(name)
                self._streams[name] = os.fdopen(number, "r" if number == 0 else "w", closefd=False)
                setattr(sys, name, self._streams[name])
                is_fit = False  # loggers may hold the closed one
        return is_fit

    def _put_back_signals(self, changed: list[str]) -> bool:
        if signal.pthread_sigmask(signal.SIG_BLOCK, ()) != self._mask:
            changed.append("the signal mask")
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        if self._put_back_alarm():
            changed.append("an alarm")
        for number, before in self._handlers.items():
            if signal.getsignal(number) != before:
                changed.append(f"the handler of {signal.Signals(number).name}")
                if before is None:  # it was not Python's
                    return False
                signal.signal(number, before)
        return True

    def _put_back_folder(self, changed: list[str]) -> bool:
        if _folder() == self._folder:
            return True
        changed.append("the working directory")
        try:
            os.chdir(self._folder or "/")
        except OSError:
            return False
        return self._folder is not None

    def _drop_foreign_sockets(self, changed: list[str]) -> bool:
        is_fit = True
        for sock in self._sockets():
            now = _identity(sock.fileno())
            if now is None or self._met.setdefault(sock, now) != now:
                sock.detach()  # whatever has this number by now is not ours to close
                is_fit = False
        if not is_fit:
            changed.append("connections to Redis, which it closed")
        return is_fit

    def _is_alone(self, function: str) -> bool:
        is_fit = True
        for what, count in (("threads", _thread_count()), ("processes", _process_count())):
            if count and (function, what) not in self._told:
                self._told.add((function, what))
                logger.info("%s has left %d %s behind, or one before it", safe_text(function), count, what)
            is_fit = is_fit and count <= MOST_LEFT
        return is_fit

    def _tell(self, function: str, changed: list[str], is_fit: bool) -> None:
        what = ", ".join(changed) or f"more than {MOST_LEFT} threads or processes"
        logger.warning(
            "%s has left changed: %s; %s",
            safe_text(function), what, "it was put back" if is_fit else "the process is replaced",
        )  # fmt: skip


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
    """Child processes that live."""
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


def _drop_alarm() -> bool:
    return signal.setitimer(signal.ITIMER_REAL, 0)[0] > 0


def _forget_event_loop() -> None:
    """Have the next job find the event loop of a fresh thread: none, or one that is made when it asks."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None:
        return
    if sys.version_info >= (3, 14):
        asyncio.set_event_loop(None)
        return
    policy = asyncio.get_event_loop_policy()
    local = getattr(policy, "_local", None)
    # after asyncio.run, or with a loop set, get_event_loop answers otherwise than in a fresh process
    if type(policy) is asyncio.DefaultEventLoopPolicy and getattr(local, "_set_called", False):
        asyncio.set_event_loop_policy(None)
