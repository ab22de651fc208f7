"""`minirq stop`: workers are asked to stop, from anywhere."""

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

#: how long their answer is waited for, seconds
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
    states = {worker_id: _state(left.get(worker_id)) for worker_id in found}
    if as_json:
        click.echo(json_line({"workers": states}))
    else:
        for worker_id, state in states.items():
            click.echo(f"{safe_text(worker_id)} {_said(state, left.get(worker_id))}")
    ctx.exit(int("asked" in states.values()))


def _wait(store: Store, ids: Collection[str], now: bool) -> dict[str, WorkerView]:
    """Wait until each has answered, or for some seconds; return those that are still there."""
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


def _state(worker: WorkerView | None) -> str:
    return "stopped" if worker is None else "stopping" if worker.stopping_since else "asked"


def _said(state: str, worker: WorkerView | None) -> str:
    if worker is None:
        return "has stopped."
    if state == "stopping":
        return f"is stopping: {counted(worker.running, 'job still runs', 'jobs still run')}."
    return "has not answered yet: it may be dead, frozen or cut off from Redis. See minirq info."
