"""What commands have in common: how they reach Redis, which queues are meant, how a duration is given.

A command fails at once where a worker would wait for Redis, since somebody waits in front of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from minirq.client.store import Store
from minirq.connection import Config, check_server, connect, derive, load_config, server_status
from minirq.connection.client import Sender
from minirq.durations import parse_duration
from minirq.exceptions import EmbeddedServerError, InvalidOption, MinirqError, TimeoutFormatError
from minirq.protocol import queries
from minirq.protocol.keys import Keys, check_queue_name
from minirq.text import safe_text

#: queues that a message names
_MOST_NAMED = 10


def open_store(config: Config, *, starts_server: bool = True) -> Store:
    """Connect, and check that the server can be used.

    A command that only reads passes `starts_server=False`, and starts no embedded server.
    Raises ServerUnavailable, AccessDenied, UnsuitableServer or EmbeddedServerError.
    """
    if not starts_server and _would_start_server(config):
        raise EmbeddedServerError(
            f"no Redis is configured, and no embedded server is running in {config.home}:"
            " start it with `minirq server start`, or set MINIRQ_REDIS_URL"
        )
    client = connect(config=config)
    check_server(client)
    return Store(client, config.namespace)


def _would_start_server(config: Config) -> bool:
    return config.url is None and config.embedded and server_status(config.home) is None


def chosen_queues(store: Store, names: Sequence[str] = ()) -> list[str]:
    """Return the named queues, each once, or without names all known ones.

    Raises InvalidOption for a name that no queue has.
    """
    known = store.sender.send(queries.queue_names(store.keys))
    if not names:
        return known
    wanted = [check_queue_name(name) for name in dict.fromkeys(names)]
    unknown = [name for name in wanted if name not in known]
    found = store.sender.send_all([queries.has_keys(store.keys.of(name)) for name in unknown])
    missing = [safe_text(name) for name, is_there in zip(unknown, found, strict=True) if not is_there]
    if missing:
        others = ", ".join(safe_text(name) for name in known[:_MOST_NAMED])
        others += f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
        known_are = f" (known: {others})" if others else ""
        raise InvalidOption(f"there is no queue {', '.join(missing)}{known_are}")
    return wanted


#: completion gives up on Redis after this, seconds
_PATIENCE = 0.5


def complete_queues(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the known queues that begin with this text and are not on the command line yet."""
    taken = ctx.params.get(param.name or "")
    taken = taken if isinstance(taken, tuple) else ()
    return [name for name in _known(ctx) if name.startswith(incomplete) and name not in taken]


def _known(ctx: click.Context) -> list[str]:
    given = ctx.params
    try:
        config = load_config(url=given.get("url"), namespace=given.get("namespace"), file=given.get("file"))
        if _would_start_server(config):
            return []
        with derive(connect(config=config), socket_timeout=_PATIENCE) as client:
            names = Sender(client, patience=0).send(queries.queue_names(Keys(config.namespace)))
    except MinirqError:
        return []
    return [name for name in names if safe_text(name) == name]


def duration(least: float = 0.0, *, allow_unlimited: bool = False) -> Callable[[Any], float]:
    """Return a type of options: seconds, or text such as "10m", from `least` on; -1 only if allowed."""

    def duration(value: Any) -> float:
        try:
            seconds = parse_duration(value, what="", allow_unlimited=allow_unlimited)
        except TimeoutFormatError as error:
            raise click.BadParameter(str(error).removeprefix(": ")) from None  # click names the option
        if seconds < least and seconds != -1:
            raise click.BadParameter(f"{value!r} is too short: give {least:g} s or more")
        return seconds

    return duration


class Count(click.IntRange):
    """A whole number within a range."""

    name = "number"  # click's own name makes "not a valid integer range" of a word


def config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --url, --namespace, -c/--config and --json; the command's first argument becomes the Config."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return _with_config(as_json(command), "-c", "--config")


def worker_config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the same for the worker, which has another use for -c and logs instead of printing."""
    return _with_config(command, "--config")


def _with_config(command: Callable[..., None], *names: str) -> Callable[..., None]:

    # connection.config reads the environment; click would read MINIRQ_WORKER_URL and the like beside it
    @click.option(
        "-u", "--url", metavar="URL", allow_from_autoenv=False,
        help="Redis to use: redis://, rediss:// or unix:// [env: MINIRQ_REDIS_URL, REDIS_URL]",
    )  # fmt: skip
    @click.option(
        "--namespace", metavar="NAME", allow_from_autoenv=False,
        help="Prefix of all Redis keys [env: MINIRQ_NAMESPACE; default: minirq]",
    )  # fmt: skip
    @click.option(
        *names, "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path),
        allow_from_autoenv=False,
        help="TOML file with [tool.minirq], instead of the nearest pyproject.toml [env: MINIRQ_CONFIG]",
    )  # fmt: skip
    @wraps(command)
    def with_config(
        *args: Any, url: str | None, namespace: str | None, file: Path | None, **rest: Any
    ) -> None:
        if file:
            # jobs that make a Queue of their own are to find the same settings
            os.environ["MINIRQ_CONFIG"] = str(file.absolute())
        command(load_config(url=url, namespace=namespace), *args, **rest)

    return with_config
