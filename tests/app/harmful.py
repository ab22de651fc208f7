"""Jobs that hurt their process, and jobs that look at what the one before left behind."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from jobs import append

from minirq.current import running


def _is_first(path: str) -> bool:
    append(path, "run")
    return len(Path(path).read_text().splitlines()) == 1


def segfault(path: str) -> str:
    if _is_first(path):
        ctypes.string_at(0)
    return "survived"


def exit_hard(path: str, code: int) -> str:
    if _is_first(path):
        os._exit(code)
    return "survived"


def killed(path: str) -> str:
    if _is_first(path):
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return "survived"


def eat_memory() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))
    try:
        return len(bytearray(1 << 31))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Unusual(BaseException):
    pass


def raise_unusual() -> None:
    raise Unusual("odd")


def recurse() -> None:
    recurse()


def match_for_ever() -> None:
    re.match(r"(a|a)*b", "a" * 60)


def hold_the_interpreter() -> None:
    sum(range(10**15))  # one call in C, which looks neither at signals nor at other threads


def swallow(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(until - time.monotonic())
        except BaseException:
            continue


def trace_and_sleep(path: str, seconds: float) -> str:
    append(path, str(os.getpid()))
    time.sleep(seconds)
    return "slept"


async def trace_and_await(path: str, seconds: float) -> str:
    append(path, str(os.getpid()))
    await asyncio.sleep(seconds)
    return "slept"


def die_after_the_end(path: str) -> str:
    """A thread that the job leaves behind takes the process down when the outcome is about to be sent."""
    append(path, "run")
    from minirq.worker import link

    link.Link.settle = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    return "returned"


# --- what is left behind ----------------------------------------------------------------------


def surroundings() -> dict[str, Any]:
    """What a job finds around it."""
    umask = os.umask(0)
    os.umask(umask)
    try:
        asyncio.get_event_loop_policy().get_event_loop().run_until_complete(asyncio.sleep(0))
        loop = "works"
    except RuntimeError as error:
        loop = str(error)
    print("a line on stdout")
    return {
        "pid": os.getpid(),
        "folder": str(Path.cwd()),
        "umask": umask,
        "mask": sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "handlers": [str(signal.getsignal(number)).partition(" at ")[0] for number in _SIGNALS],
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0] > 200,
        "loop": loop,
        "stdin": os.fstat(0).st_rdev,
        "stdout": [os.fstat(1).st_dev, os.fstat(1).st_ino],
        "sys.stdout": sys.stdout is sys.__stdout__ and not sys.stdout.closed,
        "streams": [os.fstat(number).st_mode >> 12 == 0o14 for number in (0, 1, 2)],  # a socket?
    }


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE)


def change_folder(folder: str) -> None:
    os.chdir(folder)


def remove_folder(folder: str) -> None:
    Path(folder).mkdir()
    os.chdir(folder)
    Path.cwd().rmdir()


def change_umask() -> None:
    os.umask(0o077 if os.umask(0) != 0o077 else 0o022)


def block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()))


def ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def install_handlers() -> None:
    for number in _SIGNALS:
        signal.signal(number, lambda number, frame: os._exit(3))


def set_an_alarm() -> None:
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(3))
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def leave_an_event_loop() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.close()


def run_asyncio() -> None:
    asyncio.run(asyncio.sleep(0))


def replace_stdout() -> None:
    import io

    sys.stdout = io.StringIO()


def redirect_stdout(path: str) -> None:
    number = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.dup2(number, 1)


def close_stdout() -> None:
    sys.stdout.close()


def close_all_descriptors() -> str:
    os.closerange(0, 4096)
    return "closed"


def close_and_open_files(folder: str) -> list[str]:
    """The files get the numbers that the connections had."""
    os.closerange(0, 4096)
    for n in range(20):
        os.open(Path(folder) / f"file-{n}", os.O_CREAT | os.O_RDWR)
    return sorted(path.name for path in Path(folder).glob("file-*"))


def leave_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


def leave_threads(count: int) -> None:
    for _ in range(count):
        leave_a_thread()


def leave_a_process() -> int:
    return subprocess.Popen(["sleep", "60"]).pid


def print_binary() -> None:
    os.write(1, bytes(range(256)))
    sys.stdout.buffer.write(b"\xff\xfe\x00\x1b[31m")
    print("\udcff".encode("utf-8", "surrogateescape"))


def fork_and_return(path: str) -> str:
    os.fork()
    append(path, str(os.getpid()))
    return "returned"


def daemonise(path: str) -> str:
    """Leave a grandchild in a session of its own that shares every descriptor."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            append(path, f"{os.getpid()} {open_socket_count()}")
            time.sleep(30)
        os._exit(0)
    os.wait()
    while not Path(path).exists():
        time.sleep(0.01)
    return Path(path).read_text()


def _leads_somewhere(number: str) -> bool:
    """Whether this is a socket with an address at its other end: to Redis, and no pair of an event loop."""
    try:
        with socket.socket(fileno=os.dup(int(number))) as sock:
            return bool(sock.getpeername())
    except OSError:
        return False


def open_socket_count() -> int:
    return sum(_leads_somewhere(path.name) for path in Path("/proc/self/fd").iterdir())


def big_result(path: str) -> str:
    append(path, "run")
    return "x" * 200_000


def note_the_run(path: str) -> str:
    now = running.get()
    assert now is not None
    append(path, str(now.run))
    if now.run == 1:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return "noted"
