"""How an asyncio application waits for the ends of jobs: it does what a `Waiter` asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from typing import Any

from minirq.aio.store import AsyncStore, LoopConnections
from minirq.exceptions import MinirqError, ServerUnavailable
from minirq.protocol.record import Record
from minirq.protocol.waiting import BlockingPop, Ended, Glance, Pause, Place, Waiter


async def wait_for_ends(
    store: AsyncStore, places: Iterable[Place], timeout: float | None
) -> AsyncGenerator[Ended, None]:
    """Yield each job when it has ended, or has no record.

    Raises TimeoutError after `timeout` seconds (None waits for ever). While Redis is unreachable, it waits,
    until the store is closed. Leaves nothing behind in Redis, also when it is closed early or cancelled.
    """
    waiter = Waiter(store.keys, places, timeout)
    steps, reply = waiter.steps(), None
    async with store:
        connections = await store.connections()
        try:
            with suppress(StopIteration):
                while True:
                    match steps.send(reply):
                        case Ended() as ended:
                            reply = None
                            yield ended
                        case Pause(seconds):
                            await asyncio.sleep(seconds)
                            reply = None
                        case request:
                            reply = await _answer(connections, request)
        finally:
            # a second cancellation does not keep it from being done
            await asyncio.shield(_leave(connections, waiter))


async def wait_for_end(store: AsyncStore, place: Place, timeout: float | None) -> Record | None:
    """Return the record with which a job has ended; None if it has none. Raises as `wait_for_ends`."""
    async with aclosing(wait_for_ends(store, [place], timeout)) as ends:
        return (await anext(ends)).record


async def _answer(connections: LoopConnections, request: Any) -> Any:
    try:
        match request:
            case BlockingPop(call):
                return await connections.blocking.send(call)
            case Glance(calls):
                with suppress(MinirqError):
                    return await connections.sender.send_all(calls)
                return None
            case calls:
                return await connections.sender.send_all(calls)
    except ServerUnavailable:
        if connections.is_closed:
            raise
        return None


async def _leave(connections: LoopConnections, waiter: Waiter) -> None:
    with suppress(ServerUnavailable):
        for calls in waiter.leaving():
            await connections.sender.send_all(calls)
