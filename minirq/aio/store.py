"""A store for asyncio: one Redis and one namespace in it, reached from one event loop at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from minirq.client.store import BaseStore
from minirq.connection.async_client import (
    AsyncSender,
    BlockingAsyncSender,
    close_connections,
    has_open_connections,
)
from minirq.connection.connect import async_client_of, configured_url, connect_async, derive
from minirq.durations import Duration
from minirq.exceptions import InvalidOption
from minirq.protocol.commands import Call
from minirq.protocol.waiting import LOOK_EVERY

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")


class LoopConnections:
    """The connections that are in use in one event loop, until they are closed."""

    def __init__(self, client: Redis, loop: asyncio.AbstractEventLoop, patience: float | None) -> None:
        self.client = client
        self.loop = loop
        self.sender = AsyncSender(client, patience=patience)
        #: sends calls that block for up to LOOK_EVERY seconds, once, over connections of their own
        self.blocking = BlockingAsyncSender(derive(client, socket_timeout=LOOK_EVERY + 2), patience=0)

    @property
    def is_closed(self) -> bool:
        """Whether the connections are closed."""
        return self.sender.multiplexer.is_closed

    async def close(self, *, with_client: bool) -> None:
        """Wait for calls under way, and close the connections; those of the client only if it is ours."""
        await self.sender.multiplexer.close()
        await close_connections(self.blocking.client)
        if with_client:
            await close_connections(self.client)


class AsyncStore(BaseStore):
    """A store for asyncio. `connection` is a redis.asyncio.Redis, a URL, or None: the configuration decides.

    With `is_fleeting`, it closes the connections that it has opened after each operation: for jobs that are
    fetched without a queue, which nobody closes.
    """

    def __init__(
        self,
        connection: Redis | str | None = None,
        namespace: str | None = None,
        serializer: str | None = None,
        patience: Duration | None = None,
        *,
        is_fleeting: bool = False,
    ) -> None:
        super().__init__(connection is not None, namespace, serializer, patience)
        self._connection = connection
        is_url = isinstance(connection, str)
        self._client = None if connection is None or is_url else async_client_of(connection)
        self._has_given_client = self._client is not None
        self._is_fleeting = is_fleeting
        self._operations = 0
        self._open: LoopConnections | None = None

    @property
    def client(self) -> Redis:
        """The client that calls are sent over."""
        if self._open is not None:
            return self._open.client
        if self._client is None:
            self._client = async_client_of(self._connection or configured_url(self.config))
        return self._client

    async def connections(self) -> LoopConnections:
        """Return the connections for the running event loop.

        Raises InvalidOption if another loop still uses them.
        """
        loop = asyncio.get_running_loop()
        if self._open is not None and self._open.loop is loop:
            return self._open
        client = await self._client_for(loop)
        if self._open is None or self._open.loop is not loop:  # else another task was faster
            self._open = LoopConnections(client, loop, self.patience)
        return self._open

    async def send(self, call: Call[T]) -> T:
        """Send one call; raises as `AsyncSender.send`."""
        async with self:
            return await (await self.connections()).sender.send(call)

    async def run(self, steps: Generator[Any, Any, T]) -> T:
        """Run an operation; raises as `AsyncSender.send`."""
        if not self._is_fleeting:  # as all queues are
            return await (await self.connections()).sender.run(steps)
        async with self:
            return await (await self.connections()).sender.run(steps)

    async def __aenter__(self) -> AsyncStore:
        """Begin an operation."""
        self._operations += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._operations -= 1
        if self._is_fleeting and not self._operations:
            await self.close()

    async def close(self) -> None:
        """Close the connections that were opened here. The next call opens new ones."""
        opened, self._open = self._open, None
        if opened is not None and opened.loop is asyncio.get_running_loop():
            await opened.close(with_client=not self._has_given_client)

    async def _client_for(self, loop: asyncio.AbstractEventLoop) -> Redis:
        before, client = self._open, self._client
        if before is not None and before.loop.is_running():
            raise InvalidOption(
                "this queue is in use in another event loop, which still runs: make one AsyncQueue for each"
            )
        if client is not None and (before is None or not has_open_connections(client)):
            return client
        if self._has_given_client:
            raise InvalidOption(
                "the connections of the redis.asyncio.Redis that was given belong to another event loop:"
                " give a URL, make client and queue in the loop, or close the client before its loop ends"
            )
        if isinstance(self._connection, str):
            self._client = async_client_of(self._connection)
        else:
            self._client = await connect_async(self.config)
        return self._client
