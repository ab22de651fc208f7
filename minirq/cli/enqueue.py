"""`minirq enqueue`: a job from the command line."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from datetime import datetime
from typing import Any

import click

from minirq.cli.arguments import BadArgument, parse_arguments
from minirq.cli.options import CountType, DurationType, complete_queues, config_options, open_store
from minirq.client.store import Store
from minirq.connection import Config
from minirq.exceptions import InvalidOption, MinirqError
from minirq.inspect.overview import overview
from minirq.job import Job
from minirq.protocol.record import ENDED
from minirq.protocol.submission import OnWorkerLost, loss_limit
from minirq.queue import Queue
from minirq.retry import Retry
from minirq.text import safe_repr, safe_text, shell_word

_SPAN = DurationType()
_UNLIMITED_SPAN = DurationType(allow_unlimited=True)


class _WrongArgument(click.ClickException):
    exit_code = 2


class _TimeType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """A time in ISO 8601."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time, or say what is wrong with the value."""
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{safe_repr(value)} is no time: write 2030-12-31T09:00, or 2030-12-31T09:00Z", param, ctx
            )


class _LossType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """`retry`, `fail`, or a number."""

    name = "retry|fail|number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> OnWorkerLost:
        """Return what `Queue.enqueue` takes, or say what is wrong with the value."""
        choice: OnWorkerLost = int(value) if str(value).isdecimal() else value
        try:
            loss_limit(choice)
        except InvalidOption as error:
            self.fail(str(error), param, ctx)
        return choice


@click.command()
@click.argument("function")
@click.argument("args", nargs=-1)
@click.option(
    "-q", "--queue", default="default", show_default=True, metavar="QUEUE", shell_complete=complete_queues
)
@click.option("--timeout", type=_UNLIMITED_SPAN, help="How long a run may take (3 min); -1 no limit.")
@click.option("--result-ttl", type=_UNLIMITED_SPAN, help="How long the result is kept (500 s); -1 for ever.")
@click.option("--ttl", type=_SPAN, help="Not started by then, it has expired.")
@click.option("--failure-ttl", type=_UNLIMITED_SPAN, help="How long a failure is kept (30 d); -1 for ever.")
@click.option("--description", metavar="TEXT", help="For people; the name of the function without it.")
@click.option("--job-id", metavar="ID", help="If it lives already, it is left alone.")
@click.option("--at-front", is_flag=True, help="Before the jobs that wait.")
@click.option("--retry-max", type=CountType(0, 1_000_000), default=0, help="Retries after failures.")
@click.option(
    "--retry-interval", type=_SPAN, multiple=True,
    help="Wait before a retry; repeatable, one for each retry, of which the last repeats.",
)  # fmt: skip
@click.option(
    "--on-worker-lost", type=_LossType(),
    help="When its process dies: retry (up to 2 more runs), fail, or how many more runs.",
)  # fmt: skip
@click.option("--in", "delay", type=_SPAN, help="Not before so long from now, as in 10m.")
@click.option(
    "--at", "time", type=_TimeType(), help="Not before this time (ISO 8601), local without an offset."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--quiet", is_flag=True, help="Print the id of the job and nothing else.")
@config_options
def enqueue(
    config: Config, /, function: str, args: tuple[str, ...], as_json: bool, quiet: bool, **given: Any
) -> None:
    """Enqueue a call of FUNCTION, the dotted name of a function that workers can import.

    ARGS are text, or say what they are. A value that begins with @ names a file that it is read from:

    \b
      text   :JSON   %LITERAL   k=text   k:=JSON   k%=LITERAL   @FILE   k:=@FILE

    What begins with a dash goes after "--".
    """
    try:
        positional, keywords = parse_arguments(args)
    except BadArgument as error:
        raise _WrongArgument(str(error)) from None
    options = {"args": positional, "kwargs": keywords, **_options(given)}
    store = open_store(config)
    queue = Queue(given["queue"], store.client, namespace=config.namespace)
    is_left_alone = given["job_id"] is not None and _lives(queue, given["job_id"])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        job = _enqueued(queue, function, given, options)
    for warning in warned:
        click.echo(f"Warning: {safe_text(str(warning.message), 500)}", err=True)
    if quiet:
        click.echo(job.id)
    elif as_json:
        facts = {"id": job.id, "queue": queue.name, "func": function, "is_new": not is_left_alone}
        click.echo(json.dumps(facts))
    elif is_left_alone:
        click.echo(f"Job {job.id} lives already and was left alone.")
        click.echo(f"See how it fares:  minirq job {shell_word(job.id, 'ID')}")
    else:
        click.echo(f"Enqueued {safe_text(function)} in queue {queue.name} as {job.id}")
        click.echo(_next(store, queue, job))


def _enqueued(queue: Queue, function: str, given: dict[str, Any], options: dict[str, Any]) -> Job[Any]:
    if given["time"] is not None:
        return queue.enqueue_at(given["time"], function, **options)
    if given["delay"] is not None:
        return queue.enqueue_in(given["delay"], function, **options)
    return queue.enqueue(function, **options)


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """The keywords of `Queue.enqueue`. Raises UsageError for what makes no sense together."""
    is_delayed = given["delay"] is not None or given["time"] is not None
    if given["delay"] is not None and given["time"] is not None:
        raise click.UsageError("--in and --at exclude each other")
    if given["at_front"] and is_delayed:
        raise click.UsageError("--at-front is for now: it goes with neither --in nor --at")
    if given["retry_interval"] and not given["retry_max"]:
        raise click.UsageError("--retry-interval needs --retry-max")
    retry = Retry(given["retry_max"], list(given["retry_interval"]) or 0) if given["retry_max"] else None
    names = ("result_ttl", "ttl", "failure_ttl", "description", "job_id", "at_front", "on_worker_lost")
    return {"job_timeout": given["timeout"], "retry": retry, **{name: given[name] for name in names}}


def _lives(queue: Queue, job_id: str) -> bool:
    job = queue.fetch_job(job_id)
    return job is not None and job.get_status(refresh=False) not in ENDED


def _next(store: Store, queue: Queue, job: Job[Any]) -> str:
    """What to type next."""
    with suppress(
        MinirqError
    ):  # the job is there; that nobody can be looked for must not look like a failure
        if overview(store, [queue.name]).workers:
            return f"See how it fares:  minirq job {shell_word(job.id, 'ID')}"
        return f"No worker serves the queue: start one with  minirq worker {shell_word(queue.name, 'QUEUE')}"
    return f"See how it fares:  minirq job {shell_word(job.id, 'ID')}"
