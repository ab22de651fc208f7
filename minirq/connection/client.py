"""How a call gets to Redis and its reply back: once if all goes well, again if that may help.

Every call acts once however often it is sent, so a lost reply is answered by sending again. An `Exchange` is
that story without I/O: a generator that yields commands to send, or seconds to wait, and gets the replies,
in which the server's errors are values. `Sender` here and `AsyncSender` in `async_client` drive it.

Two things make a call cheap. Commands are packed here: redis-py's packing takes several times as long. And
`KeptConnection` keeps one connection out of the pool, which looks at a connection and keeps books each
time that one is taken or given back: that takes about as long as packing a command.
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
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from minirq.connection.connect import Client, check_version, safe_url
from minirq.connection.errors import Attempts, connecting, is_passing, translate
from minirq.exceptions import MinirqError, QueueFull, ServerFault
from minirq.protocol.commands import MISREAD, Argument, Call, Hint
from minirq.protocol.queries import server_info

if TYPE_CHECKING:
    from minirq.connection.connect import AnyClient

T = TypeVar("T")
R = TypeVar("R")
Commands = Sequence[Sequence[Argument]]
Exchange = Generator[Commands | float, list[Any], T]


def encode_commands(commands: Iterable[Sequence[Argument]]) -> bytes:
    """Return the bytes of commands. Raises TypeError for an argument that is none."""
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            if isinstance(argument, str):
                try:
                    raw = argument.encode()
                except UnicodeEncodeError:  # an id or a name that was read from Redis and is not UTF-8
                    raw = argument.encode("utf-8", "surrogateescape")
            else:
                raw = argument if isinstance(argument, bytes) else _number(argument)
            parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def _number(argument: object) -> bytes:
    # a bool is an int, and what it would mean to Redis is anybody's guess
    if isinstance(argument, (int, float)) and not isinstance(argument, bool):
        return repr(argument).encode()
    raise TypeError(f"an argument of a command is text, bytes or a number, not {type(argument).__name__}")


def _one_result(call: Call[T], reply: Any = None) -> Exchange[T]:
    """Send one call; return its result or raise its error. An error as `reply` is the first answer."""
    if not isinstance(reply, Exception):
        [reply] = yield [call.command]
    reply = yield from _loaded(call, reply)
    if isinstance(reply, Exception):
        raise reply
    return call.result(reply)


def _results(calls: Sequence[Call[T]], client: AnyClient, *, is_each: bool) -> Exchange[list[Any]]:
    """Send several calls; return their results, or raise the first error, which names its call.

    The error of a Hint is its result; with `is_each` also that of another call which the server refuses.
    """
    results: list[Any] = []
    for call, reply in (yield from _replies(calls)):
        if isinstance(reply, RedisError):
            error = translate(reply, call.name, safe_url(client))
            if isinstance(call, Hint) or (is_each and isinstance(error, (ServerFault, QueueFull))):
                results.append(error)
            elif is_passing(reply):
                raise reply
            else:
                raise error from reply
        else:
            results.append(call.result(reply))
    return results


def _replies(calls: Sequence[Call[T]]) -> Exchange[list[tuple[Call[T], Any]]]:
    replies = yield [call.command for call in calls]
    pairs = []
    for call, reply in zip(calls, replies, strict=True):
        pairs.append((call, (yield from _loaded(call, reply))))
    return pairs


def _loaded(call: Call[Any], reply: Any) -> Exchange[Any]:
    """Return the reply; of a call whose script the server does not know, the one after loading it."""
    if call.script is None or not isinstance(reply, NoScriptError):
        return reply
    [loaded, reply] = yield [("SCRIPT", "LOAD", call.script.text), call.command]
    return loaded if isinstance(reply, NoScriptError) and isinstance(loaded, Exception) else reply


class BaseSender(Generic[Client]):
    """What both senders have in common. They give up a call after `patience` seconds without a server."""

    def __init__(self, client: Client, *, patience: float | None = None) -> None:
        self.client: Client = client
        self.patience = patience

    def _send_again(self, call: Call[T], began: float, reply: Exception) -> Exchange[T]:
        """Go on after a first attempt that ended with this error."""
        return self._persist(call, began, lambda: _one_result(call), _one_result(call, reply))

    def _send_all(self, calls: Sequence[Call[Any]], *, is_each: bool = False) -> Exchange[list[Any]]:
        began = time.monotonic()
        return self._persist(calls[0], began, lambda: _results(calls, self.client, is_each=is_each))

    def _persist(
        self,
        call: Call[Any],
        began: float,
        attempt: Callable[[], Exchange[R]],
        first: Exchange[R] | None = None,
    ) -> Exchange[R]:
        attempts = Attempts(self.client, call.name, began, self.patience, call.known_for)
        exchange = first or attempt()
        while True:
            try:
                return (yield from exchange)
            except (RedisError, OSError) as error:
                yield attempts.failed(error)
            exchange = attempt()


#: a pool with fewer connections may need each of them for somebody else
_PLENTY = 50


@cache
def purpose(pool: Any) -> tuple[str, ...]:
    """Return what `get_connection` of this kind of pool, blocking or asyncio, has to be given."""
    # redis-py before 5.3 wants to know what a connection is for, and later ones warn about it
    is_wanted = signature(pool.get_connection).parameters["command_name"].default is Parameter.empty
    return ("EVALSHA",) if is_wanted else ()


class KeptConnection:
    """Takes connections out of a pool, and keeps one back. Thread-safe: each is used by one at a time.

    It keeps none of a small pool and none with TLS, and looks at the kept one before it is used again.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        self._purpose = purpose(type(pool))
        has_plenty = type(pool) is redis.ConnectionPool and pool.max_connections >= _PLENTY
        self._may_keep = has_plenty and hasattr(select, "poll")
        self._kept: list[Any] = []
        self._pid = os.getpid()

    def take(self) -> Any:
        """Return a connection. Raises redis-py's errors."""
        try:
            connection = self._kept.pop()
        except IndexError:
            return self._open()
        if self._pid != os.getpid():  # it belongs to the process that this one was forked from
            return self._open()
        if not _is_silent(connection):  # the server has closed it
            self.discard(connection)
            return self._open()
        return connection

    def _open(self) -> Any:
        self._pid = os.getpid()  # what is kept from here on is this process's
        with connecting():
            return self._pool.get_connection(*self._purpose)

    def give_back(self, connection: Any) -> None:
        """Take a connection back whose replies have all been read."""
        if self._may_keep and not self._kept and self._pid == os.getpid():
            self._kept.append(connection)
        else:
            self._pool.release(connection)

    def discard(self, connection: Any) -> None:
        """Take a connection back, and close it: nobody knows which replies are still to come."""
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


class Sender(BaseSender[redis.Redis]):
    """Sends calls over a blocking client. Thread-safe as far as the client is (redis-py's pools are)."""

    def __init__(self, client: redis.Redis, *, patience: float | None = None) -> None:
        super().__init__(client, patience=patience)
        self._connections = KeptConnection(client.connection_pool)

    def send(self, call: Call[T]) -> T:
        """Send one call and return what its reader makes of the reply.

        Raises ServerUnavailable when the server stays unreachable for `patience` seconds, AccessDenied,
        or QueueFull.
        """
        began = time.monotonic()
        try:
            [reply] = self._execute([call.command])
        except (RedisError, OSError) as error:  # seldom: an exchange costs more than the first attempt
            return self._drive(self._send_again(call, began, error))
        if isinstance(reply, Exception):
            return self._drive(self._send_again(call, began, reply))
        try:  # as `call.result`, which costs a call more
            return call.read(reply)
        except MISREAD as error:
            raise call.misread(reply) from error

    def send_all(self, calls: Sequence[Call[T]]) -> list[T]:
        """Send several calls in one round trip; the replies in order. Raises as `send`."""
        return self._drive(self._send_all(calls)) if calls else []

    def send_each(self, calls: Sequence[Call[T]]) -> list[T | ServerFault | QueueFull]:
        """Send several calls in one round trip; an error with which the server answers one is its reply."""
        return self._drive(self._send_all(calls, is_each=True)) if calls else []

    def run(self, steps: Generator[Any, Any, T]) -> T:
        """Run a query: send the calls that it yields, hand it the replies or errors, return its result."""
        try:
            request = next(steps)
            while True:
                try:
                    reply = self.send_all(request) if isinstance(request, list) else self.send(request)
                except MinirqError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def _drive(self, exchange: Exchange[R]) -> R:
        try:
            step = next(exchange)
            while True:
                if isinstance(step, float):
                    time.sleep(step)
                    step = next(exchange)
                    continue
                try:
                    replies = self._execute(step)
                except (RedisError, OSError) as error:
                    step = exchange.throw(error)
                else:
                    step = exchange.send(replies)
        except StopIteration as end:
            result: R = end.value
            return result

    def _execute(self, commands: Commands) -> list[Any]:
        """Send commands in one go and return their replies, as the server sent them; errors are replies too.

        A client's own `execute_command` takes as long again.
        """
        connection = self._connections.take()
        try:
            connection.send_packed_command([encode_commands(commands)])
            replies = [_reply_of(connection) for _ in commands]
        except BaseException:
            self._connections.discard(connection)
            raise
        self._connections.give_back(connection)
        return replies


def _reply_of(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:  # the server's answer to this command; the next one has its own
        return error


def check_server(client: redis.Redis) -> dict[str, Any]:
    """Return the server's INFO. Raises UnsuitableServer below 6.2, and what a call raises."""
    info = Sender(client, patience=0).send(server_info())
    check_version(info, safe_url(client))
    return info
