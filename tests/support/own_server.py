"""A redis-server that a test may kill and start again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import redis as redis_py

from minirq.connection import connect
from minirq.embedded.server import find_binaries


class OwnServer:
    """Starts at once, in a directory of its own. `fsync` None runs it without an append-only file."""

    def __init__(self, *options: str, fsync: str | None = "always") -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="minirq-own-"))
        self._options = [
            *(
                "--port",
                "0",
                "--unixsocket",
                str(self._folder / "s"),
                "--dir",
                str(self._folder),
                "--save",
                "",
            ),
            *(("--appendonly", "yes", "--appendfsync", fsync) if fsync else ()),
            *options,
        ]
        self.socket = str(self._folder / "s")
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [str(find_binaries()[0].path), *self._options]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}
        )
        deadline = time.monotonic() + 10
        with connect(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis_py.RedisError:
                    assert time.monotonic() < deadline, "the server does not start"
                    time.sleep(0.01)

    def kill(self) -> None:
        """End it as a power cut ends the process."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
