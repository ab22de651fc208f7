"""`minirq worker`: run jobs until told to stop.

An option comes from the command line, else from MINIRQ_WORKER_... in the environment, else from
[tool.minirq.worker] in pyproject.toml.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from minirq.cli import VERSION
from minirq.cli.options import Count, complete_queues, duration, worker_config_options
from minirq.cli.pidfile import pid_file
from minirq.connection import Config, connect, safe_url
from minirq.durations import parse_size
from minirq.exceptions import ConfigError, InvalidOption
from minirq.protocol.serializers import resolve_serializer
from minirq.text import safe_repr, safe_text
from minirq.worker import Worker
from minirq.worker.logs import set_up_logs

logger = logging.getLogger(__name__)

#: what pyproject.toml cannot set: it would be the same for every worker, or is no setting
_NOT_IN_PROJECT = ("help", "name", "namespace", "url", "file", "with_scheduler", "reload")
#: what the worker takes under the same name
_PASSED_ON = (
    "processes", "concurrency", "allow", "only", "accept", "preload", "lease", "stop_timeout", "kill_grace",
    "max_jobs_per_child", "max_memory_per_child", "allow_eviction",
)  # fmt: skip


def _size(value: str | int) -> int:
    try:
        return parse_size(value, what="the size")
    except InvalidOption as error:
        raise click.BadParameter(str(error)) from None


def _refuse_reload(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        raise click.UsageError(
            "--reload is gone: pip install watchfiles, and run  watchfiles 'minirq worker' ."
        )


@click.command()
@click.argument("queues", nargs=-1, envvar="MINIRQ_WORKER_QUEUES", shell_complete=complete_queues)
@click.option(
    "-p", "--processes", type=Count(1, 1000), default=1, show_default=True, help="Processes that run jobs.",
)  # fmt: skip
@click.option(
    "-c", "--concurrency", type=Count(1, 10_000), default=1, show_default=True,
    help="Jobs that each process runs at once: coroutines on its event loop, functions in threads.",
)  # fmt: skip
@click.option("-b", "--burst", is_flag=True, help="Stop when the queues are empty.")
@click.option("--max-jobs", type=Count(min=1), metavar="N", help="Stop after N jobs.")
@click.option("-n", "--name", metavar="NAME", help="Name that `minirq info` shows. Default: host and pid.")
@click.option(
    "-P", "--path", multiple=True, type=click.Path(exists=True, file_okay=False), default=["."],
    show_default=True, help="Directory with the application's functions, first on sys.path; repeatable.",
)  # fmt: skip
@click.option(
    "--allow", multiple=True, metavar="PATTERN",
    help="Also run matching functions outside --path: of the standard library, as in os.getpid, or "
    "installed, as in 'myapp.*'; repeatable.",
)  # fmt: skip
@click.option(
    "--only", multiple=True, metavar="PATTERN",
    help="Run only matching functions, as in 'tasks.mail.*'; repeatable.",
)  # fmt: skip
@click.option(
    "--accept", multiple=True, metavar="SERIALIZER",
    help="Read this serializer too, besides msgpack and json. With pickle, whoever can write to Redis can "
    "run any code here; repeatable.",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.option("-q", "--quiet", is_flag=True, help="Log only warnings and errors.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the log.",
)
@click.option("-s", "--with-scheduler", is_flag=True, help="Has no effect: every worker runs delayed jobs.")
@click.option(
    "--stop-timeout", type=duration(allow_unlimited=True), default="8s", show_default=True,
    help="Let running jobs go on this long after a stop request; -1: until they end. Then they go back to "
    "their queues.",
)  # fmt: skip
@click.option(
    "--kill-grace", type=duration(), default="5s", show_default=True,
    help="Kill the process of a job that ignores its timeout for this long.",
)  # fmt: skip
@click.option(
    "--lease", type=duration(), default="15s", show_default=True,
    help="If this worker sends no heartbeat for this long, others take over its jobs.",
)  # fmt: skip
@click.option(
    "--max-jobs-per-child", type=Count(min=1), metavar="N", help="Replace a process after N jobs.",
)  # fmt: skip
@click.option(
    "--max-memory-per-child", type=_size, metavar="SIZE",
    help="Replace a process that has grown beyond this after a job, as in 200M or 1G.",
)  # fmt: skip
@click.option(
    "--preload", multiple=True, metavar="MODULE",
    help="Import this module in each process before its first job; repeatable.",
)  # fmt: skip
@click.option("--no-batch", is_flag=True, help="Claim jobs one at a time, even short ones.")
@click.option("--allow-eviction", is_flag=True, help="Use Redis even if its eviction policy may delete jobs.")
@click.option(
    "--pid", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the process id to this file while the worker runs.",
)  # fmt: skip
@click.option("--reload", is_flag=True, hidden=True, expose_value=False, callback=_refuse_reload)
@worker_config_options
@click.pass_context
def worker(ctx: click.Context, config: Config, /, **_: Any) -> None:
    """Run jobs of QUEUES (default: "default"). Each queue has its turn when those before it are empty.

    SIGINT (Ctrl-C) or SIGTERM stops the worker once its running jobs have ended; a second one interrupts
    them, and they run again later. The exit code is 0 then. SIGHUP replaces the processes one by one, each
    after its job, so that they import new code. While Redis is unreachable, the worker waits; with --burst it
    gives up after 30 s and exits with 1.

    Options can also be set in the environment (MINIRQ_WORKER_MAX_JOBS and so on; lists separated by spaces,
    paths by colons) and in [tool.minirq.worker] of pyproject.toml.
    """
    options = {**ctx.params, **_from_project(ctx, config.worker_defaults)}
    if options["verbose"] and options["quiet"]:
        raise click.UsageError("give either --verbose or --quiet, not both")
    level = logging.DEBUG if options["verbose"] else logging.WARNING if options["quiet"] else logging.INFO
    set_up_logs(level=level, as_json=options["log_format"] == "json", may_color=ctx.color is not False)
    if unknown := _unknown_variables(ctx.command):
        logger.warning("%s: the worker has no such option, so it is ignored", ", ".join(unknown))
    _exit_on_signals()
    with pid_file(options["pid"]):
        _run(config, options)


def _run(config: Config, options: Mapping[str, Any]) -> None:
    for name in options["accept"]:
        resolve_serializer(name)
    client = connect(config=config)
    made = Worker(
        options["queues"] or ("default",),
        _checked_name(options["name"]),
        client,
        paths=[str(Path(path).absolute()) for path in options["path"]],
        namespace=config.namespace,
        **{name: options[name] for name in _PASSED_ON},
    )
    made.is_batching = not options["no_batch"]
    logger.info(
        "minirq %s serves %s at %s%s",
        VERSION,
        ", ".join(made.queue_names),
        safe_url(client),
        f", configured by {safe_text(str(config.file))}" if config.file else "",
    )
    made.work(burst=options["burst"], max_jobs=options["max_jobs"])


def _from_project(ctx: click.Context, table: Mapping[str, object]) -> dict[str, Any]:
    """The options that pyproject.toml sets, and neither the command line nor the environment does."""
    settable = [param for param in ctx.command.params if param.name not in _NOT_IN_PROJECT]
    known = {param.human_readable_name.lower().replace("-", "_"): param for param in settable}
    found = {}
    for key, value in table.items():
        source = f"tool.minirq.worker.{safe_text(key)}"
        if key not in known:
            raise ConfigError(f"{source}: no such key; known are {', '.join(sorted(known))}")
        param = known[key]
        if wanted := _wanted_instead(param, value):
            raise ConfigError(f"{source} is {safe_repr(value)}: write {wanted}")
        assert param.name is not None
        if ctx.get_parameter_source(param.name) is click.core.ParameterSource.DEFAULT:
            try:
                found[param.name] = param.type_cast_value(ctx, value)
            except click.BadParameter as error:
                raise ConfigError(f"{source}: {error.message}") from None
    return found


def _wanted_instead(param: click.Parameter, value: object) -> str:
    """What to write in pyproject.toml in place of this value; "" if it fits the option."""
    if param.multiple or param.nargs == -1:
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return "" if fits else 'a list of texts, ["…"]'
    if isinstance(param, click.Option) and param.is_flag:
        return "" if isinstance(value, bool) else "true or false"
    fits = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return "" if fits else "a number or a text"


def _unknown_variables(command: click.Command) -> list[str]:
    """The environment variables that look like options of the worker, and are none."""
    start = "MINIRQ_WORKER_"
    known = {f"{start}{param.human_readable_name.upper().replace('-', '_')}" for param in command.params}
    return [safe_text(name) for name in sorted(os.environ) if name.startswith(start) and name not in known]


def _checked_name(name: str | None) -> str | None:
    if name is not None and (not name or safe_text(name) != name or ":" in name):
        raise InvalidOption(
            f"{safe_repr(name)} cannot name a worker: give up to 200 printable characters, without ':'"
        )
    return name


def _exit_on_signals() -> None:
    """Exit on SIGINT and SIGTERM while waiting for Redis; later the worker installs its own handlers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: sys.exit(0))
    signal.signal(signal.SIGHUP, lambda received, frame: None)  # there is nothing to replace yet
