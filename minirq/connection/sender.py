"""Sends calls over a blocking redis-py client, and repeats what may be repeated.

Every call acts once however often it is sent, so a lost reply is answered by sending again. What is
never sent from here: blocking commands, which have connections of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from inspect import Parameter, signature
from typing import Any, TypeVar

import redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from minirq.calls import Argument, Call
from minirq.connection.connect import safe_url
from minirq.connection.faults import is_passing, translate
from minirq.exceptions import MinirqError, QueueFull, ServerFault

T = TypeVar("T")
R = TypeVar("R")

#: an application is not kept waiting for longer than this by a server that comes and goes, seconds
PATIENCE = 3.0
_FIRST_PAUSE = 0.05


class Sender:
    """Calls in, replies out. Thread-safe as far as the client is (redis-py's pools are)."""

    def __init__(self, client: redis.Redis, *, patience: float = PATIENCE) -> None:
        self.client = client
        self.patience = patience
        # redis-py before 5.3 wants to know what a connection is for, and later ones warn about it
        purpose = signature(client.connection_pool.get_connection).parameters["command_name"]
        self._purpose = ("EVALSHA",) if purpose.default is Parameter.empty else ()

    def send(self, call: Call[T]) -> T:
        """Send one call and return what its reader makes of the reply.

        Raises ServerUnavailable when the server stays away for `patience` seconds, AccessDenied,
        or QueueFull.
        """
        return self._persist(call.name, lambda: call.read(self._once(call)))

    def send_all(self, calls: Sequence[Call[T]]) -> list[T]:
        """Send several calls in one round trip; the replies in order. Raises as `send`."""
        if not calls:
            return []
        name = calls[0].name
        return self._persist(name, lambda: self._pipelined(calls))

    def send_each(self, calls: Sequence[Call[T]]) -> list[T | ServerFault | QueueFull]:
        """Send several calls in one round trip; an error that the server answers one with is its reply."""
        return self._persist(calls[0].name, lambda: self._answered(calls)) if calls else []

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

    def _once(self, call: Call[Any]) -> Any:
        [reply] = self._speak([call.command])
        if not isinstance(reply, NoScriptError):
            return _unless_error(reply)
        assert call.script is not None
        self._speak([("SCRIPT", "LOAD", call.script.text)])
        [reply] = self._speak([call.command])
        return _unless_error(reply)

    def _speak(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands in one go and return their replies, as they are on the wire; errors are replies too.

        The connection is spoken to directly: a client's `execute_command` takes as long again.
        """
        pool = self.client.connection_pool
        connection = pool.get_connection(*self._purpose)
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            return [_reply_of(connection) for _ in commands]
        finally:
            pool.release(connection)

    def _pipelined(self, calls: Sequence[Call[T]]) -> list[T]:
        results = []
        for call, reply in zip(calls, self._speak([call.command for call in calls]), strict=True):
            try:
                results.append(self._result(call, reply))
            except RedisError as error:
                if is_passing(error):
                    raise
                raise translate(error, call.name, safe_url(self.client)) from error
        return results

    def _answered(self, calls: Sequence[Call[T]]) -> list[T | ServerFault | QueueFull]:
        results: list[T | ServerFault | QueueFull] = []
        for call, reply in zip(calls, self._speak([call.command for call in calls]), strict=True):
            try:
                results.append(self._result(call, reply))
            except RedisError as error:
                said = translate(error, call.name, safe_url(self.client))
                if not isinstance(said, (ServerFault, QueueFull)):
                    raise
                results.append(said)
        return results

    def _result(self, call: Call[T], reply: Any) -> T:
        if isinstance(reply, NoScriptError):
            reply = self._once(call)
        elif isinstance(reply, Exception):
            raise reply
        return call.read(reply)

    def _persist(self, name: str, attempt: Callable[[], R]) -> R:
        deadline = time.monotonic() + self.patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return attempt()
            except MinirqError:  # some of them are OSErrors too
                raise
            except (RedisError, OSError) as error:
                if is_passing(error) and time.monotonic() + pause < deadline:
                    time.sleep(pause)
                    pause *= 2
                    continue
                raise translate(error, name, safe_url(self.client)) from error


def _reply_of(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:  # the server's answer to this command; the next one has its own
        return error


def _unless_error(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply
