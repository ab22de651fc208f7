"""A pid file: it says which process a worker is, for as long as it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minirq.exceptions import InvalidOption
from minirq.text import safe_text


@contextmanager
def pid_file(path: Path | None) -> Iterator[None]:
    """Have the file hold this process' id inside; without a path do nothing.

    Raises InvalidOption if it holds the id of a process that lives, or cannot be written.
    """
    if path is None:
        yield
        return
    where = path.absolute()  # the working directory may change
    _write(where)
    try:
        yield
    finally:
        if _read(where) == os.getpid():  # else somebody else has it by now
            with suppress(OSError):
                where.unlink()


def _write(path: Path) -> None:
    pid = _read(path)
    # in a container, a file that was left behind may well hold the number that this process has got
    if pid is not None and pid != os.getpid() and _is_alive(pid):
        raise InvalidOption(
            f"the pid file {safe_text(str(path))} names process {pid}, which runs:"
            " stop it, or remove the file if it is another program"
        )
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise InvalidOption(
            f"the pid file {safe_text(str(path))} cannot be written: {error.strerror}"
        ) from None


def _read(path: Path) -> int | None:
    try:
        pid = int(path.read_text())
    except (OSError, ValueError):
        return None
    return pid if 0 < pid < 2**31 else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, but alive
        return True
    return True
