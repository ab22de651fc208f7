"""Sends calls over redis.asyncio, and repeats what may be repeated: the twin of `sender`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from minirq.calls import Call
from minirq.connection.exchange import Exchange, all_results, one_result
from minirq.connection.persistence import PATIENCE, Persistence
from minirq.connection.wire import Wire, speak_alone

T = TypeVar("T")
R = TypeVar("R")


class AsyncSender:
    """Calls in, replies out, for any number of tasks of one event loop."""

    def __init__(self, client: Redis, *, patience: float = PATIENCE) -> None:
        self.client = client
        self.patience = patience
        self.wire = Wire(client)

    async def send(self, call: Call[T]) -> T:
        """Send one call and return what its reader makes of the reply.

        Raises ServerUnavailable when the server stays away for `patience` seconds, AccessDenied,
        or QueueFull.
        """
        return await self._persist(call.name, lambda: one_result(call))

    async def send_all(self, calls: Sequence[Call[T]]) -> list[T]:
        """Send several calls in one round trip; the replies in order. Raises as `send`."""
        if not calls:
            return []
        return await self._persist(calls[0].name, lambda: all_results(calls, self.client))

    async def send_alone(self, call: Call[T]) -> T:
        """Send a call that blocks, over a connection of its own. Raises as `send`."""
        return await self._persist(call.name, lambda: one_result(call), is_alone=True)

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

    async def _persist(self, name: str, exchange: Callable[[], Exchange[R]], *, is_alone: bool = False) -> R:
        deadline, persistence = time.monotonic() + self.patience, None
        while True:
            try:
                return await self._drive(exchange(), is_alone)
            except (RedisError, OSError) as error:
                persistence = persistence or Persistence(self.client, name, deadline)
                await asyncio.sleep(persistence.pause_after(error))

    async def _drive(self, exchange: Exchange[R], is_alone: bool) -> R:
        try:
            commands = next(exchange)
            while True:
                replies = await (
                    speak_alone(self.client, commands) if is_alone else self.wire.speak(commands)
                )
                commands = exchange.send(replies)
        except StopIteration as end:
            result: R = end.value
            return result
