"""Sends calls over redis.asyncio, and repeats what may be repeated: the twin of `sender`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from minirq.calls import Call
from minirq.connection.exchange import Exchange, all_results, one_result
from minirq.connection.persistence import Persistence
from minirq.connection.wire import Commands, Wire, speak_alone

T = TypeVar("T")
R = TypeVar("R")


class AsyncSender:
    """Calls in, replies out, for any number of tasks of one event loop."""

    def __init__(self, client: Redis, *, patience: float | None = None) -> None:
        self.client = client
        self.patience = patience
        self.wire = Wire(client)

    async def send(self, call: Call[T]) -> T:
        """Send one call and return what its reader makes of the reply.

        Raises ServerUnavailable when the server stays away for `patience` seconds, AccessDenied,
        or QueueFull.
        """
        began = time.monotonic()
        try:
            return await self._once(call)
        except (RedisError, OSError) as error:  # seldom: what follows costs more than the first attempt
            return await self._persist(call, lambda: self._once(call), began, error)

    async def send_all(self, calls: Sequence[Call[T]]) -> list[T]:
        """Send several calls in one round trip; the replies in order. Raises as `send`."""
        if not calls:
            return []
        began = time.monotonic()
        return await self._persist(
            calls[0], lambda: self._drive(all_results(calls, self.client), self.wire.speak), began
        )

    async def send_alone(self, call: Call[T]) -> T:
        """Send a call that blocks, over a connection of its own. Raises as `send`."""
        began = time.monotonic()
        return await self._persist(call, lambda: self._drive(one_result(call), self._speak_alone), began)

    async def run(self, steps: Generator[Any, Any, T]) -> T:
        """Drive a procedure: send what it yields, hand it the replies, return what it returns."""
        try:
            request = next(steps)
            while True:
                is_list = isinstance(request, list)
                request = steps.send(await (self.send_all(request) if is_list else self.send(request)))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _once(self, call: Call[T]) -> T:
        [reply] = await self.wire.speak([call.command])
        if isinstance(reply, Exception):  # seldom: an exchange costs more than looking first
            return await self._drive(one_result(call, reply), self.wire.speak)
        return call.result(reply)

    async def _speak_alone(self, commands: Commands) -> list[Any]:
        return await speak_alone(self.client, commands)

    async def _drive(
        self, exchange: Exchange[R], speak: Callable[[Commands], Coroutine[Any, Any, list[Any]]]
    ) -> R:
        try:
            commands = next(exchange)
            while True:
                commands = exchange.send(await speak(commands))
        except StopIteration as end:
            result: R = end.value
            return result

    async def _persist(
        self,
        call: Call[Any],
        attempt: Callable[[], Coroutine[Any, Any, R]],
        began: float,
        error: RedisError | OSError | None = None,
    ) -> R:
        """Attempt it until it succeeds or the time is up; `error` is that of an attempt made before."""
        persistence = Persistence(self.client, call.name, began, self.patience, call.known_for)
        while True:
            if error is not None:
                await asyncio.sleep(persistence.pause_after(error))
            try:
                return await attempt()
            except (RedisError, OSError) as another:
                error = another
