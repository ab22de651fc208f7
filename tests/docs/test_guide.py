"""docs/guide.md: its Python runs, its commands run, what it names exists."""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import redis as redis_py
from support.documents import ROOT, Document, assert_exists, help_of, reader, running_worker

from minirq import Queue
from minirq.exceptions import SerializationError
from minirq.protocol.serializers import resolve_serializer

GUIDE = Document("docs/guide.md")
#: these go on until they are stopped; that they exist with their options is looked at elsewhere
ENDLESS = (
    "watchfiles 'minirq worker' .",
    "minirq worker -p 4 mail default",
    "minirq worker -p 2 -c 200 mail",
)
#: these stop a worker of that name
STOPS = ("minirq stop web-1", "minirq stop web-1 --now")


@pytest.fixture
def _worker(tmp_path: Path, redis: redis_py.Redis, redis_url: str) -> Iterator[None]:
    with reader(GUIDE, tmp_path, redis_url), running_worker():
        yield


@pytest.mark.usefixtures("_worker")
def test_the_python_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(GUIDE.prints) >= 15
    GUIDE.run()
    assert capsys.readouterr().out.splitlines() == GUIDE.prints


@pytest.mark.usefixtures("_worker")
def test_the_commands_run() -> None:
    Queue("mail").enqueue("tasks.add", 1, 2)
    lines = [line for line in GUIDE.shell if line not in ENDLESS + STOPS]
    assert len(lines) >= 10
    for line in lines:
        name, *words = shlex.split(line)
        assert name == "minirq"
        done = subprocess.run([sys.executable, "-m", "minirq", *words], capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


class _Color(Enum):
    RED = 1


class _Level(IntEnum):
    LOW = 1


@dataclass
class _Point:
    x: int = 1


class _Pair(NamedTuple):
    x: int = 1


#: values of the types that the first words of a row name
VALUES: dict[str, list[Any]] = {
    "None": [None, True, 1, 1.5, "text"],
    "list": [[1]],
    "dict": [{"a": 1}],
    "NaN": [math.inf, -math.inf, math.nan],
    "tuple": [(1,), {1}, frozenset({1})],
    "bytes": [b"1"],
    "datetime": [datetime.now(UTC), datetime.now(ZoneInfo("UTC")), date.today(), time(1, 2), timedelta(1)],
    "Decimal": [Decimal("1.5"), uuid4()],
    "bytearray": [bytearray(b"1"), memoryview(b"1")],
    "Path": [Path("x")],
    "an": [_Color.RED, _Level.LOW],
    "a": [_Point(), _Pair()],
    "Counter": [Counter("a"), OrderedDict(a=1), defaultdict(int), type("Text", (str,), {})("x")],
    "objects": [object(), print, UTC],
}


def is_carried(value: object, serializer: str) -> bool:
    """Whether a value comes back as it went in."""
    chosen = resolve_serializer(serializer)
    try:
        back = chosen.loads(chosen.dumps(value, "value"))
    except SerializationError:
        return False
    assert type(back) is type(value)
    assert back == value or back != back  # NaN
    return True


def test_the_table_of_types_is_what_serializers_do() -> None:
    rows = re.findall(r"^\| (.*) \| (yes|no) \| (yes|no)[^|]* \|.*\|$", GUIDE.text, re.MULTILINE)
    first_words = [re.findall(r"\w+", types)[0] for types, *_ in rows]
    assert set(first_words) == VALUES.keys()
    for first, (types, msgpack, json) in zip(first_words, rows, strict=True):
        for value in VALUES[first]:
            carried = [is_carried(value, "msgpack"), is_carried(value, "json")]
            assert carried == [msgpack == "yes", json == "yes"], (types, value)


@pytest.mark.parametrize("line", GUIDE.commands)
def test_every_command_exists_with_its_options(line: str) -> None:
    assert_exists(line)


def test_options_that_are_mentioned_alone_are_those_of_the_worker_or_of_a_confirmation() -> None:
    alone = re.findall(r"`(--[a-z-]+)[^`]*`", GUIDE.text)
    assert len(alone) > 8
    text = help_of("worker") + help_of("empty")
    assert [option for option in alone if not re.search(rf"{option}\b", text)] == []


def test_the_settings_are_those_of_the_worker() -> None:
    [block] = GUIDE.blocks("toml")
    for key in tomllib.loads(block)["tool"]["minirq"]["worker"]:
        assert f"--{key.replace('_', '-')}" in help_of("worker") or key == "queues"


def test_the_unit_gives_jobs_the_time_to_end() -> None:
    [unit] = GUIDE.blocks("ini")
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    binary, *words = shlex.split(settings["ExecStart"])
    assert_exists(shlex.join([Path(binary).name, *words]))
    assert float(settings["TimeoutStopSec"]) > 8
    assert settings["KillMode"] == "mixed"


def test_the_completion_is_what_click_makes(tmp_path: Path) -> None:
    [block] = GUIDE.blocks("bash")
    assert block == 'eval "$(_MINIRQ_COMPLETE=bash_source minirq)"\n'
    environ = {**os.environ, "_MINIRQ_COMPLETE": "bash_source"}
    code = "from minirq.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert "complete -o nosort -F _minirq_completion minirq" in done.stdout


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", GUIDE.text)
    titles = re.findall(r"^## (.*)$", GUIDE.text, re.MULTILINE)
    anchors = {f"#{title.lower().replace(' ', '-')}" for title in titles}
    assert {link for link in links if link.startswith("#")} == anchors
    files = [link for link in links if not link.startswith("#")]
    assert [link for link in files if not (ROOT / "docs" / link).exists()] == []
