"""`minirq suspend` and `minirq resume`: queues hand out no jobs for a while."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from minirq.cli.options import DurationType, complete_queues, config_options, named_queues, open_store
from minirq.client.store import Store
from minirq.connection import Config
from minirq.exceptions import InvalidOption
from minirq.protocol import commands, queries
from minirq.text import safe_text, shell_word


@click.command()
@click.argument("queues", nargs=-1, shell_complete=complete_queues)
@click.option("--duration", type=DurationType(0.001), help="Resume by itself after so long, as in 10m.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@config_options
def suspend(config: Config, queues: tuple[str, ...], duration: float | None, as_json: bool) -> None:
    """Have QUEUES, or all known queues, hand out no more jobs until `minirq resume`.

    Jobs that workers hold by then go on. Enqueueing, delays and retries go on too.
    """
    store = open_store(config)
    names = _named(store, queues)
    calls: list[Any] = [
        queries.server_time(),
        # so that `minirq resume` finds a queue that only foreign producers have used
        queries.know_queues(store.keys, names),
        *(commands.pause(store.keys.of(name), seconds=duration) for name in names),
    ]
    now_ms, *_ = store.sender.send_all(calls)
    until = datetime.fromtimestamp(now_ms / 1000, UTC) + timedelta(seconds=duration) if duration else None
    if as_json:
        click.echo(json.dumps({"suspended": names, "until": until.isoformat() if until else None}))
        return
    click.echo(
        f"Suspended {_list(names)}" + (f" until {until.astimezone():%Y-%m-%d %H:%M:%S}." if until else ".")
    )
    if not until:
        click.echo(
            "Go on with:  minirq resume"
            + (f" {' '.join(shell_word(name, 'QUEUE') for name in queues)}" if queues else "")
        )


@click.command()
@click.argument("queues", nargs=-1, shell_complete=complete_queues)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@config_options
def resume(config: Config, queues: tuple[str, ...], as_json: bool) -> None:
    """Have QUEUES, or all known queues, hand out jobs again. Workers that wait are woken."""
    store = open_store(config)
    names = _named(store, queues)
    calls = [commands.pause(store.keys.of(name), seconds=0) for name in names]
    resumed = [
        name for name, was_paused in zip(names, store.sender.send_all(calls), strict=True) if was_paused
    ]
    if as_json:
        click.echo(json.dumps({"resumed": resumed}))
    else:
        click.echo(f"Resumed {_list(resumed)}." if resumed else f"{_list(names)}: not suspended.")


def _named(store: Store, queues: tuple[str, ...]) -> list[str]:
    """The queues that are meant. Raises InvalidOption if there are none, or not that one."""
    if queues:
        return named_queues(store, queues)
    known = store.sender.send(queries.queue_names(store.keys))
    if not known:
        raise InvalidOption("no queue is known yet: name those that are meant")
    return [name for name in known if queries.can_be_key(name)]


def _list(names: list[str]) -> str:
    return ", ".join(safe_text(name) for name in names)
