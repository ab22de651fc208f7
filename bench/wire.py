"""The wire: what clients send to a server, seen by MONITOR, which tells commands from those of scripts."""

from __future__ import annotations

import re
import socket
import threading


class Wire:
    """Counts from `with` on; `sent` is right once the block is left, and `matched`: those with `pattern`."""

    def __init__(
        self, socket_path: str, pattern: re.Pattern[bytes] | None = None, but: re.Pattern[bytes] | None = None
    ) -> None:
        self.sent = self.matched = 0
        self._pattern, self._but = pattern, but
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(socket_path)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Wire:
        self._socket.sendall(b"MONITOR\r\n")
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def _read(self) -> None:
        # +1700000000.123456 [0 unix:/path] "LPUSH" ...   and   [0 lua] for what a script calls
        with self._socket.makefile("rb") as lines:
            for line in lines:
                if line.startswith(b"+") and b"[" in line and b" lua] " not in line[:60]:
                    self.sent += 1
                    if self._pattern and self._pattern.search(line):
                        self.matched += not (self._but and self._but.search(line))
