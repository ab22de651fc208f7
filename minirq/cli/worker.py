"""`minirq worker`: runs jobs until it is told to stop."""

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
from minirq.cli.options import CountType, DurationType, SizeType, complete_queues, config_options_in_full
from minirq.cli.pidfile import pid_file
from minirq.connection import Config, connect, safe_url
from minirq.exceptions import ConfigError, InvalidOption
from minirq.protocol.serializers import resolve_serializer
from minirq.text import safe_repr, safe_text
from minirq.worker import Worker
from minirq.worker.logs import set_up_logs

logger = logging.getLogger(__name__)

#: what pyproject.toml cannot set: it would be the same for every worker, or is no setting
_NOT_IN_PROJECT = ("help", "name", "namespace", "url", "file", "with_scheduler", "reload")


def _refuse_reload(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        raise click.UsageError(
            "--reload is gone: pip install watchfiles, and run  watchfiles 'minirq worker' ."
        )


@click.command()
@click.argument("queues", nargs=-1, envvar="MINIRQ_WORKER_QUEUES", shell_complete=complete_queues)
@click.option(
    "-p", "--processes", type=CountType(1, 1000), default=1, show_default=True,
    help="Processes that run jobs.",
)  # fmt: skip
@click.option(
    "-c", "--concurrency", type=CountType(1, 10_000), default=1, show_default=True,
    help="Jobs that each process runs at once: coroutines on its event loop, functions in threads.",
)  # fmt: skip
@click.option("-b", "--burst", is_flag=True, help="Stop when the queues are empty.")
@click.option("--max-jobs", type=CountType(min=1), metavar="N", help="Stop after N jobs in all.")
@click.option("-n", "--name", metavar="NAME", help="Shown by `minirq info`; host and pid without it.")
@click.option(
    "-P", "--path", multiple=True, type=click.Path(exists=True, file_okay=False), default=["."],
    show_default=True, help="Where jobs import from first: the application's own functions; repeatable.",
)  # fmt: skip
@click.option(
    "--allow", multiple=True, metavar="PATTERN",
    help="Also run functions that are not below --path: of the standard library, as in os.getpid, or "
    "installed, as in 'myapp.*'; repeatable.",
)  # fmt: skip
@click.option(
    "--only", multiple=True, metavar="PATTERN",
    help="Of all these run only what matches, as in 'tasks.mail.*'; repeatable.",
)  # fmt: skip
@click.option(
    "--accept", multiple=True, metavar="SERIALIZER",
    help="Read this beside msgpack and json. pickle runs code of whoever can write to Redis; repeatable.",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.option("-q", "--quiet", is_flag=True, help="Log warnings and errors only.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-s", "--with-scheduler", is_flag=True, help="Always on: every worker sees to delayed jobs.")
@click.option(
    "--stop-timeout", type=DurationType(allow_unlimited=True), default=8, show_default=True,
    help="How long running jobs may go on after a stop was asked for; -1 until they end. What is left then "
    "goes back to the queue.",
)  # fmt: skip
@click.option(
    "--kill-grace", type=DurationType(), default=5, show_default=True,
    help="A job that ignores its timeout for so long is killed with its process.",
)  # fmt: skip
@click.option(
    "--lease", type=DurationType(), default=15, show_default=True,
    help="A worker not heard of for so long is taken for dead, and its jobs are run by others.",
)  # fmt: skip
@click.option(
    "--max-jobs-per-child", type=CountType(min=1), metavar="N",
    help="Replace a process after N jobs.",
)  # fmt: skip
@click.option(
    "--max-memory-per-child", type=SizeType(), metavar="SIZE",
    help="Replace a process after a job that leaves it with more, as in 200M or 1G.",
)  # fmt: skip
@click.option(
    "--preload", multiple=True, metavar="MODULE",
    help="Import it in each process before its first job; repeatable.",
)  # fmt: skip
@click.option("--no-batch", is_flag=True, help="Claim jobs one by one, also short ones.")
@click.option("--allow-eviction", is_flag=True, help="Work on a Redis that may throw jobs away.")
@click.option(
    "--pid", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Keep the process id in this file while it runs.",
)  # fmt: skip
@click.option("--reload", is_flag=True, hidden=True, expose_value=False, callback=_refuse_reload)
@config_options_in_full
@click.pass_context
def worker(ctx: click.Context, config: Config, /, **_: Any) -> None:
    """Run jobs of QUEUES, in this order: the first one that has any. Without QUEUES, of "default".

    SIGINT (Ctrl-C) or SIGTERM lets running jobs end; a second one cuts them off, and they run again
    later. Exits with 0 after that. SIGHUP replaces the processes one by one, each after its job, so that
    new code is imported. While Redis is unreachable, the worker waits; with --burst for 30 s, then it exits
    with 1.

    Options can also be set by MINIRQ_WORKER_... in the environment (MINIRQ_WORKER_MAX_JOBS, lists
    separated by spaces, paths by colons), and in the table [tool.minirq.worker] of pyproject.toml.
    """
    options = {**ctx.params, **_from_project(ctx, config.worker_defaults)}
    unknown = _unknown_variables(ctx.command)
    if options["verbose"] and options["quiet"]:
        raise click.UsageError("--verbose and --quiet exclude each other")
    level = logging.DEBUG if options["verbose"] else logging.WARNING if options["quiet"] else logging.INFO
    set_up_logs(level=level, as_json=options["log_format"] == "json", may_color=ctx.color is not False)
    if unknown:
        logger.warning("%s: the worker has no such option, so it is ignored", ", ".join(unknown))
    _exit_when_told_to()
    paths = [str(Path(path).absolute()) for path in options["path"]]
    with pid_file(options["pid"]):
        _run(config, {**options, "path": paths})


def _run(config: Config, options: Mapping[str, Any]) -> None:
    for name in options["accept"]:
        resolve_serializer(name)
    client = connect(config=config)
    made = Worker(
        options["queues"] or ("default",),
        _checked_name(options["name"]),
        client,
        processes=options["processes"],
        concurrency=options["concurrency"],
        allow=options["allow"],
        only=options["only"],
        accept=options["accept"],
        paths=options["path"],
        preload=options["preload"],
        lease=options["lease"],
        stop_timeout=options["stop_timeout"],
        kill_grace=options["kill_grace"],
        max_jobs_per_child=options["max_jobs_per_child"],
        max_memory_per_child=options["max_memory_per_child"],
        batch=not options["no_batch"],
        allow_eviction=options["allow_eviction"],
        namespace=config.namespace,
    )
    logger.info(
        "minirq %s listens to %s at %s%s",
        VERSION,
        ", ".join(made.queue_names),
        safe_url(client),
        f", configured by {safe_text(str(config.file))}" if config.file else "",
    )
    made.work(burst=options["burst"], max_jobs=options["max_jobs"])


def _from_project(ctx: click.Context, table: Mapping[str, object]) -> dict[str, Any]:
    """The options that pyproject.toml sets, and neither the command line nor the environment does."""
    known = {param.human_readable_name.lower().replace("-", "_"): param for param in _settable(ctx.command)}
    found = {}
    for key, value in table.items():
        source = f"tool.minirq.worker.{safe_text(key)}"
        if key not in known:
            raise ConfigError(f"{source}: no such key; known are {', '.join(sorted(known))}")
        param = known[key]
        if not _fits(param, value):
            raise ConfigError(f"{source} is {safe_repr(value)}: write {_kind(param)}")
        assert param.name is not None
        if ctx.get_parameter_source(param.name) is click.core.ParameterSource.DEFAULT:
            try:
                found[param.name] = param.type_cast_value(ctx, value)
            except click.BadParameter as error:
                raise ConfigError(f"{source}: {error.message}") from None
    return found


def _unknown_variables(command: click.Command) -> list[str]:
    """The variables of the environment that look like options of the worker, and are none."""
    start = "MINIRQ_WORKER_"
    known = {f"{start}{param.human_readable_name.upper().replace('-', '_')}" for param in command.params}
    return [safe_text(name) for name in sorted(os.environ) if name.startswith(start) and name not in known]


def _settable(command: click.Command) -> list[click.Parameter]:
    return [param for param in command.params if param.name not in _NOT_IN_PROJECT]


def _fits(param: click.Parameter, value: object) -> bool:
    if _is_list(param):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if isinstance(param, click.Option) and param.is_flag:
        return isinstance(value, bool)
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _kind(param: click.Parameter) -> str:
    if _is_list(param):
        return 'a list of texts, ["…"]'
    return "true or false" if isinstance(param, click.Option) and param.is_flag else "a number or a text"


def _is_list(param: click.Parameter) -> bool:
    return param.multiple or param.nargs == -1


def _checked_name(name: str | None) -> str | None:
    if name is not None and (not name or safe_text(name) != name or ":" in name):
        raise InvalidOption(
            f"{safe_repr(name)} cannot name a worker: give up to 200 characters, none of them special or ':'"
        )
    return name


def _exit_when_told_to() -> None:
    """A stop that is asked for while Redis is waited for. Once the worker works, it hears for itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: sys.exit(0))
    # there is nothing to replace yet
    signal.signal(signal.SIGHUP, lambda received, frame: None)
