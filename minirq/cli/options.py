"""The options that most commands have: which Redis, which namespace."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import click

from minirq.connection import Config, load_config

P = ParamSpec("P")
R = TypeVar("R")


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
