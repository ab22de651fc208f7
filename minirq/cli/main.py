"""The `minirq` command: finds the subcommand, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 an error that minirq names, 2 wrong usage, 130 interrupted.

A subcommand's module is imported only when it runs: `minirq --help` must not pay for redis.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import IO, Any

import click

from minirq.cli import VERSION
from minirq.exceptions import MinirqError
from minirq.text import safe_block

COMMANDS = {
    "worker": "minirq.cli.worker:worker",
    "enqueue": "minirq.cli.enqueue:enqueue",
    "info": "minirq.cli.info:info",
    "job": "minirq.cli.job:job",
    "explain": "minirq.cli.explain:explain",
    "requeue": "minirq.cli.requeue:requeue",
    "cancel": "minirq.cli.cancel:cancel",
    "empty": "minirq.cli.empty:empty",
    "suspend": "minirq.cli.suspend:suspend",
    "resume": "minirq.cli.suspend:resume",
    "stop": "minirq.cli.stop:stop",
    "doctor": "minirq.cli.doctor:doctor",
    "server": "minirq.cli.server:server",
}

# Said here too, since asking the command would import it
SUMMARIES = {
    "worker": "Run jobs.",
    "enqueue": "Enqueue a call of a function.",
    "info": "Show queues and workers.",
    "job": "Show what is known of a job.",
    "explain": "Say why a job does not run.",
    "requeue": "Run failed jobs again.",
    "cancel": "Cancel jobs.",
    "empty": "Delete the jobs that wait.",
    "suspend": "Pause queues.",
    "resume": "Resume queues.",
    "stop": "Stop workers.",
    "doctor": "Check Redis, workers and queues.",
    "server": "Start, stop or show the embedded Redis server.",
}


#: how a disk says that it takes no more
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _OneLine(click.ClickException):
    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"minirq: {self.message}", file=file, err=file is None)


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called, and not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MinirqError as error:
            raise _OneLine(safe_block(str(error), 5000)) from error
        except KeyboardInterrupt:
            ctx.exit(130)


@click.group(
    cls=LazyGroup,
    context_settings={"auto_envvar_prefix": "MINIRQ", "help_option_names": ["-h", "--help"]},
)
@click.version_option(VERSION, message="minirq %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A job queue on plain Redis.

    Redis is found by --url, MINIRQ_REDIS_URL, REDIS_URL or [tool.minirq] in pyproject.toml; with none of
    these, a private server is started (see `minirq server`).
    """
    if os.environ.get("NO_COLOR"):  # no-color.org; click does not know it
        ctx.color = False


def main() -> None:
    try:
        cli(prog_name="minirq")
    except OSError as error:
        if error.errno not in _FULL:
            raise
        with suppress(OSError):
            click.echo(f"minirq: the output could not be written: {error.strerror}", err=True)
        _write_nowhere(1, 2)
        sys.exit(1)
    finally:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):  # lines of the log that could not be written change no exit code
            _write_nowhere(2)


def _write_nowhere(*streams: int) -> None:
    """Let go of what is left in the buffers: it must not be tried again at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
