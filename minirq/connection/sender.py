"""Sends calls over a blocking redis-py client, and repeats what may be repeated.

Every call acts once however often it is sent, so a lost reply is answered by sending again. What is
never sent from here: blocking commands, which have connections of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import redis
from redis.exceptions import RedisError, ResponseError

from minirq.calls import MISREAD, Argument, Call
from minirq.connection.exchange import Exchange, all_results, each_result, one_result
from minirq.connection.lender import Lender
from minirq.connection.packing import pack
from minirq.connection.persistence import Persistence
from minirq.exceptions import MinirqError, QueueFull, ServerFault

T = TypeVar("T")
R = TypeVar("R")


class Sender:
    """Calls in, replies out. Thread-safe as far as the client is (redis-py's pools are)."""

    def __init__(self, client: redis.Redis, *, patience: float | None = None) -> None:
        self.client = client
        self.patience = patience
        self._lender = Lender(client.connection_pool)

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
            connection.send_packed_command([pack(commands)])
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
