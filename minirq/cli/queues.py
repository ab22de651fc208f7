"""`minirq suspend`, `resume` and `empty`: pause queues, resume them, delete what is in them."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import click

from minirq.cli.options import chosen_queues, complete_queues, config_options, duration, open_store
from minirq.cli.table import json_line
from minirq.client.store import Store
from minirq.connection import Config
from minirq.durations import local_time, utc_from_ms
from minirq.exceptions import InvalidOption
from minirq.protocol import commands, queries
from minirq.text import counted, safe_text, shell_word

_queues_argument = click.argument("queues", nargs=-1, shell_complete=complete_queues)


@click.command()
@_queues_argument
@click.option("--duration", "seconds", type=duration(0.001), help="Resume after this long, for example 10m.")
@config_options
def suspend(config: Config, queues: tuple[str, ...], seconds: float | None, as_json: bool) -> None:
    """Pause QUEUES, or all queues, until `minirq resume`: workers take no new jobs from them.

    Jobs that workers have taken already still run. Enqueueing, delays and retries go on.
    """
    store = open_store(config)
    names = _known(store, queues)
    calls: list[Any] = [
        queries.server_time(),
        # so that `minirq resume` finds a queue that only foreign producers have used
        queries.know_queues(store.keys, names),
        *(commands.pause(store.keys.of(name), seconds=seconds) for name in names),
    ]
    now, *_ = store.sender.send_all(calls)
    started = utc_from_ms(now)
    until = started + timedelta(seconds=seconds) if started and seconds else None
    if as_json:
        click.echo(json_line({"suspended": names, "until": until}))
    elif until:
        click.echo(f"Suspended {_list(names)} until {local_time(until)}.")
    else:
        words = "".join(f" {shell_word(name, 'QUEUE')}" for name in queues)
        click.echo(f"Suspended {_list(names)}.\nTo resume:  minirq resume{words}")


@click.command()
@_queues_argument
@config_options
def resume(config: Config, queues: tuple[str, ...], as_json: bool) -> None:
    """Resume QUEUES, or all queues. Waiting workers go on at once."""
    store = open_store(config)
    names = _known(store, queues)
    was_paused = store.sender.send_all([commands.pause(store.keys.of(name), seconds=0) for name in names])
    resumed = [name for name, was in zip(names, was_paused, strict=True) if was]
    if as_json:
        click.echo(json_line({"resumed": resumed}))
    else:
        click.echo(f"Resumed {_list(resumed)}." if resumed else f"{_list(names)}: not suspended.")


@click.command()
@_queues_argument
@click.option("-a", "--all", "all_queues", is_flag=True, help="Empty all queues.")
@click.option("--failed", is_flag=True, help="Delete the failed jobs instead of the waiting ones.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed with --json.")
@config_options
def empty(
    config: Config, queues: tuple[str, ...], all_queues: bool, failed: bool, yes: bool, as_json: bool
) -> None:
    """Delete the waiting jobs of QUEUES, or with --all of all queues. Other jobs stay.

    With --failed, delete the failed jobs instead. The command shows how many jobs there are, and asks before
    it deletes them.
    """
    if all_queues == bool(queues):
        raise click.UsageError("give either QUEUES or --all")
    if as_json and not yes:
        raise click.UsageError("--json needs --yes")
    store = open_store(config)
    names = chosen_queues(store, queues)
    place, kind = ("failed", "failed") if failed else ("queue", "waiting")
    counts = _counts(store, names, place)
    if counts and not yes:
        _ask(counts, kind)
    deleted = {name: store.sender.run(queries.empty(store.keys.of(name), place)) for name in counts}
    if as_json:
        click.echo(json_line({"deleted": {name: deleted.get(name, 0) for name in names}}))
    elif deleted:
        click.echo("\n".join(f"Deleted {line}." for line in _described(deleted, kind)))
    else:
        click.echo(f"There are no {kind} jobs.")


def _known(store: Store, queues: tuple[str, ...]) -> list[str]:
    names = chosen_queues(store, queues)
    if not names:
        raise InvalidOption("there is no queue yet: enqueue a job first")
    return names


def _counts(store: Store, names: list[str], place: str) -> dict[str, int]:
    """How many jobs wait, or have failed, in each queue that has any."""
    queues = [store.keys.of(name) for name in names]
    calls = [queries.count(keys) if place == "queue" else queries.index_count(keys, place) for keys in queues]
    return {name: count for name, count in zip(names, store.sender.send_all(calls), strict=True) if count}


def _ask(counts: dict[str, int], kind: str) -> None:
    """Return only if somebody agrees."""
    what = ", ".join(_described(counts, kind))
    if not sys.stdin.isatty():
        raise click.UsageError(f"this would delete {what}, and there is no terminal to ask: pass --yes")
    click.confirm(f"Delete {what}?", abort=True)


def _described(counts: dict[str, int], kind: str) -> list[str]:
    return [
        f"{counted(count, f'{kind} job', f'{kind} jobs')} of {safe_text(name)}"
        for name, count in counts.items()
    ]


def _list(names: list[str]) -> str:
    return ", ".join(safe_text(name) for name in names)
