"""How a command reaches Redis, and the queues that are meant: at once or not at all, since somebody waits."""

from __future__ import annotations

from collections.abc import Iterable

from minirq.connection import Config, check_server, connect, server_status
from minirq.connection.faults import server_says
from minirq.exceptions import EmbeddedServerError, InvalidOption
from minirq.protocol import reads
from minirq.protocol.names import check_queue_name
from minirq.store import Store
from minirq.text import safe_text

#: queues that a message names
_MOST_NAMED = 10


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


def named_queues(store: Store, names: Iterable[str]) -> list[str]:
    """Return the queues that are named, each once. Raises InvalidOption for a name that no queue has."""
    wanted = [check_queue_name(name) for name in dict.fromkeys(names)]
    known = store.sender.send(reads.queue_names(store.keys))
    unknown = [name for name in wanted if name not in known]
    found = store.sender.send_all([reads.has_keys(store.keys.of(name)) for name in unknown])
    missing = [safe_text(name) for name, is_there in zip(unknown, found, strict=True) if not is_there]
    if missing:
        others = ", ".join(safe_text(name) for name in known[:_MOST_NAMED]) + (
            f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
        )
        raise InvalidOption(
            f"there is no queue {', '.join(missing)}" + (f"; there are {others}" if others else "")
        )
    return wanted
