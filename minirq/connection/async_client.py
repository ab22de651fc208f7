"""How calls get to Redis under asyncio: those of many tasks together, over one connection.

Requests that come while others are under way wait for the next burst: one write, one read of all replies.
So fifty tasks that enqueue at once cost a few round trips, not fifty, and one connection. A task that is
cancelled leaves its reply to the multiplexer, so the connection is never left with half of an answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as ReplyTimeout

from minirq.connection.client import BaseSender, Commands, Exchange, encode_commands, purpose
from minirq.connection.connect import safe_url
from minirq.connection.errors import connecting
from minirq.exceptions import MinirqError, ServerUnavailable
from minirq.protocol.commands import Call

T = TypeVar("T")
R = TypeVar("R")

#: requests that one burst takes at most, so that the first does not wait for the writing of very many
_MOST = 100


@dataclass(slots=True)
class _Request:
    commands: Commands
    replies: asyncio.Future[list[Any]]

    def fail(self, error: BaseException) -> None:
        if self.replies.done():
            return
        if isinstance(error, Exception):
            self.replies.set_exception(error)
        else:
            self.replies.cancel()


class Multiplexer:
    """Sends the requests of many tasks over one connection of the pool, taken while there are any.

    It belongs to the event loop in which it is first used.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._requests: deque[_Request] = deque()
        self._worker: asyncio.Task[None] | None = None
        self.is_closed = False

    async def execute(self, commands: Commands) -> list[Any]:
        """Send commands in one go and return their replies, as the server sent them; errors are replies too.

        Cancelled before they were sent, they are not sent. Raises redis-py's errors of the connection, and
        ServerUnavailable after `close`.
        """
        if self.is_closed:
            raise ServerUnavailable(f"the connection to Redis at {safe_url(self._client)} was closed")
        loop = asyncio.get_running_loop()
        request = _Request(commands, loop.create_future())
        self._requests.append(request)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._send_all(), name="minirq: requests to Redis")
        return await request.replies

    async def close(self) -> None:
        """Refuse new requests, and wait for those that are left; then the connection is back in its pool."""
        self.is_closed = True
        while self._worker is not None and not self._worker.done():
            await asyncio.wait([self._worker])

    async def _send_all(self) -> None:
        try:
            while self._requests:
                await self._send_bursts()
        finally:  # nothing is left, unless the loop is being shut down
            for request in self._requests:
                request.replies.cancel()
            self._requests.clear()

    async def _send_bursts(self) -> None:
        """Send bursts over one connection until no request is left, or the connection fails."""
        burst: list[_Request] = []
        try:
            connection = await _take_connection(self._client)
            try:
                while burst := self._next_burst():
                    await _send_burst(connection, burst)
                    await asyncio.sleep(0)  # the tasks that got replies may go on, and send more
            except BaseException:
                await connection.disconnect(nowait=True)  # some replies may still be under way
                raise
            finally:
                await self._client.connection_pool.release(connection)
        except BaseException as error:
            failed = burst
            if not burst:  # there is no connection: all that need one fail
                failed, self._requests = [*self._requests], deque()
            for request in failed:
                request.fail(error)
            if not isinstance(error, Exception):
                raise

    def _next_burst(self) -> list[_Request]:
        burst: list[_Request] = []
        while self._requests and len(burst) < _MOST:
            request = self._requests.popleft()
            if not request.replies.done():  # cancelled meanwhile
                burst.append(request)
        return burst


async def _send_burst(connection: Any, burst: list[_Request]) -> None:
    chunks: list[bytes] = []
    sent: list[_Request] = []
    for request in burst:
        try:
            chunks.append(encode_commands(request.commands))
        except Exception as error:  # nothing of it was sent, and the others have nothing to do with it
            request.fail(error)
        else:
            sent.append(request)
    if not sent:
        return
    await connection.send_packed_command(chunks)
    try:
        async with asyncio.timeout(connection.socket_timeout):  # one for all: they come together
            for request in sent:
                replies = [await _reply_of(connection, inf) for _ in request.commands]
                if not request.replies.done():
                    request.replies.set_result(replies)
    except TimeoutError:
        raise ReplyTimeout(f"no reply within {connection.socket_timeout:g} s") from None


async def _take_connection(client: Redis) -> Any:
    """Take a connection out of the client's pool; it has to be released."""
    pool: Any = client.connection_pool
    with connecting():
        return await pool.get_connection(*purpose(pool.__class__))


async def _reply_of(connection: Any, timeout: float | None = None) -> Any:
    """Read a reply; `timeout` None is the connection's own, and infinity is none."""
    try:
        return await connection.read_response(timeout=timeout)
    except ResponseError as error:  # the server's answer to this command; the next one has its own
        return error


class AsyncSender(BaseSender[Redis]):
    """Sends calls for any number of tasks of one event loop: the twin of `Sender`."""

    def __init__(self, client: Redis, *, patience: float | None = None) -> None:
        super().__init__(client, patience=patience)
        self.multiplexer = Multiplexer(client)

    async def send(self, call: Call[T]) -> T:
        """Send one call and return what its reader makes of the reply.

        Raises ServerUnavailable when the server stays unreachable for `patience` seconds, AccessDenied,
        or QueueFull.
        """
        began = time.monotonic()
        try:
            [reply] = await self._execute([call.command])
        except (RedisError, OSError) as error:  # seldom: an exchange costs more than the first attempt
            return await self._drive(self._send_again(call, began, error))
        if isinstance(reply, Exception):
            return await self._drive(self._send_again(call, began, reply))
        return call.result(reply)

    async def send_all(self, calls: Sequence[Call[T]]) -> list[T]:
        """Send several calls in one round trip; the replies in order. Raises as `send`."""
        return await self._drive(self._send_all(calls)) if calls else []

    async def run(self, steps: Generator[Any, Any, T]) -> T:
        """Run a query: send the calls that it yields, hand it the replies or errors, return its result."""
        try:
            request = next(steps)
            while True:
                is_list = isinstance(request, list)
                try:
                    reply = await (self.send_all(request) if is_list else self.send(request))
                except MinirqError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _drive(self, exchange: Exchange[R]) -> R:
        try:
            step = next(exchange)
            while True:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    step = next(exchange)
                    continue
                try:
                    replies = await self._execute(step)
                except (RedisError, OSError) as error:
                    step = exchange.throw(error)
                else:
                    step = exchange.send(replies)
        except StopIteration as end:
            result: R = end.value
            return result

    async def _execute(self, commands: Commands) -> list[Any]:
        return await self.multiplexer.execute(commands)


class BlockingAsyncSender(AsyncSender):
    """Sends each call over a connection of its own, so that it may block.

    A task that is cancelled closes the connection, whose answer may come later.
    """

    async def _execute(self, commands: Commands) -> list[Any]:
        task = asyncio.current_task()
        assert task is not None
        cancelled_before = task.cancelling()
        connection = await _take_connection(self.client)
        try:
            await connection.send_packed_command(encode_commands(commands))
            # redis-py sends in `asyncio.wait_for`, which up to Python 3.11 may swallow a cancellation
            if task.cancelling() > cancelled_before:
                raise asyncio.CancelledError
            return [await _reply_of(connection) for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self.client.connection_pool.release(connection)


def has_open_connections(client: Redis) -> bool:
    """Whether the client's pool holds connections that are open, each of which belongs to an event loop."""
    pool: Any = client.connection_pool
    held = (*pool._available_connections, *pool._in_use_connections)
    return any(connection.is_connected for connection in held)


async def close_connections(client: Redis) -> None:
    """Close all connections of the client's pool; it can be used again."""
    # not the client's own method, whose name depends on the version of redis-py
    await client.connection_pool.disconnect(inuse_connections=True)
