"""Packing: commands as the bytes that go to Redis. A client's own packing takes several times as long.

An exchange: which commands are said for calls, and how their replies are told apart. Does no I/O.

A generator yields lists of commands and is sent the lists of replies, in which the server's errors stand
as values. Whoever has a connection drives it, blocking or asyncio.

A lender: hands out the connections of a pool, and keeps one at hand.

A pool looks at a connection and keeps books each time one is taken or given back, which takes about as long
as packing what is to be said. Kept is one connection at most, of pools that have plenty and outside TLS; it
is looked at too before it is used again.

Sends calls over a blocking redis-py client, and repeats what may be repeated.

Every call acts once however often it is sent, so a lost reply is answered by sending again. What is
never sent from here: blocking commands, which have connections of their own.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from functools import cache
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from minirq.connection.connect import safe_url
from minirq.connection.errors import Persistence, is_passing, note_connection, nothing_sent, translate
from minirq.exceptions import MinirqError, QueueFull, ServerFault
from minirq.protocol.commands import MISREAD, Argument, Call, Hint, Script

if TYPE_CHECKING:
    from minirq.connection.connect import AnyClient


def encode_command(commands: Iterable[Sequence[Argument]]) -> bytes:
    """Return the bytes of commands. Raises TypeError for an argument that is none."""
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            if isinstance(argument, str):
                argument = argument.encode()
            elif not isinstance(argument, bytes):
                argument = _number(argument)
            parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


def _number(argument: object) -> bytes:
    # a bool is an int, and what it would mean to Redis is anybody's guess
    if isinstance(argument, (int, float)) and not isinstance(argument, bool):
        return repr(argument).encode()
    raise TypeError(f"an argument of a command is text, bytes or a number, not {type(argument).__name__}")


T = TypeVar("T")
Exchange = Generator[list[tuple[Argument, ...]], list[Any], T]


def one_result(call: Call[T], reply: Any = None) -> Exchange[T]:
    """Say one call; what its reader makes of the reply, or the server's error.

    With an error that was the `reply`, it has been said before.
    """
    if not isinstance(reply, Exception):
        [reply] = yield [call.command]
    if isinstance(reply, NoScriptError) and call.script is not None:
        reply = yield from _loaded(call, call.script)
    if isinstance(reply, Exception):
        raise reply
    return call.result(reply)


def all_results(calls: Sequence[Call[T]], client: AnyClient) -> Exchange[list[T]]:
    """Say several calls; all results, or the first error, in which the call that it answers is named."""
    results: list[Any] = []
    for call, reply in zip(calls, (yield from _replies(calls)), strict=True):
        if isinstance(reply, RedisError) and isinstance(call, Hint):
            results.append(translate(reply, call.name, safe_url(client)))
            continue
        if isinstance(reply, RedisError) and not is_passing(reply):
            raise translate(reply, call.name, safe_url(client)) from reply
        if isinstance(reply, Exception):
            raise reply
        results.append(call.result(reply))
    return results


def each_result(calls: Sequence[Call[T]], client: AnyClient) -> Exchange[list[T | ServerFault | QueueFull]]:
    """Say several calls; an error that the server answers one with is its result, if it is one of these."""
    results: list[T | ServerFault | QueueFull] = []
    for call, reply in zip(calls, (yield from _replies(calls)), strict=True):
        if isinstance(reply, RedisError):
            said = translate(reply, call.name, safe_url(client))
            if not isinstance(said, (ServerFault, QueueFull)):
                raise reply
            results.append(said)
        else:
            results.append(call.result(reply))
    return results


def _replies(calls: Sequence[Call[Any]]) -> Exchange[list[Any]]:
    replies = yield [call.command for call in calls]
    for i, call in enumerate(calls):
        if isinstance(replies[i], NoScriptError) and call.script is not None:
            replies[i] = yield from _loaded(call, call.script)
    return replies


def _loaded(call: Call[Any], script: Script) -> Exchange[Any]:
    [loaded, reply] = yield [("SCRIPT", "LOAD", script.text), call.command]
    return loaded if isinstance(reply, NoScriptError) and isinstance(loaded, Exception) else reply


#: a pool with fewer connections may need each of them for somebody else
_PLENTY = 50


@cache
def purpose(pool: Any) -> tuple[str, ...]:
    """What `get_connection` of this kind of pool, blocking or asyncio, has to be given."""
    # redis-py before 5.3 wants to know what a connection is for, and later ones warn about it
    is_wanted = signature(pool.get_connection).parameters["command_name"].default is Parameter.empty
    return ("EVALSHA",) if is_wanted else ()


class KeptConnection:
    """Lends connections of one pool. Thread-safe: a connection is lent to one at a time."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        self._purpose = purpose(type(pool))
        has_plenty = type(pool) is redis.ConnectionPool and pool.max_connections >= _PLENTY
        self._may_keep = has_plenty and hasattr(select, "poll")
        self._kept: list[Any] = []
        self._pid = os.getpid()

    def lend(self) -> Any:
        """Return a connection. Raises redis-py's errors."""
        try:
            connection = self._kept.pop()
        except IndexError:
            return self._open()
        if self._pid != os.getpid():  # it belongs to the process that this one was forked from
            return self._open()
        if not _is_silent(connection):  # the server has closed it
            self.take_back_after_fault(connection)
            return self._open()
        return connection

    def _open(self) -> Any:
        self._pid = os.getpid()  # what is kept from here on is this process's
        with nothing_sent():
            connection = self._pool.get_connection(*self._purpose)
        note_connection()
        return connection

    def take_back(self, connection: Any) -> None:
        """Take a connection back after an exchange that went well."""
        if self._may_keep and not self._kept and self._pid == os.getpid():
            self._kept.append(connection)
        else:
            self._pool.release(connection)

    def take_back_after_fault(self, connection: Any) -> None:
        """Take a connection back of which nobody knows what is still under way on it: it is cut."""
        connection.disconnect()
        self._pool.release(connection)

    def __del__(self) -> None:
        # queues come and go, and the pool stays
        with suppress(Exception):
            for connection in self._kept:
                self._pool.release(connection)


def _is_silent(connection: Any) -> bool:
    """Whether a connection is as it was left: nothing has come, not even its end."""
    sock = connection._sock
    if type(sock) is not socket.socket:  # closed, which is as good; or TLS, where messages of its own come
        return sock is None
    if sock.fileno() < 0:  # it was taken off: a job had closed its descriptor
        return False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)


R = TypeVar("R")


class Sender:
    """Calls in, replies out. Thread-safe as far as the client is (redis-py's pools are)."""

    def __init__(self, client: redis.Redis, *, patience: float | None = None) -> None:
        self.client = client
        self.patience = patience
        self._lender = KeptConnection(client.connection_pool)

    def send(self, call: Call[T]) -> T:
        """Send one call and return what its reader makes of the reply.

        Raises ServerUnavailable when the server stays away for `patience` seconds, AccessDenied,
        or QueueFull.
        """
        began = time.monotonic()
        try:
            return self._once(call)
        except (RedisError, OSError) as error:  # seldom: what follows costs more than the first attempt
            return self._persist(call, lambda: self._once(call), began, error)

    def send_all(self, calls: Sequence[Call[T]]) -> list[T]:
        """Send several calls in one round trip; the replies in order. Raises as `send`."""
        if not calls:
            return []
        began = time.monotonic()
        return self._persist(calls[0], lambda: self._drive(all_results(calls, self.client)), began)

    def send_each(self, calls: Sequence[Call[T]]) -> list[T | ServerFault | QueueFull]:
        """Send several calls in one round trip; an error that the server answers one with is its reply."""
        if not calls:
            return []
        began = time.monotonic()
        return self._persist(calls[0], lambda: self._drive(each_result(calls, self.client)), began)

    def run(self, steps: Generator[Any, Any, T]) -> T:
        """Drive a procedure: send what it yields, hand it the replies, return what it returns."""
        try:
            request = next(steps)
            while True:
                reply = self.send_all(request) if isinstance(request, list) else self.send(request)
                request = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def _speak(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands in one go and return their replies, as they are on the wire; errors are replies too.

        The connection is spoken to directly: a client's `execute_command` takes as long again.
        """
        connection = self._lender.lend()
        try:
            connection.send_packed_command([encode_command(commands)])
            replies = [_reply_of(connection) for _ in commands]
        except BaseException:
            self._lender.take_back_after_fault(connection)
            raise
        self._lender.take_back(connection)
        return replies

    def _once(self, call: Call[T]) -> T:
        [reply] = self._speak([call.command])
        if isinstance(reply, Exception):  # seldom: an exchange costs more than looking first
            return self._drive(one_result(call, reply))
        try:  # as `call.result`, which costs a call more
            return call.read(reply)
        except MinirqError:
            raise
        except MISREAD as error:
            raise call.misread(reply) from error

    def _drive(self, exchange: Exchange[R]) -> R:
        try:
            commands = next(exchange)
            while True:
                commands = exchange.send(self._speak(commands))
        except StopIteration as end:
            result: R = end.value
            return result

    def _persist(
        self,
        call: Call[Any],
        attempt: Callable[[], R],
        began: float,
        error: RedisError | OSError | None = None,
    ) -> R:
        """Attempt it until it succeeds or the time is up; `error` is that of an attempt made before."""
        persistence = Persistence(self.client, call.name, began, self.patience, call.known_for)
        while True:
            if error is not None:
                time.sleep(persistence.pause_after(error))
            try:
                return attempt()
            except (RedisError, OSError) as another:
                error = another


def _reply_of(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:  # the server's answer to this command; the next one has its own
        return error
