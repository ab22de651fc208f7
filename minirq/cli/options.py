"""How a command reaches Redis, and the queues that are meant: at once or not at all, since somebody waits.

What a shell may complete: names of queues. Asked at a prompt, it answers soon and without errors.

What options have in common: which Redis and which namespace, and how a span of time is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from minirq.client.store import Store
from minirq.connection import Config, check_server, connect, derive, load_config, server_status
from minirq.connection.client import Sender
from minirq.connection.errors import translated_errors
from minirq.durations import parse_duration, parse_size
from minirq.exceptions import EmbeddedServerError, InvalidOption, MinirqError, TimeoutFormatError
from minirq.protocol import queries
from minirq.protocol.keys import Keys, check_queue_name
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
    with translated_errors(client, "INFO"):
        check_server(client)
    return Store(client, config.namespace)


def named_queues(store: Store, names: Iterable[str]) -> list[str]:
    """Return the queues that are named, each once. Raises InvalidOption for a name that no queue has."""
    wanted = [check_queue_name(name) for name in dict.fromkeys(names)]
    known = store.sender.send(queries.queue_names(store.keys))
    unknown = [name for name in wanted if name not in known]
    found = store.sender.send_all([queries.has_keys(store.keys.of(name)) for name in unknown])
    missing = [safe_text(name) for name, is_there in zip(unknown, found, strict=True) if not is_there]
    if missing:
        others = ", ".join(safe_text(name) for name in known[:_MOST_NAMED]) + (
            f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
        )
        raise InvalidOption(
            f"there is no queue {', '.join(missing)}" + (f"; there are {others}" if others else "")
        )
    return wanted


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
            names = Sender(client, patience=0).send(queries.queue_names(Keys(config.namespace)))
    except MinirqError:
        return []
    return [name for name in names if queries.can_be_key(name) and safe_text(name) == name]


def _is_embedded_running(config: Config) -> bool:
    return config.embedded and server_status(config.home) is not None


P = ParamSpec("P")
R = TypeVar("R")


class DurationType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """Seconds, or text such as "10m", from `least` on; -1 only with `allow_unlimited`."""

    name = "duration"

    def __init__(self, least: float = 0.0, *, allow_unlimited: bool = False) -> None:
        self._least = least
        self._allow_unlimited = allow_unlimited

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds, or say what is wrong with the value."""
        try:
            seconds = parse_duration(value, what="", allow_unlimited=self._allow_unlimited)
        except TimeoutFormatError as error:
            self.fail(str(error).removeprefix(": "), param, ctx)  # click names the option
        if seconds < self._least and seconds != -1:
            self.fail(f"{value!r} is too short: give {self._least:g} s or more", param, ctx)
        return seconds


class CountType(click.IntRange):
    """A whole number within a range."""

    name = "number"  # click's own name makes "not a valid integer range" of a word


class SizeType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """Bytes, or text such as "200M" or "1G"."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes, or say what is wrong with the value."""
        try:
            return parse_size(value, what=param.human_readable_name if param else "size")
        except InvalidOption as error:
            self.fail(str(error), param, ctx)


def config_options(command: Callable[Concatenate[Config, P], R]) -> Callable[P, R]:
    """Add --url, --namespace and -c, --config to a command; its first argument becomes the Config."""
    return _with_config(command, "-c", "--config")


def config_options_in_full(command: Callable[Concatenate[Config, P], R]) -> Callable[P, R]:
    """Add the same without -c, for a command that has another use for the letter."""
    return _with_config(command, "--config")


def _with_config(command: Callable[Concatenate[Config, P], R], *names: str) -> Callable[P, R]:

    # connection.config reads the environment; click would read MINIRQ_WORKER_URL and the like beside it
    @click.option(
        "-u",
        "--url",
        metavar="URL",
        allow_from_autoenv=False,
        help="Redis to use: redis://, rediss:// or unix:// [env: MINIRQ_REDIS_URL, REDIS_URL]",
    )
    @click.option(
        "--namespace",
        metavar="NAME",
        allow_from_autoenv=False,
        help="Prefix of all Redis keys [env: MINIRQ_NAMESPACE; default: minirq]",
    )
    @click.option(
        *names,
        "file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        allow_from_autoenv=False,
        help="TOML file with [tool.minirq], instead of the nearest pyproject.toml [env: MINIRQ_CONFIG]",
    )
    @wraps(command)
    def with_config(*args: P.args, **kwargs: P.kwargs) -> R:
        url = kwargs.pop("url", None)
        namespace = kwargs.pop("namespace", None)
        if file := kwargs.pop("file", None):
            # jobs that make a Queue of their own are to find the same settings
            os.environ["MINIRQ_CONFIG"] = str(Path(str(file)).absolute())
        config = load_config(url=_text(url), namespace=_text(namespace))
        return command(config, *args, **kwargs)

    return with_config


def _text(value: object) -> str | None:
    return None if value is None else str(value)
