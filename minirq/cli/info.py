"""`minirq info` and `minirq doctor`: tables of the queues and the workers, and what is wrong with them."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import click

from minirq.cli.options import chosen_queues, complete_queues, config_options, duration, open_store
from minirq.cli.table import Cell, json_line, layout
from minirq.client.store import Store
from minirq.connection import Config, safe_url
from minirq.durations import span
from minirq.exceptions import ServerUnavailable
from minirq.inspect.health import look
from minirq.inspect.overview import LATE_BEAT, Overview, QueueView, WorkerView, overview
from minirq.protocol.defaults import MOST_FINISHED
from minirq.text import safe_text

#: from this width on, host and pid are shown too
_WIDE = 110
#: running jobs that are listed below a worker
_MOST_BUSY = 10
#: room for names of queues in a command to type, characters
_ROOM_FOR_WORDS = 30


@dataclass(frozen=True, slots=True)
class _View:
    """What to show, from the options."""

    names: tuple[str, ...]
    queues: bool
    workers: bool
    by_queue: bool
    as_json: bool


@click.command()
@click.argument("queues", nargs=-1, shell_complete=complete_queues)
@click.option("-i", "--interval", type=duration(0.1), help="Refresh at this interval until Ctrl-C.")
@click.option("-R", "--by-queue", is_flag=True, help="List the workers of each queue.")
@click.option("-Q", "--only-queues", is_flag=True, help="Show only queues.")
@click.option("-W", "--only-workers", is_flag=True, help="Show only workers.")
@config_options
def info(
    config: Config,
    queues: tuple[str, ...],
    interval: float | None,
    by_queue: bool,
    only_queues: bool,
    only_workers: bool,
    as_json: bool,
) -> None:
    """Show QUEUES, or all queues, and their workers. This changes nothing.

    OLDEST is how long the next job has waited. BUSY is how many jobs are running, out of how many can run.
    DONE counts ended runs, FAILED those of them that failed; a job that is retried has several runs. A
    worker's running jobs are those of its last heartbeat, a few seconds ago.
    """
    if only_queues and only_workers:
        raise click.UsageError("give either --only-queues or --only-workers, not both")
    view = _View(queues, not only_workers, not only_queues, by_queue, as_json)
    store = open_store(config, starts_server=False)
    if queues:
        chosen_queues(store, queues)
    if interval is None:
        click.echo(_shown(store, view))
        return
    with suppress(KeyboardInterrupt):  # the way to end it
        while True:
            _redraw(store, view)
            time.sleep(interval)


def _redraw(store: Store, view: _View) -> None:
    try:
        text = _shown(store, view)
    except ServerUnavailable as error:  # it may come back
        if view.as_json:
            raise
        text = f"minirq: {error}"
    if not view.as_json:
        text += f"\n\n{datetime.now().astimezone():%H:%M:%S}  {safe_url(store.client)}"
        if sys.stdout.isatty():
            click.clear()
    click.echo(text)


def _shown(store: Store, view: _View) -> str:
    seen = overview(store, view.names or None)
    if view.as_json:
        queues = {"queues": seen.queues} if view.queues else {}
        workers = {"workers": seen.workers} if view.workers else {}
        return json_line({"at": seen.at, **queues, **workers})
    # what goes into a pipe is not cut to the width of a terminal
    width = shutil.get_terminal_size((200, 24)).columns
    lines = list(_queue_lines(seen, width)) if view.queues else []
    if view.workers:
        lines += [""] if view.queues else []
        lines += _by_queue(seen) if view.by_queue else _worker_lines(seen, width)
    return "\n".join(lines)


# --- queues -----------------------------------------------------------------------------------


def _queue_lines(seen: Overview, width: int) -> Iterator[str]:
    if not seen.queues:
        yield "No queues yet: enqueue a job with  Queue().enqueue(function, arguments)"
        return
    headers = ["QUEUE", "WAITING", "RUNNING", "SCHEDULED", "FAILED", "FINISHED", "OLDEST"]
    header, *lines = layout(headers, [_queue_cells(queue) for queue in seen.queues], texts=[0], width=width)
    yield header
    for queue, line in zip(seen.queues, lines, strict=True):
        yield line
        yield from _queue_notes(queue)


def _queue_cells(queue: QueueView) -> list[Cell]:
    return [
        Cell(queue.name, "yellow" if queue.is_paused else None),
        *(Cell(f"{count:,}") for count in (queue.waiting, queue.running, queue.scheduled)),
        Cell(f"{queue.failed:,}", "red" if queue.failed else None),
        # beyond that only the newest are in the index
        Cell(f"{queue.finished:,}{'+' if queue.finished >= MOST_FINISHED else ''}"),
        Cell("-" if queue.oldest_seconds is None else span(queue.oldest_seconds)),
    ]


def _queue_notes(queue: QueueView) -> Iterator[str]:
    if queue.is_paused:
        yield click.style(f"  paused until {queue.pause_end}", fg="yellow")
    if queue.unknown:
        yield click.style(f"  {queue.unknown:,} set aside: minirq doctor says which", fg="red")
    others = [
        f"{count:,} {state}"
        for state in ("deferred", "canceled", "stopped", "expired")
        if (count := getattr(queue, state))
    ]
    if others:
        yield f"  {', '.join(others)}"


# --- workers ----------------------------------------------------------------------------------


def _worker_lines(seen: Overview, width: int) -> Iterator[str]:
    if seen.workers:
        is_wide = width >= _WIDE
        headers = ["WORKER", "BUSY", "DONE", "FAILED", "UP", "QUEUES"]
        headers[1:1] = ["HOST", "PID"] if is_wide else []
        rows = [_worker_cells(seen, worker, is_wide) for worker in seen.workers]
        texts = [0, 1, len(headers) - 1] if is_wide else [0, len(headers) - 1]
        header, *lines = layout(headers, rows, texts=texts, width=width)
        yield header
        for worker, line in zip(seen.workers, lines, strict=True):
            yield line
            yield from _worker_notes(worker, seen.at, width)
    yield from _unserved(seen)


def _worker_cells(seen: Overview, worker: WorkerView, is_wide: bool) -> list[Cell]:
    up = span((seen.at - worker.started).total_seconds()) if worker.started else "-"
    return [
        Cell(seen.name_of(worker), "yellow" if worker.stopping_since else None),
        *([Cell(worker.host), Cell(str(worker.pid))] if is_wide else []),
        Cell(f"{worker.running:,}/{worker.places:,}"),
        Cell(f"{worker.done:,}"),
        Cell(f"{worker.failed:,}", "red" if worker.failed else None),
        Cell(up),
        Cell(", ".join(worker.queues)),
    ]


def _worker_notes(worker: WorkerView, at: datetime, width: int) -> Iterator[str]:
    if worker.silence(at) >= LATE_BEAT:
        yield click.style(f"  no heartbeat for {span(worker.silence(at))}", fg="yellow")
    if worker.stopping_since:
        stopping = span((at - worker.stopping_since).total_seconds())
        yield click.style(f"  stopping for {stopping}: it takes no new jobs", fg="yellow")
    for job in worker.busy[:_MOST_BUSY]:
        yield safe_text(f"  {span(job.seconds):>6}  {job.func or '?'}  {job.id}  ({job.queue})", width)
    if worker.running > _MOST_BUSY:
        yield f"  and {worker.running - _MOST_BUSY:,} more"


def _by_queue(seen: Overview) -> Iterator[str]:
    for queue in seen.queues:
        serving = [
            f"{safe_text(seen.name_of(worker))} ({_state(worker)})"
            for worker in seen.workers
            if queue.name in worker.queues
        ]
        yield f"{safe_text(queue.name)}: {', '.join(serving) or '-'}"
    yield from _unserved(seen)


def _state(worker: WorkerView) -> str:
    return "stopping" if worker.stopping_since else "busy" if worker.busy else "idle"


def _unserved(seen: Overview) -> Iterator[str]:
    """How to start workers for queues that have none."""
    served = {name for worker in seen.workers for name in worker.queues if worker.serves(name)}
    waiting = [queue.name for queue in seen.queues if queue.waiting and queue.name not in served]
    if not seen.workers:
        yield f"No workers: start one with  minirq worker {_words(waiting or ['default'])}"
    elif waiting:
        yield ""
        yield f"Some queues with waiting jobs have no worker: start one with  minirq worker {_words(waiting)}"


def _words(names: list[str]) -> str:
    """As many names as fit on the line, of those that need no quoting in a shell."""
    words = ""
    for name in names:
        if name == shlex.quote(name) and len(words) + len(name) < _ROOM_FOR_WORDS:
            words += f"{name} "
    return words.rstrip() or "QUEUE"


# --- minirq doctor ----------------------------------------------------------------------------

_COLORS = {"ok": "green", "warn": "yellow", "bad": "red"}


@click.command()
@config_options
@click.pass_context
def doctor(ctx: click.Context, config: Config, as_json: bool) -> None:
    """Check Redis, the workers and the queues, and say what to do about problems. This changes nothing.

    Exits with 1 if anything is bad. If the database has many keys, this takes some seconds.
    """
    store = open_store(config, starts_server=False)
    found = look(store)
    is_bad = any(finding.mark == "bad" for finding in found)
    if as_json:
        click.echo(json_line({"is_bad": is_bad, "findings": found}))
        ctx.exit(int(is_bad))
    click.echo(safe_url(store.client))
    width = max(len(finding.subject) for finding in found)
    for finding in found:
        mark = click.style(f"{finding.mark:<4}", fg=_COLORS[finding.mark])
        click.echo(f"{mark}  {finding.subject:<{width}}  {finding.text}")
        if finding.advice:
            click.echo(f"      {'':<{width}}  {finding.advice}")
    ctx.exit(int(is_bad))
