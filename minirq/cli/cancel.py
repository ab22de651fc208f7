"""`minirq cancel`: jobs do not run."""

from __future__ import annotations

import json

import click

from minirq.cli.options import complete_queues, config_options, named_queues, open_store
from minirq.client.store import Store
from minirq.connection import Config
from minirq.protocol import queries
from minirq.protocol.record import ENDED
from minirq.text import safe_text


@click.command()
@click.argument("ids", nargs=-1, required=True)
@click.option(
    "--queue",
    metavar="QUEUE",
    help="Of this queue; without it, of the first queue that has such a job.",
    shell_complete=complete_queues,
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@config_options
@click.pass_context
def cancel(
    ctx: click.Context, config: Config, ids: tuple[str, ...], queue: str | None, as_json: bool
) -> None:
    """See to it that the jobs IDS do not run. What is known of them is kept, and `minirq requeue` runs them.

    A job that runs already is interrupted, and killed if it goes on. Those that are unknown or have ended
    are named on stderr, and the exit code is 1.
    """
    store = open_store(config)
    if queue is not None:
        named_queues(store, [queue])
    canceled: dict[str, str] = {}
    refused: dict[str, str] = {}
    for job_id, status in _cancel(store, list(dict.fromkeys(ids)), queue).items():
        if not status:
            refused[job_id] = "there is no such job"
        elif status in ENDED:
            refused[job_id] = f"it is {status} already"
        else:
            canceled[job_id] = status
    for job_id, reason in refused.items():
        click.echo(f"minirq: job {safe_text(job_id)} was not canceled: {reason}", err=True)
    if as_json:
        done = [{"id": job_id, "was": status} for job_id, status in canceled.items()]
        left = [{"id": job_id, "reason": reason} for job_id, reason in refused.items()]
        click.echo(json.dumps({"canceled": done, "refused": left}))
    else:
        for job_id, status in canceled.items():
            is_running = ": it runs and is interrupted" if status == "started" else ""
            click.echo(f"Canceled {safe_text(job_id)}{is_running}")
    ctx.exit(1 if refused else 0)


def _cancel(store: Store, ids: list[str], queue: str | None) -> dict[str, str]:
    """The status that each job had, "" for one that does not exist."""
    found = store.sender.run(queries.find(store.keys, ids, queue))
    return {
        job_id: store.sender.run(queries.cancel(store.keys.of(where.queue), job_id)) if where else ""
        for job_id, where in zip(ids, found, strict=True)
    }
