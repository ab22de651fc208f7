"""What options have in common: which Redis and which namespace, and how a span of time is given."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from minirq.connection import Config, load_config
from minirq.durations import parse_duration
from minirq.exceptions import TimeoutFormatError

P = ParamSpec("P")
R = TypeVar("R")


class DurationType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """Seconds, or text such as "10m", from `least` on."""

    name = "seconds"

    def __init__(self, least: float = 0.0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds, or say what is wrong with the value."""
        try:
            seconds = parse_duration(value, what=param.human_readable_name if param else "duration")
        except TimeoutFormatError as error:
            self.fail(str(error), param, ctx)
        if seconds < self._least:
            self.fail(f"{value!r} is too short: give {self._least:g} s or more", param, ctx)
        return seconds


def config_options(command: Callable[Concatenate[Config, P], R]) -> Callable[P, R]:
    """Add --url and --namespace to a command, whose first argument becomes the resulting Config."""

    # connection.config reads the environment; click would read MINIRQ_WORKER_URL and the like beside it
    @click.option(
        "--url",
        metavar="URL",
        allow_from_autoenv=False,
        help="Redis to use: redis://, rediss:// or unix:// [env: MINIRQ_REDIS_URL, REDIS_URL]",
    )
    @click.option(
        "--namespace",
        metavar="NAME",
        allow_from_autoenv=False,
        help="Begins every key [env: MINIRQ_NAMESPACE; default: minirq]",
    )
    @wraps(command)
    def with_config(*args: P.args, **kwargs: P.kwargs) -> R:
        url = kwargs.pop("url", None)
        namespace = kwargs.pop("namespace", None)
        return command(load_config(url=_text(url), namespace=_text(namespace)), *args, **kwargs)

    return with_config


def _text(value: object) -> str | None:
    return None if value is None else str(value)
