"""How a command reaches Redis: at once or not at all, since somebody waits in front of it."""

from __future__ import annotations

from minirq.connection import Config, check_server, connect, server_status
from minirq.connection.faults import server_says
from minirq.exceptions import EmbeddedServerError
from minirq.store import Store


def open_store(config: Config, *, starts_server: bool = True) -> Store:
    """Connect, and look whether the server can be used.

    A command that only looks passes `starts_server=False`: it starts no embedded server.
    Raises ServerUnavailable, AccessDenied, UnsuitableServer or EmbeddedServerError.
    """
    if not (starts_server or config.url) and config.embedded and server_status(config.home) is None:
        raise EmbeddedServerError(
            f"no Redis is configured, and no embedded server is running in {config.home}:"
            " start it with `minirq server start`, or set MINIRQ_REDIS_URL"
        )
    client = connect(config=config)
    with server_says(client, "INFO"):
        check_server(client)
    return Store(client, config.namespace)
