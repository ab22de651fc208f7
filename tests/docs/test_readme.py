"""README.md: its Python runs, its commands exist with their options, its tables are complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from support.documents import ROOT, Document, assert_exists, help_of, reader, running_worker

from minirq import Job, Queue
from minirq.protocol.submission import RESERVED

DOCUMENT = Document("README.md")
README, SHELL = DOCUMENT.text, DOCUMENT.shell
#: command -> what it is shown to print
CONSOLE = {
    command: output
    for block in DOCUMENT.blocks("console")
    for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
}


#: rows of `minirq job` that are the same for every job of divide(1, 0)
SAME = ("status", "queue", "function", "attempts", "limits")


@pytest.fixture
def _application(tmp_path: Path, redis_url: str) -> Iterator[None]:
    with reader(DOCUMENT, tmp_path, redis_url):
        yield


@pytest.fixture
def _worker(_application: None, redis: redis_py.Redis) -> Iterator[None]:
    with running_worker():
        yield


# --- Python -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("_worker")
def test_the_python_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(DOCUMENT.prints) >= 5
    DOCUMENT.run()
    assert capsys.readouterr().out.splitlines() == DOCUMENT.prints


def test_the_first_example_fits_a_screen() -> None:
    before = README[: README.index("## What it is")]
    first = DOCUMENT.blocks("python")[:2] + DOCUMENT.blocks("sh")[:1]
    assert all(block in before for block in first)
    assert sum(len(block.split("\n")) - 1 for block in first) <= 12


# --- commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize("line", DOCUMENT.commands)
def test_every_command_exists_with_its_options(line: str) -> None:
    assert_exists(line)


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
    read = set(re.findall(r'"((?:MINIRQ|REDIS)_[A-Z_]+)"', text))
    table = README.partition("| variable |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"`((?:MINIRQ_|REDIS_)[A-Z_]+)`", table))
    assert documented == read
    assert "`MINIRQ_WORKER_…`" in table
    assert "processes" in help_of("worker")
    keys = set(re.findall(r"^    _KEYS = \((.*)\)", text, re.MULTILINE)[0].replace('"', "").split(", "))
    assert {key for key in keys if f"`{key}`" in table or f"[tool.minirq.{key}]" in table} == keys


def test_the_speeds_are_those_of_the_benchmark() -> None:
    table = README.partition("## Speed")[2].partition("| --- |")[2].partition("\n\n")[0]
    measured = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    shown = re.findall(r"\| ([\d,.]+) (?=\|)", table)
    assert len(shown) >= 18
    assert [number for number in shown if f"| {number} (" not in measured] == []


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) >= 4
    assert [link for link in links if not leads_somewhere(link)] == []


def leads_somewhere(link: str) -> bool:
    """Whether the file is there, with the heading that the link names."""
    name, _, anchor = link.partition("#")
    if not anchor:
        return (ROOT / name).exists()
    titles = re.findall(r"^#+ (.*)$", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    return anchor in [title.lower().replace(" ", "-") for title in titles]


@pytest.mark.usefixtures("_application")
def test_a_job_of_the_readme_can_be_found(redis: redis_py.Redis) -> None:
    job = Queue().enqueue("tasks.count_words", "to be")
    assert Job.fetch(job.id) == job
