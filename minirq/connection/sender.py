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
from redis.exceptions import RedisError, ResponseError

from minirq.calls import Argument, Call
from minirq.connection.exchange import Exchange, all_results, each_result, one_result
from minirq.connection.packing import pack
from minirq.connection.persistence import PATIENCE, Persistence
from minirq.exceptions import QueueFull, ServerFault

T = TypeVar("T")
R = TypeVar("R")


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
        return self._persist(call.name, lambda: self._once(call))

    def send_all(self, calls: Sequence[Call[T]]) -> list[T]:
        """Send several calls in one round trip; the replies in order. Raises as `send`."""
        if not calls:
            return []
        return self._persist(calls[0].name, lambda: self._drive(all_results(calls, self.client)))

    def send_each(self, calls: Sequence[Call[T]]) -> list[T | ServerFault | QueueFull]:
        """Send several calls in one round trip; an error that the server answers one with is its reply."""
        if not calls:
            return []
        return self._persist(calls[0].name, lambda: self._drive(each_result(calls, self.client)))

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
        pool = self.client.connection_pool
        connection = pool.get_connection(*self._purpose)
        try:
            connection.send_packed_command([pack(commands)])
            return [_reply_of(connection) for _ in commands]
        finally:
            pool.release(connection)

    def _once(self, call: Call[T]) -> T:
        [reply] = self._speak([call.command])
        if isinstance(reply, Exception):  # seldom: an exchange costs more than looking first
            return self._drive(one_result(call, reply))
        return call.read(reply)

    def _drive(self, exchange: Exchange[R]) -> R:
        try:
            commands = next(exchange)
            while True:
                commands = exchange.send(self._speak(commands))
        except StopIteration as end:
            result: R = end.value
            return result

    def _persist(self, name: str, attempt: Callable[[], R]) -> R:
        deadline, persistence = time.monotonic() + self.patience, None
        while True:
            try:
                return attempt()
            except (RedisError, OSError) as error:
                persistence = persistence or Persistence(self.client, name, deadline)
                time.sleep(persistence.pause_after(error))


def _reply_of(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:  # the server's answer to this command; the next one has its own
        return error
