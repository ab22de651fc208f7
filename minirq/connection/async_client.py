"""Clients of redis.asyncio with the settings that minirq relies on: the twin of `connect`.

A wire: many tasks speak over one asyncio connection, and what they say meanwhile goes out together.

Commands that come while others are under way wait for the next burst: one write, one read of all replies.
So fifty tasks that enqueue at once cost a few round trips, not fifty, and one connection. A task that is
cancelled leaves its reply to the wire, so the connection is never left with half of an answer.

Sends calls over redis.asyncio, and repeats what may be repeated: the twin of `sender`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

import redis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as ReplyTimeout

from minirq.connection.client import Exchange, all_results, encode_command, one_result, purpose
from minirq.connection.config import Config, checked_url
from minirq.connection.connect import (
    checked_client,
    configured_url,
    kind_of,
    open_url,
    options_of_derived,
    safe_url,
)
from minirq.connection.errors import Persistence, note_connection, nothing_sent
from minirq.exceptions import InvalidOption, ServerUnavailable
from minirq.protocol.commands import Argument, Call


async def connect_async(config: Config) -> Redis:
    """Return a client of the configured or the embedded server. Nothing is sent yet.

    An embedded server is started where it does not run, in a thread: that takes a while.
    """
    if config.url is None:
        return _client_of(await asyncio.to_thread(configured_url, config))
    return _client_of(config.url)


def client_of(connection: Redis | str) -> Redis:
    """Return the given client, or one for the given URL. Nothing is opened yet."""
    given: object = connection  # types are not checked at run time
    match given:
        case Redis():
            return checked_client(given)
        case str():
            return _client_of(checked_url(given, "connection"))
        case redis.Redis():
            raise InvalidOption(
                "connection is a redis.Redis, which would block the event loop:"
                " give a redis.asyncio.Redis or a URL, or use minirq.Queue and minirq.Job"
            )
    raise InvalidOption(f"connection is a {kind_of(given)}: give a redis.asyncio.Redis, a URL, or nothing")


def derive_async(client: Redis, *, socket_timeout: float | None) -> Redis:
    """Return a client of the same server with a pool of its own, which sends once and has this timeout."""
    pool: Any = client.connection_pool
    options = options_of_derived(client, socket_timeout) | {"retry": Retry(NoBackoff(), 0)}
    if isinstance(pool, SentinelConnectionPool):
        own_pool: ConnectionPool = SentinelConnectionPool(
            pool.service_name,
            pool.sentinel_manager,
            is_master=pool.is_master,
            check_connection=pool.check_connection,
            **options,
        )
    else:
        own_pool = ConnectionPool(**options)
    return Redis(connection_pool=own_pool)


def has_open_connections(client: Redis) -> bool:
    """Whether the client's pool holds connections that are open, each of which belongs to an event loop."""
    pool: Any = client.connection_pool
    held = (*pool._available_connections, *pool._in_use_connections)
    return any(connection.is_connected for connection in held)


async def close_connections(client: Redis) -> None:
    """Close all connections of the client's pool; it can be used again."""
    # not the client's own method, whose name depends on the version of redis-py
    await client.connection_pool.disconnect(inuse_connections=True)


def _client_of(url: str) -> Redis:
    return open_url(Redis, url, Retry(NoBackoff(), 0))


Commands = Sequence[Sequence[Argument]]

#: requests that one burst takes at most, so that the first does not wait for the writing of very many
_MOST = 100


@dataclass(slots=True)
class _Request:
    commands: Commands
    replies: asyncio.Future[list[Any]]


class Multiplexer:
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
        await connection.send_packed_command(encode_command(commands))
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
            chunks.append(encode_command(request.commands))
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


T = TypeVar("T")
R = TypeVar("R")


class AsyncSender:
    """Calls in, replies out, for any number of tasks of one event loop."""

    def __init__(self, client: Redis, *, patience: float | None = None) -> None:
        self.client = client
        self.patience = patience
        self.wire = Multiplexer(client)

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
