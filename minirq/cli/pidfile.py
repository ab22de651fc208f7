"""`minirq worker --pid FILE`: keep the worker's process id in a file while it runs."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minirq.exceptions import InvalidOption
from minirq.ownership import is_of_stranger
from minirq.text import safe_text


@contextmanager
def pid_file(path: Path | None) -> Iterator[None]:
    """Keep this process' id in the file inside the context; without a path do nothing.

    Raises InvalidOption if the file holds the id of a running process, or cannot be written.
    """
    if path is None:
        yield
        return
    where = path.absolute()  # the working directory may change
    with _opened(where) as file:
        pid = _pid_in(file)
        # in a container, a file that was left behind may well hold the number that this process has got
        if pid is not None and pid != os.getpid() and _is_alive(pid):
            raise InvalidOption(
                f"the pid file {safe_text(str(where))} names process {pid}, which is running:"
                " stop it, or remove the file if it is another program"
            )
        os.truncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    try:
        yield
    finally:
        with suppress(OSError, InvalidOption), _opened(where, os.O_RDONLY) as file:
            if _pid_in(file) == os.getpid():  # else somebody else has it by now
                where.unlink()


@contextmanager
def _opened(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """Open and lock the file, so that of two workers that start at once only one finds it free.

    In a directory such as /tmp anybody may have planted something: a link or a second name of a file that we
    would overwrite, a pipe on which we would hang, a file to which others write another process' number.
    """
    import fcntl  # Windows has none, and no worker with a pid file either

    name = safe_text(str(path))
    try:
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise InvalidOption(f"the pid file {name} cannot be written: {why}") from None
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1 or is_of_stranger(about):
            raise InvalidOption(
                f"the pid file {name} is not a file of this user alone: remove it, or name another"
            )
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidOption(f"the pid file {name} is locked by another process") from None
        yield file
    finally:
        os.close(file)


def _pid_in(file: int) -> int | None:
    try:
        pid = int(os.pread(file, 20, 0))
    except ValueError:
        return None
    return pid if 0 < pid < 2**31 else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH  # not EPERM: alive, and somebody else's
    return True
