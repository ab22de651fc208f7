"""`minirq stop`: ask workers to stop, from any host."""

from __future__ import annotations

import time
from collections.abc import Collection

import click

from minirq.cli.options import config_options, open_store
from minirq.cli.table import json_line
from minirq.client.store import Store
from minirq.command import shut_down, workers_named
from minirq.connection import Config
from minirq.inspect.overview import LATE_BEAT, WorkerView, overview
from minirq.text import counted, safe_text

#: how long to wait for the workers' answers, seconds
_PATIENCE = 5.0
_LOOK_EVERY = 0.1


@click.command()
@click.argument("workers", nargs=-1, required=True, metavar="WORKER...")
@click.option("--now", is_flag=True, help="Interrupt running jobs: they go back to their queues.")
@config_options
@click.pass_context
def stop(ctx: click.Context, config: Config, workers: tuple[str, ...], now: bool, as_json: bool) -> None:
    """Ask workers to stop, by the names or ids that `minirq info` shows.

    They take no new jobs, and let running jobs end within their --stop-timeout. A name stops every worker
    that has it. Workers answer within seconds; one that is cut off from Redis stops once it can reach Redis
    again. Exits with 1 if a worker has not answered yet.
    """
    store = open_store(config, starts_server=False)
    found = {worker.id: worker for name in workers for worker in workers_named(store, name)}
    shut_down(store, found.values(), now=now)
    left = _wait(store, found, now)
    answers = {worker_id: _answer(left.get(worker_id)) for worker_id in found}
    states = {worker_id: state for worker_id, (state, _) in answers.items()}
    if as_json:
        click.echo(json_line({"workers": states}))
    else:
        click.echo("\n".join(f"{safe_text(worker_id)} {text}" for worker_id, (_, text) in answers.items()))
    ctx.exit(int("asked" in states.values()))


def _wait(store: Store, ids: Collection[str], now: bool) -> dict[str, WorkerView]:
    """Wait until each worker has answered, or for some seconds; return those that are still running."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        seen = overview(store, [])
        left = {worker.id: worker for worker in seen.workers if worker.id in ids}
        waited_for = [
            worker
            for worker in left.values()
            if worker.silence(seen.at) < LATE_BEAT and (now or worker.stopping_since is None)
        ]
        if not waited_for or time.monotonic() >= deadline:
            return left
        time.sleep(_LOOK_EVERY)


def _answer(worker: WorkerView | None) -> tuple[str, str]:
    """What a worker has done by now, for programs and for people."""
    if worker is None:
        return "stopped", "has stopped."
    if worker.stopping_since:
        return "stopping", f"is stopping: {counted(worker.running, 'job still runs', 'jobs still run')}."
    return "asked", "has not answered yet: it may be dead, frozen or cut off from Redis. See minirq info."
