"""What a shell may complete: names of queues. Asked at a prompt, it answers soon and without errors."""

from __future__ import annotations

import click

from minirq.connection import Config, connect, derive, load_config, server_status
from minirq.connection.sender import Sender
from minirq.exceptions import MinirqError
from minirq.protocol import reads
from minirq.protocol.keys import Keys
from minirq.text import safe_text

#: an answer that takes longer is not worth waiting for, seconds
_PATIENCE = 0.5


def complete_queues(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of known queues that begin so and are not on the line yet."""
    taken = ctx.params.get(param.name or "")
    taken = taken if isinstance(taken, tuple) else ()
    return [name for name in _known(ctx) if name.startswith(incomplete) and name not in taken]


def _known(ctx: click.Context) -> list[str]:
    given = ctx.params
    try:
        config = load_config(url=given.get("url"), namespace=given.get("namespace"), file=given.get("file"))
        if config.url is None and not _is_embedded_running(config):
            return []  # no reason to start one
        with derive(connect(config=config), socket_timeout=_PATIENCE) as client:
            names = Sender(client, patience=0).send(reads.queue_names(Keys(config.namespace)))
    except MinirqError:
        return []
    return [name for name in names if reads.can_be_key(name) and safe_text(name) == name]


def _is_embedded_running(config: Config) -> bool:
    return config.embedded and server_status(config.home) is not None
