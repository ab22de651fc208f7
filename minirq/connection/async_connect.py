"""Clients of redis.asyncio with the settings that minirq relies on: the twin of `connect`."""

from __future__ import annotations

import asyncio
from typing import Any

import redis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from minirq.connection.config import Config
from minirq.connection.connect import checked_client, configured_url, kind_of, open_url, options_of_derived
from minirq.connection.urls import checked_url
from minirq.exceptions import InvalidOption


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
