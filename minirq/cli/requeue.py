"""`minirq requeue`: ended jobs run again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import click

from minirq.cli.options import complete_queues, config_options, named_queues, open_store
from minirq.client.store import Store
from minirq.connection import Config
from minirq.protocol import commands, queries
from minirq.protocol.record import JobStatus
from minirq.text import safe_text

#: jobs that are requeued in one round trip
CHUNK = 500


@dataclass(slots=True)
class _Done:
    """The ids that were requeued, and why others were not."""

    requeued: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


@click.command()
@click.argument("ids", nargs=-1)
@click.option("-a", "--all", "all_failed", is_flag=True, help="All failed jobs.")
@click.option(
    "--queue",
    metavar="QUEUE",
    help="Of this queue only; without it, of all queues.",
    shell_complete=complete_queues,
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@config_options
@click.pass_context
def requeue(
    ctx: click.Context,
    config: Config,
    ids: tuple[str, ...],
    all_failed: bool,
    queue: str | None,
    as_json: bool,
) -> None:
    """Run the jobs IDS again, or with --all every job that has failed; their attempts start from zero.

    A canceled, stopped, expired or finished job can be named too. Those that cannot be requeued are named
    on stderr, and the exit code is 1.
    """
    if all_failed == bool(ids):
        raise click.UsageError("give either the IDs of jobs or --all")
    store = open_store(config)
    if queue is not None:
        named_queues(store, [queue])
    done = _requeue_failed(store, queue) if all_failed else _requeue_named(store, ids, queue)
    for job_id, reason in done.refused.items():
        click.echo(f"minirq: job {safe_text(job_id)} was not requeued: {safe_text(reason)}", err=True)
    if as_json:
        refused = [{"id": job_id, "reason": reason} for job_id, reason in done.refused.items()]
        click.echo(json.dumps({"requeued": done.requeued, "refused": refused}))
    else:
        click.echo(_summary(len(done.requeued)))
    ctx.exit(1 if done.refused else 0)


def _summary(count: int) -> str:
    if not count:
        return "Nothing was requeued."
    return f"Requeued {count:,} {'job' if count == 1 else 'jobs'}."


def _requeue_named(store: Store, ids: tuple[str, ...], queue: str | None) -> _Done:
    done = _Done()
    wanted = list(dict.fromkeys(ids))
    found = store.sender.run(queries.find(store.keys, wanted, queue))
    places: dict[str, list[str]] = {}
    names = store.sender.send(queries.queue_names(store.keys)) if queue is None else [queue]
    for job_id, where in zip(wanted, found, strict=True):
        if where is None and (name := _set_aside_in(store, names, job_id)):
            places.setdefault(name, []).append(job_id)
        elif where is None:
            done.refused[job_id] = _reason("") + ("" if queue is None else f" in queue {queue}")
        else:
            places.setdefault(where.queue, []).append(job_id)
    for name, mine in places.items():
        for job_id, outcome in _send(store, name, mine):
            if outcome == "requeued":
                done.requeued.append(job_id)
            else:
                done.refused[job_id] = _reason(outcome)
    return done


def _set_aside_in(store: Store, names: list[str], job_id: str) -> str | None:
    """The queue in which a job without a record is set aside: its key was broken, and has been deleted."""
    scores = store.sender.send_all(
        [queries.index_score(store.keys.of(name), "unknown", job_id) for name in names]
    )
    return next((name for name, score in zip(names, scores, strict=True) if score is not None), None)


def _requeue_failed(store: Store, queue: str | None) -> _Done:
    done = _Done()
    names = store.sender.send(queries.queue_names(store.keys)) if queue is None else [queue]
    for name in filter(queries.can_be_key, names):
        # those that have failed by now: one that fails again meanwhile is not requeued twice
        failed = store.sender.send(queries.index_ids(store.keys.of(name), JobStatus.FAILED))
        for job_id, outcome in _send(store, name, failed):
            if outcome == "requeued":
                done.requeued.append(job_id)
            elif outcome == "payload":
                done.refused[job_id] = _reason(outcome)
            # else: gone, or requeued by somebody else
    return done


def _send(store: Store, queue: str, ids: list[str]) -> Iterator[tuple[str, str]]:
    keys = store.keys.of(queue)
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        yield from zip(
            chunk,
            store.sender.send_all([commands.requeue(keys, job_id) for job_id in chunk]),
            strict=True,
        )


def _reason(outcome: str) -> str:
    match outcome:
        case "":
            return "there is no such job"
        case "payload":
            return "its arguments were not kept"
    return f"it is {outcome}"
