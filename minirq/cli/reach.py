"""How a command reaches Redis: at once or not at all, since somebody waits in front of it."""

from __future__ import annotations

from minirq.connection import Config, check_server, connect
from minirq.connection.faults import server_says
from minirq.store import Store


def open_store(config: Config) -> Store:
    """Connect, and look whether the server can be used.

    Raises ServerUnavailable, AccessDenied or UnsuitableServer.
    """
    client = connect(config=config)
    with server_says(client, "INFO"):
        check_server(client)
    return Store(client, config.namespace)
