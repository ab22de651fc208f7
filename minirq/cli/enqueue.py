"""`minirq enqueue`: enqueue a job from the command line.

The syntax of arguments is RQ's:

    text            as it is           name=text          a keyword argument
    :[1, 2]         JSON               name:=[1, 2]
    %(1, {2, 3})    a Python literal   name%={2, 3}

A value that begins with "@" names a file, whose content is read in the same way: ":@points.json".
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from minirq.cli.options import Count, complete_queues, config_options, duration, open_store
from minirq.cli.table import json_line
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

#: longest argument that a message quotes, characters
_LONGEST = 60
_SPAN = duration()
_UNLIMITED_SPAN = duration(allow_unlimited=True)


def _time(value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{safe_repr(value)} is not a time: write 2030-12-31T09:00, or 2030-12-31T09:00Z"
        ) from None


def _on_worker_lost(value: str) -> OnWorkerLost:
    choice: OnWorkerLost = int(value) if value.isdecimal() else value  # type: ignore[assignment]
    try:
        loss_limit(choice)
    except InvalidOption as error:
        raise click.BadParameter(str(error)) from None
    return choice


@click.command()
@click.argument("function")
@click.argument("args", nargs=-1)
@click.option(
    "-q", "--queue", default="default", show_default=True, metavar="QUEUE", shell_complete=complete_queues,
    help="Queue to enqueue the job in.",
)  # fmt: skip
@click.option("--timeout", type=_UNLIMITED_SPAN, help="Stop a run after this long (3 min); -1: never.")
@click.option("--result-ttl", type=_UNLIMITED_SPAN, help="Keep the result this long (500 s); -1: for ever.")
@click.option("--ttl", type=_SPAN, help="Expire the job if it has not started within this time.")
@click.option("--failure-ttl", type=_UNLIMITED_SPAN, help="Keep a failure this long (30 d); -1: for ever.")
@click.option("--description", metavar="TEXT", help="Text to show for the job. Default: the function's name.")
@click.option("--job-id", metavar="ID", help="Id of the job. One that has not ended is left unchanged.")
@click.option("--at-front", is_flag=True, help="Put the job at the front of the queue.")
@click.option("--retry-max", type=Count(0, 1_000_000), default=0, help="Retries after failures.")
@click.option(
    "--retry-interval", type=_SPAN, multiple=True,
    help="Wait this long before a retry; repeatable, one for each retry. The last one repeats.",
)  # fmt: skip
@click.option(
    "--on-worker-lost", type=_on_worker_lost, metavar="retry|fail|N",
    help="If the job's process dies: retry (2 more runs), fail, or N more runs.",
)  # fmt: skip
@click.option("--in", "delay", type=_SPAN, help="Delay, for example 10m.")
@click.option(
    "--at", "time", type=_time, metavar="TIME",
    help="Start time (ISO 8601); local time if it has no offset.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print only the job's id.")
@config_options
def enqueue(
    config: Config, /, function: str, args: tuple[str, ...], as_json: bool, quiet: bool, **given: Any
) -> None:
    """Enqueue a call of FUNCTION, the dotted name of a function that workers can import.

    ARGS are the function's arguments: text, JSON, or a Python literal. @FILE reads the value from a file.

    \b
      positional:  text    :JSON    %LITERAL    @FILE    :@FILE
      keyword:     k=text  k:=JSON  k%=LITERAL  k=@FILE  k:=@FILE

    Put "--" before an argument that begins with a dash.
    """
    positional, keywords = parse_arguments(args)
    options = {"args": positional, "kwargs": keywords, **_options(given)}
    store = open_store(config)
    queue = Queue(given["queue"], store.client, namespace=config.namespace)
    exists = given["job_id"] is not None and _has_not_ended(queue, given["job_id"])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        job = _enqueued(queue, function, given, options)
    for warning in warned:
        click.echo(f"Warning: {safe_text(str(warning.message), 500)}", err=True)
    if quiet:
        click.echo(job.id)
    elif as_json:
        click.echo(json_line({"id": job.id, "queue": queue.name, "func": function, "is_new": not exists}))
    elif exists:
        click.echo(f"Job {job.id} already exists and has not ended; nothing was enqueued.")
        click.echo(_look(job))
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
        raise click.UsageError("give either --in or --at, not both")
    if given["at_front"] and is_delayed:
        raise click.UsageError("--at-front cannot be combined with --in or --at")
    if given["retry_interval"] and not given["retry_max"]:
        raise click.UsageError("--retry-interval needs --retry-max")
    retry = Retry(given["retry_max"], list(given["retry_interval"]) or 0) if given["retry_max"] else None
    names = ("result_ttl", "ttl", "failure_ttl", "description", "job_id", "at_front", "on_worker_lost")
    return {"job_timeout": given["timeout"], "retry": retry, **{name: given[name] for name in names}}


def _has_not_ended(queue: Queue, job_id: str) -> bool:
    job = queue.fetch_job(job_id)
    return job is not None and job.get_status(refresh=False) not in ENDED


def _next(store: Store, queue: Queue, job: Job[Any]) -> str:
    """What to type next."""
    # the job is enqueued: that its queue's workers cannot be read must not look like a failure
    with suppress(MinirqError):
        if not overview(store, [queue.name]).workers:
            word = shell_word(queue.name, "QUEUE")
            return f"No worker serves the queue: start one with  minirq worker {word}"
    return _look(job)


def _look(job: Job[Any]) -> str:
    return f"Check it with:  minirq job {shell_word(job.id, 'ID')}"


# --- arguments --------------------------------------------------------------------------------


class BadArgument(click.ClickException):
    """An argument on the command line cannot be read; the message names it."""

    exit_code = 2


def parse_arguments(words: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and the keyword arguments. Raises BadArgument."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for number, word in enumerate(words, start=1):
        keyword, mode, text = _split(word)
        what = keyword or f"{number} ({safe_text(word, _LONGEST)!r})"
        value = _value(mode, text, f"argument {what}")
        if not keyword:
            args.append(value)
        elif keyword in kwargs:
            raise BadArgument(f"argument {keyword} is given twice")
        else:
            kwargs[keyword] = value
    return args, kwargs


def _split(word: str) -> tuple[str, str, str]:
    """The keyword ("" without one), the mode (":", "%" or ""), and the text."""
    if word[:1] in (":", "%"):
        return "", word[0], word[1:]
    before, equals, text = word.partition("=")
    mode = before[-1:] if before[-1:] in (":", "%") else ""
    keyword = before.removesuffix(mode)
    # a URL with a query is text, and not the value of a keyword that no function could have
    if equals and keyword.isidentifier():
        return keyword, mode, text
    return "", "", word


def _value(mode: str, text: str, what: str) -> Any:
    if text.startswith("@"):
        text = _content(text[1:], what)
    match mode:
        case ":":
            try:
                return json.loads(text)
            except (ValueError, RecursionError) as error:
                raise BadArgument(f"{what} is not JSON: {_reason(error)}") from None
        case "%":
            try:
                return ast.literal_eval(text)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
                raise BadArgument(f"{what} is not a Python literal: {_reason(error)}") from None
    return text


def _content(name: str, what: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise BadArgument(f"{what}: the file {safe_text(name)!r} cannot be read: {error.strerror}") from None
    except ValueError:  # not UTF-8, or a name that no file can have
        raise BadArgument(f"{what}: the file {safe_text(name)!r} does not hold text in UTF-8") from None


def _reason(error: BaseException) -> str:
    match error:
        case json.JSONDecodeError() | SyntaxError():
            return safe_text(error.msg)
        case RecursionError() | MemoryError():
            return "it is nested too deeply"
    return "only text, numbers, lists, tuples, dicts, sets, True, False and None are"
