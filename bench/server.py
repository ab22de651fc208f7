"""The bench's own redis-server: without persistence, on a unix socket of its own, never another."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import redis

from minirq.embedded.server import find_binaries


class Server:
    """Starts at once; `close` ends it."""

    def __init__(self) -> None:
        self.binary = find_binaries()[0]
        self._folder = Path(tempfile.mkdtemp(prefix="minirq-bench-"))
        socket = self._folder / "s"
        self.url = f"unix://{socket}"
        command = [str(self.binary.path), "--port", "0", "--unixsocket", str(socket), "--save", ""]
        self._process = subprocess.Popen(
            [*command, "--appendonly", "no", "--dir", str(self._folder)],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,  # Ctrl-C is for the driver, which then ends it
        )
        self.client = redis.Redis(unix_socket_path=str(socket), socket_timeout=120)
        self._wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def empty(self) -> None:
        """Forget all data and all counters."""
        self.client.flushall()
        self.client.config_resetstat()

    def info(self, section: str) -> dict[str, Any]:
        about: dict[str, Any] = self.client.info(section)
        return about

    def calls(self) -> int:
        """Commands run so far, those inside scripts too, without those that look at the counters."""
        own = ("cmdstat_info", "cmdstat_config|resetstat", "cmdstat_flushall", "cmdstat_monitor")
        stats = self.info("commandstats")
        return sum(stat["calls"] for name, stat in stats.items() if name not in own)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client.ping()
                return
            except redis.RedisError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.close()
                    raise RuntimeError(f"{self.binary.path} does not start") from None
                time.sleep(0.01)
