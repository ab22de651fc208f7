"""What options have in common: which Redis and which namespace, and how a span of time is given."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from minirq.connection import Config, load_config
from minirq.durations import parse_duration
from minirq.exceptions import InvalidOption, TimeoutFormatError
from minirq.sizes import parse_size

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
