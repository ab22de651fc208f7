"""What all commands that somebody waits in front of have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis as redis_py
from click.testing import CliRunner, Result
from support.command_line import Invoke

from minirq.cli.main import COMMANDS, cli

#: a call of each
CALLS = {
    "enqueue": ("enqueue", "tasks.add"),
    "info": ("info",),
    "job": ("job", "an-id"),
    "explain": ("explain", "an-id"),
    "requeue": ("requeue", "--all"),
    "cancel": ("cancel", "an-id"),
    "empty": ("empty", "--all", "--yes"),
    "suspend": ("suspend",),
    "resume": ("resume",),
    "stop": ("stop", "a-worker"),
    "doctor": ("doctor",),
}

each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def one_line(done: Result) -> str:
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    [line] = done.stderr.splitlines()
    assert line.startswith("minirq: ")
    return line


def test_every_command_is_here_and_has_its_summary() -> None:
    assert {*CALLS, "worker", "server"} == COMMANDS.keys()


@each_call
def test_no_server_there(call: tuple[str, ...], tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nobody.sock"
    assert "cannot be reached" in one_line(CliRunner().invoke(cli, [*call, "--url", url]))


@each_call
def test_a_key_that_holds_something_else(
    call: tuple[str, ...], redis: redis_py.Redis, invoke: Invoke
) -> None:
    redis.set("minirq:queues", "x")
    if call[0] == "enqueue":  # the list of queues is only written beside
        redis.set("minirq:{default}:queue", "x")
    assert "answered" in one_line(invoke(*call))


def test_an_enqueue_that_went_well_does_not_look_like_a_failure(
    redis: redis_py.Redis, invoke: Invoke
) -> None:
    redis.set("minirq:queues", "x")
    done = invoke("enqueue", "tasks.add")
    assert (done.exit_code, redis.llen("minirq:{default}:queue")) == (0, 1)


@each_call
@pytest.mark.usefixtures("redis")
def test_it_can_speak_to_programs(call: tuple[str, ...], invoke: Invoke) -> None:
    text = invoke(call[0], "--help").stdout
    assert "--json" in text
    assert "--config FILE" in text


def test_a_settings_file_takes_the_place_of_pyproject(
    redis: redis_py.Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIRQ_CONFIG", "")  # the command sets it: taken back afterwards
    monkeypatch.delenv("MINIRQ_CONFIG")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.minirq]\nnamespace = "{wrong}"\n')
    file = tmp_path / "other.toml"
    file.write_text(f'[tool.minirq]\nredis_url = "{redis_url}"\nnamespace = "mine"\n')
    done = CliRunner().invoke(cli, ["enqueue", "tasks.add", "-c", str(file)])
    assert done.exit_code == 0, done.output
    assert redis.llen("mine:{default}:queue") == 1
    assert CliRunner().invoke(cli, ["info", "-c", "no-such-file"]).exit_code == 2


def test_the_settings_file_can_be_named_in_the_environment(
    redis: redis_py.Redis, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "minirq.toml").write_text(f'[tool.minirq]\nredis_url = "{redis_url}"\nnamespace = "mine"\n')
    environ = {"MINIRQ_CONFIG": str(tmp_path / "minirq.toml")}
    assert CliRunner().invoke(cli, ["enqueue", "tasks.add"], env=environ).exit_code == 0
    assert redis.llen("mine:{default}:queue") == 1
    environ = {"MINIRQ_CONFIG": str(tmp_path / "gone.toml")}
    assert "gone.toml cannot be read" in one_line(CliRunner().invoke(cli, ["info"], env=environ))


# --- completion -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("minirq susp", ["suspend"]),
        ("minirq suspend ", ["default", "mail"]),
        ("minirq suspend m", ["mail"]),
        ("minirq resume mail ", ["default"]),
        ("minirq worker ma", ["mail"]),
        ("minirq enqueue --queue ", ["default", "mail"]),
        ("minirq requeue --all --queue d", ["default"]),
    ],
)
def test_names_are_completed(redis: redis_py.Redis, redis_url: str, words: str, completed: list[str]) -> None:
    redis.sadd("minirq:queues", "default", "mail", "two words\x1b")
    assert complete(words, redis_url) == completed


def test_where_no_server_is_nothing_is_completed_and_nothing_is_said(tmp_path: Path) -> None:
    assert complete("minirq suspend ", f"unix://{tmp_path}/nobody.sock") == []
    assert complete("minirq suspend ", "nonsense") == []


def test_no_server_is_started_to_complete_a_name(tmp_path: Path) -> None:
    assert complete("minirq suspend ", None, MINIRQ_EMBEDDED="1", MINIRQ_HOME=str(tmp_path / "home")) == []
    assert not (tmp_path / "home" / "redis.sock").exists()


def complete(words: str, url: str | None, **environ: str) -> list[str]:
    """What bash is told at the end of this line."""
    given = words.split(" ")
    environ = {
        "_MINIRQ_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(given) - 1),
        **({"MINIRQ_REDIS_URL": url} if url else {}), **environ,
    }  # fmt: skip
    done = CliRunner().invoke(cli, prog_name="minirq", env=environ, complete_var="_MINIRQ_COMPLETE")
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.split()]
