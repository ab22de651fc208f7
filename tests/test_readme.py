"""README.md: its Python runs, its commands exist with their options, its tables are complete."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import redis as redis_py
from click.testing import CliRunner

from minirq import Job, Queue
from minirq.cli.main import COMMANDS, cli
from minirq.protocol.submission import RESERVED

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


TASKS = [block for block in blocks("python") if block.startswith("# tasks.py\n")]
PROGRAM = "\n".join(block for block in blocks("python") if block not in TASKS)
SHELL = [line for block in blocks("sh") for line in block.splitlines()]
#: command -> what it is shown to print
CONSOLE = {
    command: output
    for block in blocks("console")
    for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
}


#: rows of `minirq job` that are the same for every job of divide(1, 0)
SAME = ("status", "queue", "function", "attempts", "limits")


@pytest.fixture
def _application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[None]:
    """The working directory of the README's reader: tasks.py, a Redis that is configured."""
    (tmp_path / "tasks.py").write_text("\n".join(TASKS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MINIRQ_REDIS_URL", redis_url)
    sys.modules.pop("tasks", None)
    yield
    sys.modules.pop("tasks", None)


@pytest.fixture
def _worker(_application: None, redis: redis_py.Redis) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-m", "minirq", "worker"], stderr=subprocess.DEVNULL) as process:
        yield
        process.terminate()


# --- Python -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("_worker")
def test_the_python_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    expected = re.findall(r"print\(.*\)  # (.*)", PROGRAM)
    assert len(expected) >= 5
    exec(compile(PROGRAM, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == expected


def test_the_first_example_fits_a_screen() -> None:
    before = README[: README.index("## What it is")]
    first = blocks("python")[:2] + blocks("sh")[:1]
    assert all(block in before for block in first)
    assert sum(len(block.split("\n")) - 1 for block in first) <= 12


# --- commands ---------------------------------------------------------------------------------


@cache
def help_of(*command: str) -> str:
    done = CliRunner().invoke(cli, [*command, "--help"])
    assert done.exit_code == 0, done.output
    return done.output


def minirq_commands() -> list[str]:
    inline = re.findall(r"`(minirq [^`]*)`", README)
    shown = [line for line in [*SHELL, *CONSOLE] if line.startswith("minirq ")]
    return sorted({*inline, *shown})


@pytest.mark.parametrize("line", minirq_commands())
def test_every_command_exists_with_its_options(line: str) -> None:
    _, name, *words = shlex.split(line)
    assert name in COMMANDS
    text = help_of(name, *words[:1]) if name == "server" else help_of(name)
    for option in [word for word in words if word.startswith("-")]:
        assert re.search(rf"(^|[\s,]){option}\b", text), f"{option} is no option of minirq {name}"


def test_options_that_are_mentioned_alone_are_those_of_the_worker() -> None:
    alone = re.findall(r"`(--[a-z-]+)[^`]*`", README)
    assert len(alone) > 4
    assert [option for option in alone if not re.search(rf"{option}\b", help_of("worker"))] == []


def test_scripts_that_are_named_can_be_run() -> None:
    named = [line for line in SHELL if line.startswith("bin/")]
    assert named == ["bin/demo", "bin/test"]
    assert all(os.access(ROOT / name, os.X_OK) for name in named)


@pytest.mark.usefixtures("_worker")
def test_commands_print_what_is_shown() -> None:
    failed = Queue().enqueue("tasks.divide", 1, 0)
    with pytest.raises(Exception, match="division by zero"):
        failed.wait(timeout=10)
    for ours, theirs in zip(shape(printed("info")), shape(shown("info")), strict=True):
        assert ours == theirs or "." in ours[0]  # the name of a worker
    assert shape(printed("job", failed.id)) == shape(shown("job"))
    assert printed("requeue", failed.id) == shown("requeue")


def test_the_server_command_prints_what_is_shown(home: Path) -> None:
    environ = {**os.environ, "MINIRQ_HOME": str(home)}
    for command in ("start", "status"):
        run = [sys.executable, "-m", "minirq", "server", command]
        done = subprocess.run(run, env=environ, capture_output=True, text=True, check=True)
    assert shape(done.stdout) == shape(shown("server"))


def shown(name: str) -> str:
    [output] = [output for command, output in CONSOLE.items() if command.split()[1] == name]
    return output


def printed(*arguments: str) -> str:
    run = [sys.executable, "-m", "minirq", *arguments]
    environ = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(run, capture_output=True, text=True, check=True, env=environ).stdout


def shape(output: str) -> list[list[str]]:
    """The words of each line that do not differ from one time, place or job to another."""
    lines = [line.split() for line in output.splitlines() if line and not line[0].isspace()]
    return [words if words[0] in SAME or words[0].isupper() else words[:1] for words in lines]


# --- tables and links -------------------------------------------------------------------------


def test_the_keywords_are_those_that_enqueue_takes() -> None:
    table = README.partition("| keyword |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == RESERVED


def test_the_variables_are_those_that_are_read() -> None:
    text = (ROOT / "minirq" / "connection" / "config.py").read_text("utf-8")
    read = set(re.findall(r'_variable\(environ, "([A-Z_]+)"', text))
    table = README.partition("| variable |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"`((?:MINIRQ_|REDIS_)[A-Z_]+)`", table))
    assert documented == read
    assert "`MINIRQ_WORKER_…`" in table
    assert "processes" in help_of("worker")
    keys = set(re.findall(r"^    _KEYS = \((.*)\)", text, re.MULTILINE)[0].replace('"', "").split(", "))
    assert {key for key in keys if f"`{key}`" in table or f"[tool.minirq.{key}]" in table} == keys


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) >= 4
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.usefixtures("_application")
def test_a_job_of_the_readme_can_be_found(redis: redis_py.Redis) -> None:
    job = Queue().enqueue("tasks.count_words", "to be")
    assert Job.fetch(job.id) == job
