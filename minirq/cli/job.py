"""`minirq job` and `minirq explain`: what is known of one job, and why it does not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from minirq.cli.options import config_options, open_store
from minirq.cli.table import json_line, moment, plain
from minirq.connection import Config
from minirq.durations import exact_span
from minirq.exceptions import MinirqError
from minirq.inspect import explain as explaining
from minirq.inspect.job_report import JobReport, report
from minirq.protocol.payload import JobOptions
from minirq.protocol.record import ENDED, Failure, JobStatus
from minirq.text import safe_block, safe_repr, safe_text, shell_word

#: longest argument, result or entry of meta that is shown to people, characters
_LONGEST = 200
_INDENT = " " * 14
#: options in the payload that --json shows
_OPTIONS = ("description", "timeout", "result_ttl", "failure_ttl")


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--args", "with_args", is_flag=True, help="Show arguments and result: they may hold secrets.")
@config_options
def job(config: Config, job_id: str, with_args: bool, as_json: bool) -> None:
    """Show the job with this ID: its status, times, limits and errors.

    This changes nothing and runs no code of the application.
    """
    found = report(open_store(config, starts_server=False), job_id)
    if as_json:
        click.echo(json_line(_facts(found, with_args)))
    else:
        click.echo("\n".join(_lines(found, with_args)))


@click.command()
@click.argument("job_id", metavar="ID")
@config_options
def explain(config: Config, job_id: str, as_json: bool) -> None:
    """Say why the job with this ID does not run, and what to do about it.

    This changes nothing and runs no code of the application.
    """
    found = explaining.explain(open_store(config, starts_server=False), job_id)
    if as_json:
        click.echo(json_line(found))
        return
    call = f" ({safe_text(found.func)})" if found.func else ""
    click.echo(
        f"Job {safe_text(found.id)}{call} is {safe_text(found.status)} in queue {safe_text(found.queue)}."
    )
    for reason in found.reasons:
        click.echo(reason.text)
        if reason.advice:
            click.echo(f"  {reason.advice}")


# --- for people -------------------------------------------------------------------------------


def _lines(found: JobReport, with_args: bool) -> Iterator[str]:
    for name, value in _rows(found, with_args):
        if value:
            yield f"{name:<{len(_INDENT)}}{value}"
    for number, failure in enumerate(found.errors):
        yield ""
        yield from _failure_lines(failure, found.now, with_traceback=number == 0)
    if hint := _hint(found):
        yield ""
        yield hint


def _rows(found: JobReport, with_args: bool) -> Iterator[tuple[str, str]]:
    job, record, now = found.job, found.record, found.now
    options = found.envelope.options if found.envelope else None
    yield "job", safe_text(job.id, 1000)
    yield "status", _status(found)
    yield "queue", safe_text(job.origin)
    yield "function", safe_text(found.function or "not on record")
    yield "description", safe_text(options.description or "") if options else ""
    for name, when in _times(found).items():
        yield name.partition("_")[0], moment(when, now) if when else ""
    if found.leaves_at and record.status in ENDED:
        yield "kept until", moment(found.leaves_at, now)
    yield "attempts", f"{record.attempts}" + (f", {record.lost} lost with their process" * (record.lost > 0))
    yield "worker", safe_text(job.worker_name or "")
    yield "limits", _limits(options) if options else ""
    yield "meta", _shown(lambda: job.meta or None)
    if with_args:
        yield "arguments", _shown(lambda: list(job.args))
        yield "keywords", _shown(lambda: job.kwargs)
        yield "result", _shown(lambda: job.return_value(refresh=False))


def _status(found: JobReport) -> str:
    record = found.record
    status = click.style(safe_text(str(record.status)), fg="red" if record.status == "failed" else None)
    if found.position is not None:
        return f"{status}, {'next to run' if found.position == 0 else f'{found.position:,} before it'}"
    if record.status == JobStatus.SCHEDULED and found.leaves_at:
        return f"{status} for {moment(found.leaves_at, found.now)}"
    return status + (", asked to stop" if record.is_asked_to_stop else "")


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


def _hint(found: JobReport) -> str:
    """What to type next. An id that a shell or a terminal might take for something else is not repeated."""
    status, job_id = found.record.status, found.job.id
    if status not in ENDED or status == JobStatus.FINISHED:
        return ""
    if found.envelope is None:
        return "It cannot be run again: its arguments were not kept."
    word = shell_word(job_id, "")
    return f"Run it again:  minirq requeue {word}" if word else ""


def _shown(read: Callable[[], Any]) -> str:
    try:
        value = read()
    except MinirqError as error:  # it was not kept, or cannot be read without running code
        return f"({safe_text(str(error), 500)})"
    return "" if value is None else safe_repr(value, _LONGEST)


# --- for programs -----------------------------------------------------------------------------


def _facts(found: JobReport, with_args: bool) -> dict[str, Any]:
    job, record = found.job, found.record
    options = found.envelope.options if found.envelope else None
    facts: dict[str, Any] = {
        "id": job.id,
        "status": str(record.status),
        "queue": job.origin,
        "func": found.function,
        **{name: getattr(options, name, None) for name in _OPTIONS},
        **_times(found),
        "due_at": found.leaves_at if record.status == JobStatus.SCHEDULED else None,
        "kept_until": found.leaves_at if record.status in ENDED else None,
        "position": found.position,
        "attempts": record.attempts,
        "lost": record.lost,
        "worker": job.worker_name,
        "is_asked_to_stop": record.is_asked_to_stop,
        "meta": _read(lambda: job.meta),
        "errors": [_error_facts(failure) for failure in found.errors],
    }
    if with_args:
        facts["args"] = _read(lambda: list(job.args))
        facts["kwargs"] = _read(lambda: job.kwargs)
        facts["result"] = _read(lambda: job.return_value(refresh=False))
    return facts


def _error_facts(failure: Failure) -> dict[str, Any]:
    facts = asdict(failure)
    facts["type"] = facts.pop("exc_type")
    return facts


def _read(read: Callable[[], Any]) -> Any:
    try:
        return plain(read())
    except MinirqError:
        return None


# --- for both ---------------------------------------------------------------------------------


def _times(found: JobReport) -> dict[str, datetime | None]:
    record = found.record
    return {
        "created_at": record.created_at,
        "enqueued_at": record.enqueued_at,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "expires_at": record.expires_at if record.status not in (*ENDED, JobStatus.STARTED) else None,
    }
