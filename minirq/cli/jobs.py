"""`minirq requeue` and `minirq cancel`: run ended jobs again, keep jobs from running.

Both take ids, do what they can, name on stderr what they could not do, and exit with 1 then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from minirq.cli.options import chosen_queues, complete_queues, config_options, open_store
from minirq.cli.table import json_line
from minirq.client.store import Store
from minirq.connection import Config
from minirq.protocol import commands, queries
from minirq.protocol.record import ENDED, JobStatus
from minirq.text import counted, safe_text

#: jobs that are requeued in one round trip
CHUNK = 500

_queue_option = click.option(
    "--queue", metavar="QUEUE", help="Look in this queue only.", shell_complete=complete_queues
)

#: an id, and what came of requeueing it: "requeued", "payload" (not kept), "" (no such job), or its status
Outcome = tuple[str, str]


@click.command()
@click.argument("ids", nargs=-1, required=True)
@_queue_option
@config_options
def cancel(config: Config, ids: tuple[str, ...], queue: str | None, as_json: bool) -> None:
    """Cancel the jobs IDS. Their records are kept, and `minirq requeue` runs them again.

    A running job is interrupted, and killed if it does not stop. Jobs that do not exist or have ended are
    named on stderr, and the exit code is 1.
    """
    store = open_store(config)
    if queue is not None:
        chosen_queues(store, [queue])
    wanted = list(dict.fromkeys(ids))
    canceled: dict[str, str] = {}
    refused: dict[str, str] = {}
    for job_id, found in zip(wanted, store.sender.run(queries.find(store.keys, wanted, queue)), strict=True):
        status = store.sender.run(queries.cancel(store.keys.of(found.queue), job_id)) if found else ""
        if status and status not in ENDED:
            canceled[job_id] = status
        else:
            refused[job_id] = f"it is {status} already" if status else "there is no such job"
    lines = [
        f"Canceled {safe_text(job_id)}" + ": it is running, and is interrupted" * (status == "started")
        for job_id, status in canceled.items()
    ]
    done = [{"id": job_id, "was": status} for job_id, status in canceled.items()]
    _report("canceled", done, lines, refused, as_json)


@click.command()
@click.argument("ids", nargs=-1)
@click.option("-a", "--all", "all_failed", is_flag=True, help="Requeue all failed jobs.")
@_queue_option
@config_options
def requeue(config: Config, ids: tuple[str, ...], all_failed: bool, queue: str | None, as_json: bool) -> None:
    """Run the jobs IDS again, or with --all every failed job. Their attempts start from zero.

    IDS may also name canceled, stopped, expired and finished jobs. Jobs that cannot be requeued are named
    on stderr, and the exit code is 1.
    """
    if all_failed == bool(ids):
        raise click.UsageError("give either the IDs of jobs or --all")
    store = open_store(config)
    names = chosen_queues(store, () if queue is None else (queue,))
    outcomes = _requeue_failed(store, names) if all_failed else _requeue_named(store, names, ids, queue)
    where = "" if queue is None else f" in queue {queue}"
    reasons = {"": f"there is no such job{where}", "payload": "its arguments were not kept"}
    done = [job_id for job_id, outcome in outcomes if outcome == "requeued"]
    refused = {
        job_id: reasons.get(outcome, f"it is {outcome}")
        for job_id, outcome in outcomes
        if outcome != "requeued"
    }
    line = f"Requeued {counted(len(done), 'job', 'jobs')}." if done else "Nothing was requeued."
    _report("requeued", done, [line], refused, as_json)


def _report(
    what: str, done: Sequence[object], lines: Iterable[str], refused: dict[str, str], as_json: bool
) -> None:
    """Print what was done and what was refused, and exit with 1 if anything was."""
    for job_id, reason in refused.items():
        click.echo(f"minirq: job {safe_text(job_id)} was not {what}: {safe_text(reason)}", err=True)
    if as_json:
        left = [{"id": job_id, "reason": reason} for job_id, reason in refused.items()]
        click.echo(json_line({what: done, "refused": left}))
    else:
        for line in lines:
            click.echo(line)
    click.get_current_context().exit(1 if refused else 0)


def _requeue_named(store: Store, names: list[str], ids: Sequence[str], queue: str | None) -> list[Outcome]:
    wanted = list(dict.fromkeys(ids))
    outcomes: list[Outcome] = []
    places: dict[str, list[str]] = {}
    for job_id, found in zip(wanted, store.sender.run(queries.find(store.keys, wanted, queue)), strict=True):
        if name := found.queue if found else _set_aside_in(store, names, job_id):
            places.setdefault(name, []).append(job_id)
        else:
            outcomes.append((job_id, ""))
    for name, mine in places.items():
        outcomes += _requeue(store, name, mine)
    return outcomes


def _set_aside_in(store: Store, names: list[str], job_id: str) -> str | None:
    """The queue in which a job without a record is set aside: its key was broken, and has been deleted."""
    scores = store.sender.send_all(
        [queries.index_score(store.keys.of(name), "unknown", job_id) for name in names]
    )
    return next((name for name, score in zip(names, scores, strict=True) if score is not None), None)


def _requeue_failed(store: Store, names: list[str]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for name in names:
        # listed before the first is requeued: one that fails again is not requeued twice
        failed = store.sender.send(queries.index_ids(store.keys.of(name), JobStatus.FAILED))
        outcomes += _requeue(store, name, failed)
    # the others are gone, or somebody else has requeued them
    return [(job_id, outcome) for job_id, outcome in outcomes if outcome in ("requeued", "payload")]


def _requeue(store: Store, queue: str, ids: list[str]) -> list[Outcome]:
    keys = store.keys.of(queue)
    outcomes: list[Outcome] = []
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        answers = store.sender.send_all([commands.requeue(keys, job_id) for job_id in chunk])
        outcomes += zip(chunk, answers, strict=True)
    return outcomes
