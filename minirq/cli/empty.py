"""`minirq empty`: waiting or failed jobs are deleted."""

from __future__ import annotations

import json
import sys

import click

from minirq.cli.options import complete_queues, config_options, named_queues, open_store
from minirq.client.store import Store
from minirq.connection import Config
from minirq.protocol import queries
from minirq.text import counted, safe_text


@click.command()
@click.argument("queues", nargs=-1, shell_complete=complete_queues)
@click.option("-a", "--all", "all_queues", is_flag=True, help="All queues.")
@click.option("--failed", is_flag=True, help="The failed jobs, instead of the waiting ones.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="For programs. It needs --yes.")
@config_options
def empty(
    config: Config, queues: tuple[str, ...], all_queues: bool, failed: bool, yes: bool, as_json: bool
) -> None:
    """Delete the jobs that wait in QUEUES, or with --all in all queues.

    With --failed, delete those that have failed. All others stay. It says how many there are, and asks first.
    """
    if all_queues == bool(queues):
        raise click.UsageError("give either QUEUES or --all")
    if as_json and not yes:
        raise click.UsageError("--json needs --yes")
    store = open_store(config)
    if all_queues:
        known = store.sender.send(queries.queue_names(store.keys))
        names = [name for name in known if queries.can_be_key(name)]
    else:
        names = named_queues(store, queues)
    place, kind = ("failed", "failed") if failed else ("queue", "waiting")
    counts = _counts(store, names, place)
    if counts and not yes:
        _ask(counts, kind)
    deleted = {name: store.sender.run(queries.empty(store.keys.of(name), place)) for name in counts}
    if as_json:
        click.echo(json.dumps({"deleted": {name: deleted.get(name, 0) for name in names}}))
    elif not deleted:
        click.echo("No jobs have failed." if failed else "No jobs wait.")
    for name, count in deleted.items():
        if not as_json:
            click.echo(f"Deleted {_jobs(count, kind)} of {safe_text(name)}.")


def _counts(store: Store, names: list[str], place: str) -> dict[str, int]:
    """How many jobs wait, or have failed, in each queue that has any."""
    queues = [store.keys.of(name) for name in names]
    counts = [
        queries.count(keys) if place == "queue" else queries.index_count(keys, place) for keys in queues
    ]
    replies = store.sender.send_all(counts)
    return {name: count for name, count in zip(names, replies, strict=True) if count}


def _ask(counts: dict[str, int], kind: str) -> None:
    """Go on only if somebody says so."""
    what = ", ".join(f"{_jobs(count, kind)} of {safe_text(name)}" for name, count in counts.items())
    if not sys.stdin.isatty():
        raise click.UsageError(f"this would delete {what}, and nobody is there to be asked: give --yes")
    click.confirm(f"Delete {what}?", abort=True)


def _jobs(count: int, kind: str) -> str:
    return counted(count, f"{kind} job", f"{kind} jobs")
