"""The directory of an embedded server: who may read it, what is recorded in it, which server has it open.

Two locks in the directory keep its data safe. `lock` is held while someone starts or stops the server, so
eight processes that start at once get one server. `alive` is inherited by redis-server itself and held as
long as it lives: the kernel drops it at any death, so it tells for certain whether the data is in use, when
the socket is gone, the pid file is stale or the pid belongs to someone else by now.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minirq.exceptions import EmbeddedServerError
from minirq.ownership import is_of_stranger, is_open_to_others

try:
    import fcntl
except ImportError:  # Windows: the module stays importable, and usable_home() raises the error
    fcntl = None  # type: ignore[assignment]

#: what a copy of the data does not need
_NO_DATA = ("redis.sock", "redis.pid", "redis.log", "lock", "alive")

_WAY_OUT = "set MINIRQ_HOME to a directory of your own, or MINIRQ_REDIS_URL to a Redis that you share"

SUN_PATH = 103  # bytes of a socket's path on macOS; Linux has four more


def usable_home(home: Path) -> Path:
    """Return the one spelling of this directory; raise EmbeddedServerError if it is not safely ours."""
    if fcntl is None:
        raise EmbeddedServerError(
            "the embedded server needs Linux or macOS: set MINIRQ_REDIS_URL to a Redis that runs"
        )
    try:
        home = _way_to(home)  # one spelling, so that all processes find the same socket
        check_owner(home)
    except (FileNotFoundError, NotADirectoryError):
        pass  # make_private() raises the error, if there is one
    except OSError as error:
        raise EmbeddedServerError(_no_way_to(home, error)) from error
    return home


def _way_to(path: Path) -> Path:
    """Follow the links of a path, and check each step: nobody else laid it, or can lay another."""
    way, parts, links = Path("/"), list(path.absolute().parts[1:]), 0
    while parts:
        part = parts.pop(0)
        step = way.parent if part == ".." else way / part
        try:
            about = step.lstat()
        except FileNotFoundError:
            return step.joinpath(*parts)
        if is_of_stranger(about):
            raise EmbeddedServerError(
                f"{step} belongs to user id {about.st_uid}, and this process runs as {os.geteuid()}:"
                f" {_WAY_OUT}"
            )
        if not stat.S_ISLNK(about.st_mode):
            # who may write a directory can exchange what is in it, unless it is sticky as /tmp is
            if parts and is_open_to_others(about) and not about.st_mode & stat.S_ISVTX:
                raise EmbeddedServerError(f"others may write {step}, and so exchange {path}: {_WAY_OUT}")
            way = step
            continue
        target = step.readlink()
        links += 1
        if links > 40:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        way = Path("/") if target.is_absolute() else way
        parts = [*(target.parts[1:] if target.is_absolute() else target.parts), *parts]
    return way


def _no_way_to(folder: Path, error: OSError) -> str:
    return (
        f"cannot use the directory {folder} ({error.strerror}): set MINIRQ_HOME to a directory that you can"
        " write, or MINIRQ_REDIS_URL to a Redis that runs"
    )


def socket_path(home: Path) -> Path:
    """Return where the server's socket is; elsewhere if the path would be too long for one."""
    socket = home / "redis.sock"
    if len(os.fsencode(socket)) <= SUN_PATH:
        return socket
    # not XDG_RUNTIME_DIR: cron and systemd jobs lack it, and would look for the server elsewhere
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(f"/tmp/minirq-{os.geteuid()}-{digest}/redis.sock")


def make_private(folder: Path) -> None:
    """Create the directory with mode 0700, or check that the existing one is ours and private."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise EmbeddedServerError(_no_way_to(folder, error)) from error
    _way_to(folder)  # a directory of it that was made just now may be somebody else's
    check_owner(folder)
    if folder.stat().st_mode & 0o077:
        # tightening a directory full of other things (a home, /tmp) would break whatever uses it
        if any(folder.iterdir()) and not (folder / "server.json").exists():
            raise EmbeddedServerError(
                f"others may read {folder}, which holds other files too: set MINIRQ_HOME to a directory for"
                " minirq alone, or chmod 700 it"
            )
        folder.chmod(0o700)


def check_owner(path: Path) -> None:
    """Raise EmbeddedServerError if a path belongs to another user."""
    # lstat: in /tmp a link planted by somebody else must not lead us to a directory of ours
    owner = path.lstat().st_uid
    if owner != os.geteuid():
        raise EmbeddedServerError(
            f"{path} belongs to user id {owner}, and this process runs as {os.geteuid()}: {_WAY_OUT}"
        )


def read_record(home: Path) -> dict[str, object]:
    """Return what is known of the server that last wrote here."""
    try:
        record = json.loads((home / "server.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(home: Path, record: dict[str, object]) -> None:
    """Replace the record in one step."""
    fresh = home / "server.json.new"
    fresh.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    fresh.replace(home / "server.json")


def copy_data(home: Path, record: dict[str, object], name: str) -> Path:
    """Copy the data of a server that does not run to a directory beside it; return where the copy is.

    The record says so until the next server has opened the data: a start that fails again and again makes
    one copy.
    """
    if isinstance(earlier := record.get("copy"), str) and Path(earlier).is_dir():
        return Path(earlier)
    copies = (home.with_name(f"{home.name}.{name}" + (f".{n}" if n else "")) for n in range(1000))
    copy = next(path for path in copies if not os.path.lexists(path))
    try:
        copy.mkdir(mode=0o700)
        shutil.copytree(home, copy, ignore=shutil.ignore_patterns(*_NO_DATA), dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(copy, ignore_errors=True)
        raise EmbeddedServerError(
            f"another product wrote the data in {home}, and it cannot be copied to {copy} before it is"
            f" converted ({error}): make room, or set MINIRQ_HOME to a new directory"
        ) from error
    write_record(home, {**record, "copy": str(copy)})
    return copy


def read_pid(home: Path) -> str:
    """Return the server's process id."""
    try:
        return (home / "redis.pid").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def log_tail(home: Path, lines: int = 10) -> str:
    """Return the last lines of the server's log."""
    try:
        log = (home / "redis.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return f"\nThe end of {home / 'redis.log'}:\n" + "\n".join(log.splitlines()[-lines:])


@contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # which also unlocks it, unless a child has inherited it


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold the lock of this file; the descriptor is for a child that shall go on holding it."""
    with _open_lock(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor


def is_alive(home: Path) -> bool:
    """Tell whether a redis-server holds the data; only the holder of `lock` may ask."""
    with _open_lock(home / "alive") as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
