"""A proxy between minirq and Redis that loses, holds back, or makes up what goes through it.

It reads requests and replies one by one, so that a rule strikes at a certain request of a certain command:

    proxy.rule("finish", "drop_reply")          the next finish acts, and nobody learns of it
    proxy.rule("BLMOVE", "drop_request")        the connection ends before the request is sent
    proxy.rule("any", "answer", text="LOADING …", times=5)
    proxy.rule("any", "hole")                   from here on nothing is forwarded, and nothing is closed
    proxy.rule("any", "delay", seconds=0.05, times=10**6)
    proxy.rule("BLMOVE", "outlive")             the server is not told that the client ends, and serves it

A script is named by its event, any other command by its first word.
"""

from __future__ import annotations

import select
import socket
import struct
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from minirq.protocol.commands import script
from support import ROOT

SCRIPTS = {
    script(path.stem).sha.encode(): path.stem for path in (ROOT / "minirq" / "protocol" / "lua").glob("*.lua")
}


@dataclass
class Rule:
    """Strikes at `times` requests named `name`, after leaving the first `skip` alone."""

    name: str
    action: str
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    text: str = ""
    hits: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strikes(self, names: set[str]) -> bool:
        if self.name != "any" and self.name not in names:
            return False
        with self.lock:
            if self.skip > 0:
                self.skip -= 1
                return False
            if self.times <= 0:
                return False
            self.times -= 1
            self.hits += 1
            return True


class Cut(Exception):
    """This connection is over."""


class Proxy:
    """Listens on a unix socket of its own; `url` leads to the server at the socket `upstream`."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._folder = Path(tempfile.mkdtemp(prefix="minirq-proxy-"))
        self._path = str(self._folder / "s")
        self._rules: list[Rule] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._path)
        self._listener.listen(64)
        self.url = f"unix://{self._path}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def rule(self, name: str, action: str, **options: object) -> Rule:
        """Have this happen from now on."""
        rule = Rule(name, action, **options)  # type: ignore[arg-type]
        self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Forget all rules, and end the connections that lead into a hole."""
        self._rules.clear()
        self.reset()

    def reset(self) -> None:
        """Reset all connections."""
        for sock in list(self._open):
            _reset(sock)

    def close(self) -> None:
        self._listener.close()
        self.reset()
        with suppress(OSError):
            Path(self._path).unlink()
            self._folder.rmdir()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        self._open |= {client, server}
        try:
            server.connect(self._upstream)
            _Connection(client, server, self._rules).run()
        except (OSError, Cut, ValueError):
            pass
        finally:
            self._open -= {client, server}
            for sock in (client, server):
                _reset(sock)


class _Connection:
    def __init__(self, client: socket.socket, server: socket.socket, rules: list[Rule]) -> None:
        self._client, self._server, self._rules = client, server, rules
        self._from_client = self._from_server = b""

    def run(self) -> None:
        while True:
            request = self._next_request()
            names = _names(request)
            rule = next((rule for rule in list(self._rules) if rule.strikes(names)), None)
            if rule is not None:
                if rule.action == "drop_request":
                    raise Cut
                if rule.action == "hole":
                    self._lead_nowhere()
                if rule.action == "delay":
                    time.sleep(rule.seconds)
                if rule.action == "answer":
                    self._client.sendall(f"-{rule.text}\r\n".encode())
                    continue
            self._server.sendall(request)
            if b"SUBSCRIBE" in names_upper(names):
                self._pass_on()
            reply = self._next_reply(is_deaf=rule is not None and rule.action == "outlive")
            if rule is not None and rule.action == "drop_reply":
                raise Cut
            if rule is not None and rule.action == "hole_reply":
                self._lead_nowhere()
            self._client.sendall(reply)

    def _next_request(self) -> bytes:
        while (end := frame_end(self._from_client, 0)) is None:
            self._from_client += self._received(self._client, self._server)
        request, self._from_client = self._from_client[:end], self._from_client[end:]
        return request

    def _next_reply(self, *, is_deaf: bool = False) -> bytes:
        while (end := frame_end(self._from_server, 0)) is None:
            self._from_server += (
                self._server.recv(1 << 16) if is_deaf else self._received(self._server, self._client)
            )
        reply, self._from_server = self._from_server[:end], self._from_server[end:]
        return reply

    def _received(self, wanted: socket.socket, other: socket.socket) -> bytes:
        """Bytes from one side; the end of the other side is noticed too, what it says waits."""
        while True:
            readable, _, _ = select.select([wanted, other], [], [])
            if wanted in readable:
                received = wanted.recv(1 << 16)
                if not received:
                    raise Cut
                return received
            more = other.recv(1 << 16)
            if not more:
                raise Cut
            if other is self._client:
                self._from_client += more
            else:
                self._from_server += more

    def _lead_nowhere(self) -> None:
        # the server is told nothing either: its side stays open
        while self._client.recv(1 << 16):
            pass
        raise Cut

    def _pass_on(self) -> None:
        self._client.sendall(self._from_server)
        while True:
            readable, _, _ = select.select([self._client, self._server], [], [])
            for sock in readable:
                received = sock.recv(1 << 16)
                if not received:
                    raise Cut
                (self._server if sock is self._client else self._client).sendall(received)


def names_upper(names: set[str]) -> set[bytes]:
    return {name.upper().encode() for name in names}


def frame_end(buffer: bytes, at: int) -> int | None:
    """Where the RESP2 value that begins at `at` ends, None if it is not complete."""
    line = buffer.find(b"\r\n", at)
    if line < 0:
        return None
    kind, rest, after = buffer[at : at + 1], buffer[at + 1 : line], line + 2
    if kind == b"$":
        end = after if int(rest) < 0 else after + int(rest) + 2
        return end if len(buffer) >= end else None
    if kind == b"*":
        for _ in range(max(int(rest), 0)):
            end_of_item = frame_end(buffer, after)
            if end_of_item is None:
                return None
            after = end_of_item
    return after


def _names(request: bytes) -> set[str]:
    """The first word of a request, and the event of its script."""
    words = request.split(b"\r\n", 5)
    names = {words[2].decode().upper()}
    if len(words) > 4 and words[4] in SCRIPTS:
        names.add(SCRIPTS[words[4]])
    return names


def _reset(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
    with suppress(OSError):
        sock.close()
