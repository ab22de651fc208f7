"""A wire: many tasks speak over one asyncio connection, and what they say meanwhile goes out together.

Commands that come while others are under way wait for the next burst: one write, one read of all replies.
So fifty tasks that enqueue at once cost a few round trips, not fifty, and one connection. A task that is
cancelled leaves its reply to the wire, so the connection is never left with half of an answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as ReplyTimeout

from minirq.calls import Argument
from minirq.connection.connect import safe_url
from minirq.connection.lender import purpose
from minirq.connection.packing import pack
from minirq.connection.persistence import note_connection, nothing_sent
from minirq.exceptions import ServerUnavailable

Commands = Sequence[Sequence[Argument]]

#: requests that one burst takes at most, so that the first does not wait for the writing of very many
_MOST = 100


@dataclass(slots=True)
class _Request:
    commands: Commands
    replies: asyncio.Future[list[Any]]


class Wire:
    """Speaks over one connection of the client's pool, which it takes while there is something to say.

    It belongs to the event loop in which it is first used.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._requests: deque[_Request] = deque()
        self._speaker: asyncio.Task[None] | None = None
        self.is_closed = False

    async def speak(self, commands: Commands) -> list[Any]:
        """Send commands in one go and return their replies, as they are on the wire; errors are replies too.

        Cancelled before they were sent, they are not sent. Raises redis-py's errors of the connection,
        ServerUnavailable once the wire was closed.
        """
        if self.is_closed:
            raise ServerUnavailable(f"the connection to Redis at {safe_url(self._client)} was closed")
        loop = asyncio.get_running_loop()
        request = _Request(commands, loop.create_future())
        self._requests.append(request)
        if self._speaker is None or self._speaker.done():
            self._speaker = loop.create_task(self._speak_all(), name="minirq: what is said to Redis")
        return await request.replies

    async def close(self) -> None:
        """Say what is left to be said, and nothing more; then the connection is back in its pool."""
        self.is_closed = True
        while self._speaker is not None and not self._speaker.done():
            await asyncio.wait([self._speaker])

    async def _speak_all(self) -> None:
        try:
            while self._requests:
                await self._take_turns()
        finally:  # nothing is left, unless the loop is being shut down
            for request in self._requests:
                request.replies.cancel()
            self._requests.clear()

    async def _take_turns(self) -> None:
        """Send bursts over one connection until there is nothing to say, or the connection fails."""
        burst: list[_Request] = []
        try:
            connection = await lend(self._client)
            try:
                while burst := self._next_burst():
                    await _speak_burst(connection, burst)
                    await asyncio.sleep(0)  # those that were answered may go on, and have more to say
            except BaseException:
                await connection.disconnect(nowait=True)  # some replies may still be under way
                raise
            finally:
                await self._client.connection_pool.release(connection)
        except BaseException as error:
            failed = burst
            if not burst:  # there is no connection: all that wait for one are told
                failed, self._requests = [*self._requests], deque()
            for request in failed:
                if not request.replies.done():
                    _fail(request.replies, error)
            if not isinstance(error, Exception):
                raise

    def _next_burst(self) -> list[_Request]:
        burst: list[_Request] = []
        while self._requests and len(burst) < _MOST:
            request = self._requests.popleft()
            if not request.replies.done():  # cancelled meanwhile
                burst.append(request)
        return burst


async def speak_alone(client: Redis, commands: Commands) -> list[Any]:
    """Send commands that block over a connection of their own, and return their replies.

    Cancelled, it closes the connection, whose answer may come later.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelled_before = task.cancelling()
    connection = await lend(client)
    try:
        await connection.send_packed_command(pack(commands))
        # redis-py sends in `asyncio.wait_for`, which up to Python 3.11 may swallow a cancellation
        if task.cancelling() > cancelled_before:
            raise asyncio.CancelledError
        return [await _reply_of(connection) for _ in commands]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await client.connection_pool.release(connection)


async def lend(client: Redis) -> Any:
    """Take a connection out of the client's pool; who takes it has to release it."""
    pool: Any = client.connection_pool
    kind: Any = type(pool)
    with nothing_sent():
        connection = await pool.get_connection(*purpose(kind))
    note_connection()
    return connection


async def _speak_burst(connection: Any, burst: list[_Request]) -> None:
    chunks: list[bytes] = []
    sent: list[_Request] = []
    for request in burst:
        try:
            chunks.append(pack(request.commands))
        except Exception as error:  # nothing of it was sent, and the others have nothing to do with it
            _fail(request.replies, error)
            continue
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


async def _reply_of(connection: Any, timeout: float | None = None) -> Any:
    """Read a reply; `timeout` None is the connection's own, and infinity is none."""
    try:
        return await connection.read_response(timeout=timeout)
    except ResponseError as error:  # the server's answer to this command; the next one has its own
        return error


def _fail(replies: asyncio.Future[list[Any]], error: BaseException) -> None:
    if isinstance(error, Exception):
        replies.set_exception(error)
    else:
        replies.cancel()
