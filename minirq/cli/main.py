"""The `minirq` command: finds the subcommand, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 an error that minirq names, 2 wrong usage, 130 interrupted.

A subcommand's module is imported only when it runs, so that `minirq --help` does not import redis.
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

#: the module of each command, and its summary: asking the command for it would import the module
COMMANDS = {
    "worker": ("worker", "Run jobs."),
    "enqueue": ("enqueue", "Enqueue a call of a function."),
    "info": ("info", "Show queues and workers."),
    "job": ("job", "Show a job."),
    "explain": ("job", "Say why a job does not run."),
    "requeue": ("jobs", "Run failed jobs again."),
    "cancel": ("jobs", "Cancel jobs."),
    "empty": ("queues", "Delete waiting or failed jobs."),
    "suspend": ("queues", "Pause queues."),
    "resume": ("queues", "Resume queues."),
    "stop": ("stop", "Stop workers."),
    "doctor": ("info", "Check Redis, workers and queues."),
    "server": ("server", "Start, stop or show the embedded Redis server."),
}

#: errors of a disk that is full
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _OneLine(click.ClickException):
    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"minirq: {self.message}", file=file, err=file is None)


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called, and not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command and return it."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"minirq.cli.{module}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries of all commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and report minirq's own errors in one line."""
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

    Commands take the URL of Redis from --url, MINIRQ_REDIS_URL, REDIS_URL or [tool.minirq] in pyproject.toml.
    Without any of these, minirq starts a private Redis server (see `minirq server`).
    """
    if os.environ.get("NO_COLOR"):  # no-color.org; click does not know it
        ctx.color = False


def main() -> None:
    """Run the command that the arguments name."""
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
    """Drop what is left in the buffers, so that Python does not write it again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
