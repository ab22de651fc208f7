"""`minirq info`: how queues and workers fare, as a table or for programs."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import click

from minirq.cli.options import DurationType, complete_queues, config_options, named_queues, open_store
from minirq.cli.table import Cell, layout
from minirq.client.store import Store
from minirq.connection import Config, safe_url
from minirq.durations import span
from minirq.exceptions import ServerUnavailable
from minirq.inspect.overview import LATE_BEAT, Overview, QueueView, WorkerView, overview
from minirq.protocol.defaults import MOST_FINISHED
from minirq.text import safe_text

#: from this width on, host and pid are shown too
_WIDE = 110
#: lines that say what a worker is busy with, at most
_MOST_BUSY = 10
#: for the names of queues in what to type next, characters
_ROOM_FOR_WORDS = 30


@dataclass(frozen=True, slots=True)
class _View:
    """What is asked to be shown."""

    queues: bool = True
    workers: bool = True
    by_queue: bool = False
    width: int = 80


@click.command()
@click.argument("queues", nargs=-1, shell_complete=complete_queues)
@click.option("-i", "--interval", type=DurationType(0.1), help="Show it anew every so often, until Ctrl-C.")
@click.option("-R", "--by-queue", is_flag=True, help="List the workers of each queue.")
@click.option("-Q", "--only-queues", is_flag=True, help="Leave the workers out.")
@click.option("-W", "--only-workers", is_flag=True, help="Leave the queues out.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one object a line.")
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
    """Show QUEUES, or all queues, and the workers that serve them. It changes nothing.

    OLDEST is how long the job that runs next has waited; BUSY how many jobs run, of how many could. DONE
    counts runs that have ended, FAILED those of them that failed: one job has several if it is retried. What
    workers are busy with is as of their last beat, some seconds ago.
    """
    if only_queues and only_workers:
        raise click.UsageError("--only-queues and --only-workers exclude each other")
    view = _View(not only_workers, not only_queues, by_queue)
    store = open_store(config, starts_server=False)
    if queues:
        named_queues(store, queues)
    if interval is None:
        click.echo(_shown(store, queues, view, as_json))
        return
    try:
        while True:
            _redraw(store, queues, view, as_json)
            time.sleep(interval)
    except KeyboardInterrupt:  # the way to end it
        return


def _redraw(store: Store, queues: tuple[str, ...], view: _View, as_json: bool) -> None:
    try:
        text = _shown(store, queues, view, as_json)
    except ServerUnavailable as error:  # it may come back
        if as_json:
            raise
        text = f"minirq: {error}"
    if not as_json:
        text += f"\n\n{datetime.now():%H:%M:%S}  {safe_url(store.client)}"
        if sys.stdout.isatty():
            click.clear()
    click.echo(text)


def _shown(store: Store, queues: tuple[str, ...], view: _View, as_json: bool) -> str:
    seen = overview(store, queues or None)
    if as_json:
        asked = {"at", *(["queues"] if view.queues else []), *(["workers"] if view.workers else [])}
        return json.dumps({key: value for key, value in seen.to_json().items() if key in asked})
    # what goes into a pipe is not cut to the width of a terminal
    width = shutil.get_terminal_size((200, 24)).columns
    return "\n".join(_lines(seen, _View(view.queues, view.workers, view.by_queue, width)))


def _lines(seen: Overview, view: _View) -> Iterator[str]:
    if view.queues:
        yield from _queue_lines(seen, view.width)
    if view.queues and view.workers:
        yield ""
    if view.workers:
        yield from _by_queue(seen) if view.by_queue else _worker_lines(seen, view.width)


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
        until = (
            f"{queue.paused_until.astimezone():%Y-%m-%d %H:%M:%S}" if queue.paused_until else "it is resumed"
        )
        yield click.style(f"  paused until {until}", fg="yellow")
    others = {
        "deferred": queue.deferred,
        "canceled": queue.canceled,
        "stopped": queue.stopped,
        "expired": queue.expired,
    }
    if queue.unknown:
        yield click.style(f"  {queue.unknown:,} set aside: minirq doctor says which", fg="red")
    if any(others.values()):
        yield "  " + ", ".join(f"{count:,} {state}" for state, count in others.items() if count)


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
        yield click.style(f"  not heard of for {span(worker.silence(at))}", fg="yellow")
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
    """What to type where nobody works."""
    served = {name for worker in seen.workers for name in worker.queues if worker.serves(name)}
    waiting = [queue.name for queue in seen.queues if queue.waiting and queue.name not in served]
    if not seen.workers:
        yield f"No workers: start one with  minirq worker {_words(waiting or ['default'])}"
    elif waiting:
        yield ""
        yield f"Jobs wait where no worker serves: start one with  minirq worker {_words(waiting)}"


def _words(names: list[str]) -> str:
    """As many names as fit on the line, of those that a shell takes as they are."""
    words = ""
    for name in names:
        if name == shlex.quote(name) and len(words) + len(name) < _ROOM_FOR_WORDS:
            words += f"{name} "
    return words.rstrip() or "QUEUE"
