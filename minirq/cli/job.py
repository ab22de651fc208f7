"""A job as it is found in Redis for somebody to look at. Finding it changes nothing and runs no user code.

`minirq job`: all that is known of one job.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from minirq.cli.options import config_options, open_store
from minirq.cli.table import moment, plain
from minirq.client.store import Store
from minirq.connection import Config
from minirq.durations import exact_span
from minirq.exceptions import DeserializationError, MinirqError, NoSuchJobError
from minirq.job import Job
from minirq.protocol import payload, queries
from minirq.protocol.keys import QueueKeys
from minirq.protocol.payload import JobOptions, Payload
from minirq.protocol.queries import Found, Steps
from minirq.protocol.record import ENDED, Failure, JobStatus, Record
from minirq.text import safe_block, safe_repr, safe_text


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job, and what Redis says of it at `now`.

    `position` is its place in the queue, 0 runs next. `leaves_at` is when it is due or forgotten, None is
    never. `envelope` is None if its payload was not kept or cannot be read.
    """

    job: Job[Any]
    record: Record
    envelope: Payload | None
    errors: list[Failure]
    position: int | None
    leaves_at: datetime | None
    now: datetime


def find_job(store: Store, job_id: str) -> FoundJob:
    """Find a job in any queue. While it waits, its place is searched for. Raises NoSuchJobError."""
    [found] = store.sender.run(queries.find(store.keys, [job_id]))
    if found is None:
        raise NoSuchJobError(
            f"no job has the id {safe_text(job_id)!r}: it never existed, or its record has expired"
        )
    keys = store.keys.of(found.queue)
    position, raw = store.sender.run(_whereabouts(keys, job_id, found))
    calls: list[Any] = [
        queries.server_time(),
        queries.errors(keys, job_id),
        queries.index_score(keys, str(found.record.status), job_id),
    ]
    now_ms, errors, leaves_ms = store.sender.send_all(calls)
    return FoundJob(
        job=Job(job_id, store, found.queue, found.record, raw),
        record=found.record,
        envelope=_envelope(raw),
        errors=errors,
        position=position,
        leaves_at=_time(leaves_ms),
        now=datetime.fromtimestamp(now_ms / 1000, UTC),
    )


def _whereabouts(keys: QueueKeys, job_id: str, found: Found) -> Steps[tuple[int | None, bytes | None]]:
    if found.record.status != JobStatus.QUEUED:
        raw = yield from queries.find_payload(keys, job_id, found.record)
        return None, raw
    waiting = yield from queries.locate(keys, job_id)
    return (waiting.position, waiting.payload) if waiting else (None, None)


def _envelope(raw: bytes | None) -> Payload | None:
    try:
        return None if raw is None else payload.decode(raw)
    except DeserializationError:
        return None


def _time(ms: float | None) -> datetime | None:
    try:
        return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):  # +inf: kept for ever
        return None


#: longest argument, result or entry of meta that is shown to people, characters
_LONGEST = 200
_INDENT = " " * 14


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--args", "with_args", is_flag=True, help="Show arguments and result: they may hold secrets.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@config_options
def job(config: Config, job_id: str, with_args: bool, as_json: bool) -> None:
    """Show what is known of the job ID: how it fares, where it is, what went wrong.

    It changes nothing and runs no code of the application.
    """
    found = find_job(open_store(config, starts_server=False), job_id)
    if as_json:
        click.echo(json.dumps(_facts(found, with_args)))
    else:
        click.echo("\n".join(_lines(found, with_args)))


# --- for people -------------------------------------------------------------------------------


def _lines(found: FoundJob, with_args: bool) -> Iterator[str]:
    for name, value in _rows(found, with_args):
        if value:
            yield f"{name:<{len(_INDENT)}}{value}"
    for number, failure in enumerate(found.errors):
        yield ""
        yield from _failure_lines(failure, found.now, with_traceback=number == 0)
    if hint := _hint(found):
        yield ""
        yield hint


def _rows(found: FoundJob, with_args: bool) -> Iterator[tuple[str, str]]:
    record, now = found.record, found.now
    yield "job", safe_text(found.job.id, 1000)
    yield "status", _status(found)
    yield "queue", safe_text(found.job.origin)
    yield "function", safe_text(_function(found) or "not on record")
    if found.envelope and found.envelope.options.description:
        yield "description", safe_text(found.envelope.options.description)
    for name, when in _times(found).items():
        yield name.partition("_")[0], moment(when, now) if when else ""
    if found.leaves_at and record.status in ENDED:
        yield "kept until", moment(found.leaves_at, now)
    yield "attempts", f"{record.attempts}" + (f", {record.lost} lost with their process" * (record.lost > 0))
    yield "worker", safe_text(found.job.worker_name or "")
    if found.envelope:
        yield "limits", _limits(found.envelope.options)
    yield "meta", _shown(lambda: found.job.meta or None)
    if with_args:
        yield "arguments", _shown(lambda: list(found.job.args))
        yield "keywords", _shown(lambda: found.job.kwargs)
        yield "result", _shown(lambda: found.job.return_value(refresh=False))


def _status(found: FoundJob) -> str:
    color = "red" if found.record.status == JobStatus.FAILED else None
    status = click.style(safe_text(str(found.record.status)), fg=color)
    if found.position is not None:
        return f"{status}, {'next to run' if found.position == 0 else f'{found.position:,} before it'}"
    if found.record.status == JobStatus.SCHEDULED and found.leaves_at:
        return f"{status} for {moment(found.leaves_at, found.now)}"
    return status + (", asked to stop" if found.record.is_asked_to_stop else "")


def _limits(options: JobOptions) -> str:
    timeout = "no timeout" if options.timeout == -1 else f"timeout {exact_span(options.timeout)}"
    kept = [
        f"{what} kept {'for ever' if ttl == -1 else exact_span(ttl)}"
        for what, ttl in (("result", options.result_ttl), ("failure", options.failure_ttl))
    ]
    return ", ".join([timeout, *kept])


def _failure_lines(failure: Failure, now: datetime, *, with_traceback: bool) -> Iterator[str]:
    when = moment(failure.at, now) if failure.at else "at an unknown time"
    by = f" on {safe_text(failure.worker)}" if failure.worker else ""
    yield f"{safe_text(failure.kind)} {when}{by}"
    yield f"  {safe_text(failure.summary, 1000)}"
    if with_traceback and failure.traceback:
        yield from (f"  {line}" for line in safe_block(failure.traceback).split("\n"))


def _hint(found: FoundJob) -> str:
    """What to type next. An id that a shell or a terminal might take for something else is not repeated."""
    status, job_id = found.record.status, found.job.id
    if status not in (JobStatus.FAILED, JobStatus.CANCELED, JobStatus.STOPPED, JobStatus.EXPIRED):
        return ""
    if found.envelope is None:
        return "It cannot be run again: its arguments were not kept."
    # "--" for an id that begins with a dash
    words = (["--"] if job_id.startswith("-") else []) + [job_id]
    return f"Run it again:  minirq requeue {shlex.join(words)}" if safe_text(job_id, 1000) == job_id else ""


def _shown(read: Callable[[], Any]) -> str:
    try:
        value = read()
    except MinirqError as error:  # it was not kept, or cannot be read without running code
        return f"({safe_text(str(error), 500)})"
    return "" if value is None else safe_repr(value, _LONGEST)


# --- for programs -----------------------------------------------------------------------------


def _facts(found: FoundJob, with_args: bool) -> dict[str, Any]:
    record, envelope = found.record, found.envelope
    facts: dict[str, Any] = {
        "id": found.job.id,
        "status": str(record.status),
        "queue": found.job.origin,
        "func": _function(found),
        "description": envelope.options.description if envelope else None,
        **{name: _iso(when) for name, when in _times(found).items()},
        "due_at": _iso(found.leaves_at) if record.status == JobStatus.SCHEDULED else None,
        "kept_until": _iso(found.leaves_at) if record.status in ENDED else None,
        "position": found.position,
        "attempts": record.attempts,
        "lost": record.lost,
        "worker": found.job.worker_name,
        "timeout": envelope.options.timeout if envelope else None,
        "result_ttl": envelope.options.result_ttl if envelope else None,
        "failure_ttl": envelope.options.failure_ttl if envelope else None,
        "is_asked_to_stop": record.is_asked_to_stop,
        "meta": _read(lambda: found.job.meta),
        "errors": [_failure_facts(failure) for failure in found.errors],
    }
    if with_args:
        facts["args"] = _read(lambda: list(found.job.args))
        facts["kwargs"] = _read(lambda: found.job.kwargs)
        facts["result"] = _read(lambda: found.job.return_value(refresh=False))
    return facts


def _failure_facts(failure: Failure) -> dict[str, Any]:
    return {
        "at": _iso(failure.at),
        "kind": failure.kind,
        "type": failure.exc_type,
        "message": failure.message,
        "traceback": failure.traceback,
        "worker": failure.worker,
    }


def _read(read: Callable[[], Any]) -> Any:
    try:
        return plain(read())
    except MinirqError:
        return None


# --- for both ---------------------------------------------------------------------------------


def _function(found: FoundJob) -> str:
    return found.record.function or (found.envelope.function if found.envelope else "")


def _times(found: FoundJob) -> dict[str, datetime | None]:
    record = found.record
    return {
        "created_at": record.created_at,
        "enqueued_at": record.enqueued_at,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "expires_at": record.expires_at if record.status not in (*ENDED, JobStatus.STARTED) else None,
    }


def _iso(when: datetime | None) -> str | None:
    return when.isoformat(timespec="milliseconds") if when else None
