"""`minirq server`, and what every command does with errors, as a user sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from minirq.cli.main import COMMANDS, cli
from minirq.connection import server_status
from minirq.exceptions import MinirqError


def minirq(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "minirq", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        timeout=30,
    )


def test_start_status_stop(home: Path) -> None:
    where = {"MINIRQ_HOME": str(home)}
    assert minirq("server", "status", **where).stdout == f"No server is running in {home}.\n"

    started = minirq("server", "start", **where)
    assert started.returncode == 0
    assert started.stdout.startswith("Started: ")
    assert minirq("server", "start", **where).stdout.startswith("Already running: ")

    status = minirq("server", "status", **where)
    assert status.returncode == 0
    assert f"unix://{home}/redis.sock" in status.stdout
    facts = json.loads(minirq("server", "status", "--json", **where).stdout)
    running = server_status(home)
    assert running is not None
    assert facts["running"] is True
    assert facts["pid"] == running.pid

    stopped = minirq("server", "stop", **where)
    assert stopped.stdout == f"Stopped the server of {home}.\n"
    assert minirq("server", "stop", **where).stdout == f"No server was running in {home}.\n"
    gone = minirq("server", "status", "--json", **where)
    assert gone.returncode == 1
    assert json.loads(gone.stdout) == {"running": False, "home": str(home)}


@pytest.mark.parametrize("command", [("info",), ("doctor",), ("job", "x"), ("explain", "x"), ("stop", "x")])
def test_a_command_that_looks_starts_no_server(home: Path, command: tuple[str, ...]) -> None:
    where = {"MINIRQ_HOME": str(home), "MINIRQ_EMBEDDED": "1"}
    done = minirq(*command, **where)
    assert done.returncode == 1
    assert "no embedded server is running" in done.stderr
    assert "minirq server start" in done.stderr
    assert server_status(home) is None
    assert not home.exists()


def test_a_server_is_announced_when_it_starts_and_not_after_that(home: Path) -> None:
    where = {"MINIRQ_HOME": str(home), "MINIRQ_EMBEDDED": "1"}
    first = minirq("enqueue", "tasks.add", **where)
    assert "started an embedded server" in first.stderr
    for command in (("enqueue", "tasks.add"), ("info",)):
        assert minirq(*command, **where).stderr == ""


def test_a_configured_url_is_mentioned(home: Path) -> None:
    started = minirq("server", "start", MINIRQ_HOME=str(home), MINIRQ_REDIS_URL="redis://localhost")
    assert "not this server" in started.stderr


def test_a_mistake_of_the_user_is_one_line_without_a_traceback() -> None:
    done = minirq("server", "status", MINIRQ_REDIS_URL="localhost:6379")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("minirq: MINIRQ_REDIS_URL: ")
    assert len(done.stderr.splitlines()) == 1


def test_wrong_usage_exits_with_2() -> None:
    done = minirq("serve")
    assert done.returncode == 2
    assert "No such command 'serve'" in done.stderr


def test_help_lists_every_command_and_version_is_known() -> None:
    listed = minirq("-h").stdout
    assert all(f"\n  {name} " in listed for name in COMMANDS)
    assert minirq("--version").stdout.startswith("minirq ")


def test_any_minirq_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def status() -> None:
        raise MinirqError("the thing, and the way out")

    monkeypatch.setattr("minirq.cli.main.LazyGroup.get_command", lambda self, ctx, name: status)
    result = CliRunner().invoke(cli, ["server"])
    assert (result.exit_code, result.stderr) == (1, "minirq: the thing, and the way out\n")


def test_an_interrupt_is_quiet_and_exits_with_130(tmp_path: Path) -> None:
    code = (
        "import click, signal, minirq.cli.main as main\n"
        "@click.command()\n"
        "def wait():\n"
        "    print('ready', flush=True)\n"
        "    signal.pause()\n"
        "main.LazyGroup.get_command = lambda self, ctx, name: wait\n"
        "import sys; sys.argv = ['minirq', 'server']; main.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, "")


def test_a_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "minirq", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=10)
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""


@pytest.mark.parametrize(("no_color", "expected"), [("1", "red\n"), ("", "\x1b[31mred\x1b[0m\n")])
def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch, no_color: str, expected: str) -> None:
    @click.command()
    def paint() -> None:
        click.secho("red", fg="red")

    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("minirq.cli.main.LazyGroup.get_command", lambda self, ctx, name: paint)
    assert CliRunner().invoke(cli, ["server"], color=True).stdout == expected
