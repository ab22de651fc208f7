"""docs/protocol.md says what the code does: its lists are complete, and its examples run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import redis as redis_py
from support import ROOT

from minirq import Job, JobStatus, SimpleWorker
from minirq.connection import Server
from minirq.connection.config import DEFAULT_MAX_PAYLOAD
from minirq.protocol import defaults, keys, payload, record
from minirq.protocol.payload import JobOptions, Payload
from minirq.worker.settings import WorkerSettings

PROTOCOL = ROOT / "minirq" / "protocol"
DOC = (ROOT / "docs" / "protocol.md").read_text("utf-8")
LUA = {file.stem: file.read_text("utf-8") for file in sorted((PROTOCOL / "lua").glob("*.lua"))}
PIECES = {file.stem: file.read_text("utf-8") for file in sorted((PROTOCOL / "lua" / "lib").glob("*.lua"))}


def comment(lines: list[str]) -> str:
    """The text of the comment that these lines of Lua begin with."""
    text: list[str] = []
    for line in lines:
        if not line.startswith("--") or line.startswith("--#include"):
            break
        text.append(line[3:])
    return "\n".join(text).rstrip()


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table that follows this text, by the name in backticks in their first cell."""
    table = DOC.partition(heading)[2].partition("\n|")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0].strip("`"): row[1:] for row in cells}


def example(language: str, start: str) -> str:
    [found] = [code for code in re.findall(rf"```{language}\n(.*?)```", DOC, re.DOTALL) if start in code]
    return found


# --- what the document lists ------------------------------------------------------------------


@pytest.mark.parametrize("name", LUA)
def test_the_head_of_each_script_is_in_the_document(name: str) -> None:
    head = comment(LUA[name].splitlines())
    assert head.startswith(f"{name}: ")
    assert f"### {name}\n\n```text\n{head}\n```\n" in DOC


def test_the_contract_of_a_claim_is_in_the_document() -> None:
    claim = PIECES["claim"]
    returned = comment(claim[claim.index("-- Returns state") :].splitlines())
    assert f"```text\n{returned}\n```\n" in DOC


def test_every_key_is_in_the_document() -> None:
    missing = [suffix for suffix in keys.SUFFIXES if f"`minirq:{{q}}:{suffix}" not in DOC]
    assert missing == []
    everywhere = keys.Keys()
    for key in (everywhere.queues, everywhere.workers, everywhere.worker("<name>"), everywhere.chores):
        assert f"`{key}`" in DOC


def test_the_table_of_the_record_has_the_fields_that_scripts_and_readers_know() -> None:
    known = set(re.findall(r'b"([a-z_]+)"', (PROTOCOL / "record.py").read_text("utf-8")))
    for text in (LUA | PIECES).values():
        for call in re.findall(r'"(?:HMGET|HGET|HEXISTS|HDEL)",([^)]*)', text, re.DOTALL):
            known |= set(re.findall(r'(?<!\.\. )"([a-z_]+)"', call))
    known -= {"paused", "batch", "skipped", "drained_by"}  # of the queue's meta
    assert set(rows("## The record")) == known


def test_every_word_that_a_script_quotes_is_in_the_document() -> None:
    quoted = {word for text in (LUA | PIECES).values() for word in re.findall(r'"([a-z_]{2,})"', text)}
    assert len(quoted) > 40
    assert [word for word in sorted(quoted) if not re.search(rf"\b{word}\b", DOC)] == []


def test_every_status_is_in_the_document() -> None:
    assert [status for status in JobStatus if f"`{status}`" not in DOC] == []


def test_the_options_are_those_of_the_payload_with_their_defaults() -> None:
    table = rows("**Options.**")
    shown = {None: "nil"}
    assert {name: row[1] for name, row in table.items()} == {
        field.name: shown.get(field.default, str(field.default)) for field in fields(JobOptions)
    }


@pytest.mark.parametrize(
    ("text", "value", "code"),
    [
        (f"{defaults.FAILURE_TTL * 1000} (30 days)", 30 * 24 * 3600, defaults.FAILURE_TTL),
        ("the index keeps 100,000", 100_000, defaults.MOST_FINISHED),
        ("above 16 MiB", 16 * 2**20, DEFAULT_MAX_PAYLOAD),
        ("2,000 characters", 2000, record.MAX_MESSAGE),
        ("the traceback to 16,384", 16_384, record.MAX_TRACEBACK),
        ("1 to 255 bytes", 255, payload.MAX_ID_BYTES),
        ("Once that is 10 seconds ago", 10_000, r" SKIPPED_MS = (\d+)"),
        ("up to 500 of them or 4 MiB", 500, r"MOST_SKIPPED_BYTES = (\d+), 4194304"),
        ("Its hash stays for\n  60 seconds", 60, defaults.TOMBSTONE),
        ("the hash stays for 20 seconds", 20, defaults.LEAST_KEPT),
        ("for 10 minutes once", 600, defaults.DOUBT),
        ("60 seconds", 60_000, r"WAITED_MS = (\d+)"),
        ("the longest wait (5 s) and 2 s", 7, WorkerSettings().linger),
        ("the last ten failed", 10, r'"LTRIM", errors, 0, (\d+)'),
    ],
)
def test_the_numbers_are_those_of_the_code(text: str, value: int, code: int | str) -> None:
    assert text in DOC
    if isinstance(code, str):
        [found] = re.findall(code, "\n".join((LUA | PIECES).values()))
        code = int(found) + (code.startswith('"LTRIM"'))  # LTRIM names the last index
    assert code == value


# --- its examples run -------------------------------------------------------------------------


@pytest.fixture
def greetings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The application that the examples talk about."""
    (tmp_path / "tasks.py").write_text("def greet(name):\n    return f'Hello {name}'\n")
    sys.modules.pop("tasks", None)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("tasks", None)


@pytest.fixture
def path_with_redis_cli(redis_server: Server, tmp_path: Path) -> str:
    """A PATH on which `redis-cli` talks to the tests' server."""
    real = shutil.which("redis-cli") or str(redis_server.binary.parent / "redis-cli")
    if Path(real).exists():
        stand_in = f'#!/bin/sh\nexec "{real}" -s "{redis_server.socket}" "$@"\n'
    else:
        stand_in = (
            f"#!{sys.executable}\nimport sys, redis\nwords = sys.argv[1:]\n"
            "if '-x' in words:\n    words.remove('-x')\n    words.append(sys.stdin.buffer.read())\n"
            f"print(redis.Redis.from_url({redis_server.url!r}).execute_command(*words))\n"
        )
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "redis-cli").write_text(stand_in)
    (folder / "redis-cli").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def work(client: redis_py.Redis) -> None:
    assert SimpleWorker(["default"], connection=client, lease=1).work(burst=True)


@pytest.mark.usefixtures("greetings")
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_command_line_enqueues(redis: redis_py.Redis, path_with_redis_cli: str, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    script = "set -e\n" + example("sh", "LPUSH") + example("sh", "ZADD")
    subprocess.run([shell, "-c", script], check=True, env={**os.environ, "PATH": path_with_redis_cli})
    assert redis.zrange("minirq:{default}:bell", 0, -1) == [b"1"]
    work(redis)
    job = Job.fetch("greet-1", connection=redis)
    assert job.return_value() == "Hello Ada"
    assert (job.func_name, job.created_at) == ("tasks.greet", None)


@pytest.mark.usefixtures("greetings")
def test_the_javascript_enqueues(redis: redis_py.Redis, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    (tmp_path / "greet.js").write_text(example("js", "tasks.greet"))
    raw = subprocess.run([node, tmp_path / "greet.js"], capture_output=True, check=True).stdout
    redis.lpush("minirq:{default}:queue", raw)
    work(redis)
    assert Job.fetch(payload.id_of(raw), connection=redis).return_value() == "Hello Grace"


@pytest.mark.usefixtures("greetings")
def test_the_bytes_are_a_payload(redis: redis_py.Redis) -> None:
    lines = DOC.partition("as any msgpack writer makes it:\n\n")[2].partition("\n\n")[0].splitlines()
    raw = bytes.fromhex("".join(re.match(r"\s+((?:[0-9a-f]{2} ?)+)", line)[1] for line in lines))  # type: ignore[index]
    blob = bytes.fromhex("93c091a341646180")
    expected = Payload("greet-1", "tasks.greet", "msgpack", blob, JobOptions(timeout=30, result_ttl=-1))
    assert payload.decode(raw) == expected
    assert expected.encode() == raw
    redis.lpush("minirq:{default}:queue", raw)
    work(redis)
    job = Job.fetch("greet-1", connection=redis)
    assert job.return_value() == "Hello Ada"
    assert redis.ttl("minirq:{default}:job:greet-1") == -1


@pytest.mark.usefixtures("greetings")
def test_a_payload_with_an_id_that_was_used_is_dropped(
    redis: redis_py.Redis, path_with_redis_cli: str
) -> None:
    push = ["sh", "-c", example("sh", "LPUSH")]
    environ = {**os.environ, "PATH": path_with_redis_cli}
    subprocess.run(push, check=True, env=environ)
    subprocess.run(push, check=True, env=environ)
    assert redis.llen("minirq:{default}:queue") == 2
    work(redis)
    assert Job.fetch("greet-1", connection=redis).attempts == 1
    subprocess.run(push, check=True, env=environ)
    assert not SimpleWorker(["default"], connection=redis, lease=1).work(burst=True)
    assert redis.llen("minirq:{default}:queue") == 0
    assert Job.fetch("greet-1", connection=redis).attempts == 1


def test_a_payload_that_cannot_be_read_is_a_failed_job(redis: redis_py.Redis) -> None:
    redis.lpush("minirq:{default}:queue", b"no payload")
    work(redis)
    job = Job.fetch(payload.id_of(b"no payload"), connection=redis)
    assert job.is_failed
    assert job.errors[0].exc_type == "minirq.exceptions.DeserializationError"
