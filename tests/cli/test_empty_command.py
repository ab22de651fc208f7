"""`minirq empty`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import redis as redis_py
from support.command_line import Invoke

from minirq import Queue, SimpleWorker


@pytest.fixture
def queues(redis: redis_py.Redis) -> list[Queue]:
    """Three queues: with three jobs and a delayed one, with one job, with none any more."""
    queues = [Queue(name, redis) for name in ("default", "mail", "done")]
    for queue, count in zip(queues, (3, 1, 1), strict=True):
        for _ in range(count):
            queue.enqueue("jobs.add", 1)
    queues[0].enqueue_in(60, "jobs.add", 1)
    queues[2].empty()
    return queues


def test_the_jobs_that_wait_are_deleted(invoke: Invoke, queues: list[Queue], redis: redis_py.Redis) -> None:
    done = invoke("empty", "default", "done", "--yes")
    assert (done.exit_code, done.stdout) == (0, "Deleted 3 waiting jobs of default.\n")
    assert [queue.count for queue in queues] == [0, 1, 0]
    assert redis.zcard("minirq:{default}:scheduled") == 1


def test_all_queues(invoke: Invoke, queues: list[Queue]) -> None:
    done = invoke("empty", "--all", "--yes")
    assert set(done.stdout.splitlines()) == {
        "Deleted 3 waiting jobs of default.",
        "Deleted 1 waiting job of mail.",
    }
    assert [queue.count for queue in queues] == [0, 0, 0]
    done = invoke("empty", "--all")
    assert (done.exit_code, done.stdout) == (0, "There are no waiting jobs.\n")


def test_failed_jobs_are_deleted_and_no_others(
    invoke: Invoke, queues: list[Queue], redis: redis_py.Redis
) -> None:
    failed = [queues[2].enqueue("jobs.fail") for _ in range(2)]
    SimpleWorker(queues[2]).work(burst=True)
    done = invoke("empty", "--all", "--failed")
    assert (done.exit_code, "this would delete 2 failed jobs of done" in done.stderr) == (2, True)
    done = invoke("empty", "--all", "--failed", "--yes")
    assert (done.exit_code, done.stdout) == (0, "Deleted 2 failed jobs of done.\n")
    assert redis.keys(f"*{failed[0].id}*") == []
    assert [queue.count for queue in queues] == [3, 1, 0]
    assert invoke("empty", "--all", "--failed").stdout == "There are no failed jobs.\n"


def test_without_a_terminal_and_without_yes_it_refuses(invoke: Invoke, queues: list[Queue]) -> None:
    done = invoke("empty", "default", "mail")
    assert done.exit_code == 2
    assert (
        "this would delete 3 waiting jobs of default, 1 waiting job of mail, and there is no terminal"
        in done.stderr
    )
    assert [queue.count for queue in queues] == [3, 1, 0]


@pytest.mark.parametrize(("answer", "left", "code"), [("y", 0, 0), ("n", 3, 1), ("", 3, 1)])
def test_on_a_terminal_it_asks(
    queues: list[Queue], redis_url: str, folder: Path, answer: str, left: int, code: int
) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "minirq", "empty", "default"]
    environ = {**os.environ, "MINIRQ_REDIS_URL": redis_url}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(ours, f"{answer}\n".encode())
        said, _ = process.communicate(timeout=15)
    os.close(ours)
    os.close(theirs)
    assert "Delete 3 waiting jobs of default? [y/N]" in said
    assert (process.returncode, queues[0].count) == (code, left)


def test_json(invoke: Invoke, queues: list[Queue]) -> None:
    done = invoke("empty", "--json", "--yes", "default", "done")
    assert json.loads(done.stdout) == {"deleted": {"default": 3, "done": 0}}


@pytest.mark.parametrize("arguments", [(), ("--all", "default"), ("default", "--json")])
def test_wrong_usage(invoke: Invoke, queues: list[Queue], arguments: tuple[str, ...]) -> None:
    assert invoke("empty", *arguments).exit_code == 2
    assert queues[0].count == 3
