"""Clients of Redis with the settings that minirq relies on.

redis-py's defaults differ by version, and two of them break a queue: it sends a command again after a lost
reply, so that a push happens twice, and its socket timeout ends a blocking wait early. So every client
made here sends once and has its timeouts stated. What to send again is decided elsewhere.
"""

from __future__ import annotations

import asyncio  # redis imports it by itself, and redis.asyncio too
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from minirq.connection.config import Config, checked_url, load_config, shown_url
from minirq.embedded.server import OLDEST_VERSION, ensure_server, product_in, version_in, version_tuple
from minirq.exceptions import ConfigError, InvalidOption, UnsuitableServer

if TYPE_CHECKING:
    AnyClient = redis.Redis | redis.asyncio.Redis

Client = TypeVar("Client", redis.Redis, redis.asyncio.Redis)

SOCKET_TIMEOUT = 5
CONNECT_TIMEOUT = 3

# Entries of a redis-py 8 pool that belong to that pool alone. Without them, and with protocol 2, replies have
# the same shapes as on redis-py 5.
_OF_ONE_POOL = (
    "connection_pool",
    "event_dispatcher",
    "himport_registry",
    "legacy_responses",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
    "oss_cluster_maint_notifications_handler",
    "orig_host_address",
    "orig_socket_connect_timeout",
    "orig_socket_timeout",
)


def connect(connection: redis.Redis | str | None = None, config: Config | None = None) -> redis.Redis:
    """Return a client: the given one, one for the given URL, or one for the configured or embedded server.

    Nothing is sent yet, except that an embedded server is started where it does not run.
    """
    if connection is None:
        return _open(redis.Redis, configured_url(config or load_config()))
    return _client_of(redis.Redis, connection)


async def connect_async(config: Config) -> redis.asyncio.Redis:
    """Return a client of the configured or the embedded server, which is started in a thread if need be."""
    url = config.url if config.url is not None else await asyncio.to_thread(configured_url, config)
    return _open(redis.asyncio.Redis, url)


def async_client_of(connection: redis.asyncio.Redis | str) -> redis.asyncio.Redis:
    """Return the given client, or one for the given URL. Nothing is opened yet."""
    return _client_of(redis.asyncio.Redis, connection)


def _client_of(kind: type[Client], connection: Client | str) -> Client:
    given: object = connection  # types are not checked at run time
    if isinstance(given, kind):
        return _checked(given)
    if isinstance(given, str):
        return _open(kind, checked_url(given, "connection"))
    what = f"a {type(given).__module__}.{type(given).__qualname__}"
    match given:
        case redis.Redis():
            what = "a redis.Redis, which would block the event loop"
        case redis.asyncio.Redis():
            what = "a redis.asyncio.Redis, whose commands have to be awaited"
    if kind is redis.Redis:
        way_out = "give a redis.Redis, a URL, or nothing; or use minirq.aio.AsyncQueue and AsyncJob"
    else:
        way_out = "give a redis.asyncio.Redis, a URL, or nothing; or use minirq.Queue and minirq.Job"
    raise InvalidOption(f"connection is {what}: {way_out}")


def derive(client: Client, *, socket_timeout: float | None) -> Client:
    """Return a client of the same server with a pool of its own, which sends once and has this timeout.

    What blocks goes over such a client, so that the application need not tune its own.
    """
    kind: Any = redis if isinstance(client, redis.Redis) else redis.asyncio
    pool: Any = client.connection_pool
    options = {name: value for name, value in pool.connection_kwargs.items() if name not in _OF_ONE_POOL}
    options |= {
        "retry": _no_retry(type(client)),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "socket_timeout": socket_timeout,
        "health_check_interval": 0,
        "protocol": 2,
        "connection_class": pool.connection_class,
    }
    if hasattr(pool, "sentinel_manager"):
        own_pool = kind.sentinel.SentinelConnectionPool(
            pool.service_name,
            pool.sentinel_manager,
            is_master=pool.is_master,
            check_connection=pool.check_connection,
            **options,
        )
    else:
        own_pool = kind.ConnectionPool(**options)
    own: Client = kind.Redis(connection_pool=own_pool)
    own.auto_close_connection_pool = True  # a pool that was handed over is not closed with its client
    return own


def open_sockets(client: redis.Redis) -> Iterator[socket.socket]:
    """The sockets that a client holds: to look at, or to close the copies of them that a fork has made."""
    pool = client.connection_pool  # after a fork its own methods would forget them and close nothing
    for connection in (*pool._available_connections, *pool._in_use_connections):
        sock = getattr(connection, "_sock", None)
        if sock is not None:
            yield sock


def check_version(info: Mapping[str, object], where: str) -> None:
    """Raise UnsuitableServer if this INFO is that of a server below 6.2."""
    version = version_in(info)
    if version_tuple(version) < OLDEST_VERSION:
        raise UnsuitableServer(
            f"{where} is {product_in(info)} {version or 'of an unknown version'}:"
            " minirq needs Redis 6.2 or newer, or Valkey"
        )


def safe_url(connection: AnyClient | str) -> str:
    """Return where this leads, for messages and logs: never a password."""
    if isinstance(connection, str):
        return shown_url(connection)
    pool: Any = connection.connection_pool
    options = pool.connection_kwargs
    db = options.get("db") or 0
    if hasattr(pool, "sentinel_manager"):
        return f"sentinel {pool.service_name}/{db}"
    secret = "***@" if options.get("password") else ""
    if options.get("path"):
        return f"unix://{secret}{options['path']}" + (f"?db={db}" if db else "")
    is_tls = issubclass(pool.connection_class, (redis.SSLConnection, redis.asyncio.SSLConnection))
    scheme = "rediss" if is_tls else "redis"
    return f"{scheme}://{secret}{options.get('host', 'localhost')}:{options.get('port', 6379)}/{db}"


def configured_url(config: Config) -> str:
    """The URL of the configured server, or of the embedded one, which is started where it does not run."""
    if config.url is not None:
        return config.url
    if not config.embedded:
        raise ConfigError(
            "no Redis is configured and the embedded server is switched off (MINIRQ_EMBEDDED=0):"
            " set MINIRQ_REDIS_URL, as in redis://localhost:6379"
        )
    server = ensure_server(config.home)
    if server.started:
        note = (
            f"minirq: no Redis is configured: started an embedded server, {server.binary.name}"
            f" {server.version} at {server.socket}"
        )
        if server.copy:
            note += f"; it converts the data that another product wrote, a copy is in {server.copy}"
        sys.stderr.write(note + "\n")
    return server.url


def _open(kind: type[Client], url: str) -> Client:
    """Make a client of this kind. Raises ConfigError for options that redis-py refuses."""
    options: dict[str, Any] = {
        "retry": _no_retry(kind),
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "health_check_interval": 0,
        "protocol": 2,
    }
    if not url.startswith("unix:"):  # a unix socket refuses the option
        options["socket_keepalive"] = True
    if url.startswith("rediss:") and "ssl_cert_reqs=" not in url:
        options["ssl_check_hostname"] = True  # redis-py before 6 does not by itself; the URL wins
    try:
        client = kind.from_url(url, **options)
        pool: Any = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # not connected: shows an option that nobody knows
    except (TypeError, ValueError, redis.RedisError) as error:
        raise ConfigError(
            f"{shown_url(url)!r} has an option that redis-py does not accept: {error}"
        ) from None
    return _checked(client)


def _no_retry(kind: type[AnyClient]) -> Any:
    return (Retry if issubclass(kind, redis.Redis) else AsyncRetry)(NoBackoff(), 0)


def _checked(client: Client) -> Client:
    if client.connection_pool.connection_kwargs.get("decode_responses"):
        raise UnsuitableServer(
            f"the connection to {safe_url(client)} has decode_responses=True, and jobs are bytes, not text:"
            " give minirq a client of its own without it"
        )
    return client
