"""What every command says when something is wrong outside of it: one line, no traceback, exit code 1."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis as redis_py
from click.testing import CliRunner
from support.command_line import Run, minirq

from minirq import Queue
from minirq.cli.main import cli

IMPATIENT = [("info",), ("requeue", "--all"), ("job", "an-id")]
#: a worker waits for a server that is away, and goes on after an error
COMMANDS = [*IMPATIENT, ("worker", "--burst")]

each_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
each_impatient_command = pytest.mark.parametrize("command", IMPATIENT, ids=" ".join)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that was said."""
    assert done.returncode == 1, done
    assert done.stdout == ""
    # a worker tells what it is about to do before it finds out
    lines = [line for line in done.stderr.splitlines() if " serves default at " not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("minirq: ")
    return lines[0]


class _FakeServer(socketserver.StreamRequestHandler):
    """Answers INFO with `info`, and anything else with `reply`."""

    info = b"redis_version:5.0.14\r\nredis_mode:standalone\r\n"
    reply = b"+OK\r\n"

    def handle(self) -> None:
        while header := self.rfile.readline():
            words = []
            for _ in range(int(header[1:])):
                length = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(length + 2)[:-2])
            info = b"$%d\r\n%s\r\n" % (len(self.info), self.info)
            self.wfile.write(info if words[0].upper() == b"INFO" else self.reply)


@contextmanager
def serving(handler: type[_FakeServer]) -> Iterator[str]:
    """The URL of a server that answers so."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def old_server() -> Iterator[str]:
    with serving(_FakeServer) as url:
        yield url


@each_command
def test_a_file_that_is_no_configuration(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text('REDIS_URL = "redis://localhost"\n')
    said = one_line(minirq(*command, "--config", str(tmp_path / "settings.py")))
    assert "settings.py has no table [tool.minirq]" in said


LIES = {
    "a number": b":7\r\n",
    "nothing": b"$-1\r\n",
    "no list": b"*-1\r\n",
    "an empty list": b"*0\r\n",
    "text": b"$3\r\nabc\r\n",
    "a list of numbers": b"*2\r\n:1\r\n:2\r\n",
    "a list of lists": b"*2\r\n*1\r\n$1\r\nx\r\n*-1\r\n",
    "no such script": b"-NOSCRIPT No matching script\r\n",
    "an error with an escape": b"-ERR \x1b[2J\x1b]0;owned\x07\r\n",
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(
    "command",
    [*IMPATIENT, ("explain", "an-id"), ("enqueue", "f"), ("cancel", "an-id"), ("suspend", "q"), ("doctor",)],
    ids=" ".join,
)
def test_a_server_that_answers_what_nobody_asked(command: tuple[str, ...], lie: str) -> None:
    modern = b"redis_version:7.0.15\r\naof_enabled:1\r\n"
    with serving(type("Liar", (_FakeServer,), {"info": modern, "reply": LIES[lie]})) as url:
        done = CliRunner().invoke(cli, [*command, "--url", url])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code in (0, 1)
    assert all(char.isprintable() or char == "\n" for char in done.output)


@each_command
def test_a_url_that_cannot_be_read(command: tuple[str, ...]) -> None:
    said = one_line(minirq(*command, "--url", "redis://:s3cret@localhost:port/0"))
    assert "bad port" in said
    assert "s3cret" not in said


@each_command
def test_no_redis_configured(command: tuple[str, ...]) -> None:
    assert "no Redis is configured" in one_line(minirq(*command))


@each_impatient_command
def test_no_server_there(command: tuple[str, ...], tmp_path: Path) -> None:
    said = one_line(minirq(*command, MINIRQ_REDIS_URL=f"unix://{tmp_path}/nobody.sock"))
    assert "cannot be reached" in said


@each_command
def test_a_wrong_password(command: tuple[str, ...], redis_url: str) -> None:
    url = redis_url.replace("unix://", "unix://nobody:s3cret@")
    said = one_line(minirq(*command, MINIRQ_REDIS_URL=url))
    assert "refused the user or password" in said
    assert "s3cret" not in said


@each_command
def test_a_server_that_is_too_old(command: tuple[str, ...], old_server: str) -> None:
    said = one_line(minirq(*command, MINIRQ_REDIS_URL=old_server))
    assert "is redis 5.0.14: minirq needs Redis 6.2 or newer" in said


@pytest.mark.parametrize(
    "command",
    [("info", "a b"), ("worker", "-b", "a{b}"), ("worker", ""), ("requeue", "--all", "--queue", "x\n")],
    ids=str,
)
def test_a_name_that_no_queue_can_have(command: tuple[str, ...], run: Run) -> None:
    assert "a queue name " in one_line(run(*command))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a", "a"), "a queue is named twice"),
        (("--lease", "0.1"), "lease is 0.1"),
        (("--accept", "pickel"), "unknown serializer 'pickel'"),
        (("--name", "a\x1b[2J"), "cannot name a worker"),
        (("--name", ""), "cannot name a worker"),
    ],
    ids=str,
)
def test_a_worker_that_cannot_be(run: Run, arguments: tuple[str, ...], said: str) -> None:
    assert said in one_line(run("worker", "--burst", *arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker", "--stop-timeout", "-2"),
        ("worker", "--lease", "soon"),
        ("worker", "--processes", "0"),
        ("worker", "--max-jobs", "-3"),
        ("worker", "--path", "no-such-directory"),
        ("worker", "--log-format", "xml"),
        ("worker", "-v", "-q"),
        ("info", "--interval", "-1"),
        ("info", "--interval", "0"),
        ("job",),
    ],
    ids=" ".join,
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")


@each_impatient_command
def test_a_key_that_holds_something_else(
    command: tuple[str, ...], redis: redis_py.Redis, redis_url: str
) -> None:
    redis.set("minirq:queues", "x")
    assert "answered" in one_line(minirq(*command, MINIRQ_REDIS_URL=redis_url))


# --- where output goes nowhere ----------------------------------------------------------------


@pytest.mark.parametrize("call", ["info", "info --json", "--help", "--version", "suspend --help"])
@pytest.mark.usefixtures("redis")
def test_a_full_disk_is_said_in_one_line(redis_url: str, call: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "minirq", *call.split()],
            stdout=full, stderr=subprocess.PIPE, text=True, env={**os.environ, "MINIRQ_REDIS_URL": redis_url},
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "minirq: the output could not be written: No space left on device\n"


#: streams that are written when they are flushed, also where the shell asks for none such
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def test_a_worker_goes_on_where_its_log_cannot_be_written(redis: redis_py.Redis, redis_url: str) -> None:
    job = Queue(connection=redis).enqueue("no_such_module.f", failure_ttl=60)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "minirq", "worker", "-b", "--url", redis_url],
            stderr=full, timeout=30, env=BUFFERED,
        )  # fmt: skip
    assert done.returncode == 0
    assert job.get_status() == "queued"


@pytest.mark.parametrize("call", ["info -i 0.1", "worker -b"])
@pytest.mark.usefixtures("redis")
def test_a_closed_pipe_is_no_traceback(redis_url: str, call: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "minirq", *call.split(), "--url", redis_url],
        stdout=theirs, stderr=theirs if "worker" in call else subprocess.PIPE, text=True, timeout=30,
        env=BUFFERED,
    )  # fmt: skip
    os.close(theirs)
    assert done.returncode == (0 if "worker" in call else 1)
    assert not done.stderr


@pytest.mark.usefixtures("redis")
def test_without_the_metadata_of_the_package(redis_url: str) -> None:
    script = """
import importlib.metadata, sys
def gone(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = importlib.metadata.distribution = gone
from minirq.cli.main import main
main()
"""
    for call in (["--version"], ["worker", "-b", "--url", redis_url]):
        done = subprocess.run(
            [sys.executable, "-c", script, *call], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        assert "minirq 0.1.0" in done.stdout + done.stderr
