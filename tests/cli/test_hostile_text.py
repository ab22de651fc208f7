"""Whoever can write to Redis must not be able to drive the terminal of who looks at it."""

from __future__ import annotations

import json

import msgpack
import pytest
import redis as redis_py
from support.command_line import OnTerminal, Run
from support.worker import StartWorker

from minirq.client.store import Store
from minirq.protocol import queries
from minirq.protocol.keys import Keys
from minirq.protocol.record import Failure

#: clears the screen, sets the title, reorders what is read, hides, splits lines
EVIL = "\x1b[2J\x1b]0;owned\x07\u202etxt\u200b\x9b31m\x85\r\x7f"
JOB_ID = f"id-{EVIL}"


def assert_harmless(text: str) -> None:
    assert [char for char in text if not char.isprintable() and char != "\n"] == []


@pytest.fixture
def hostile(redis: redis_py.Redis) -> redis_py.Redis:
    """A Redis in which every text is hostile."""
    store = Store(redis)
    name = f"q-{EVIL}"
    keys = store.keys.of(name)
    payload = msgpack.packb([JOB_ID, 1, f"f.{EVIL}", "msgpack", msgpack.packb([None, [EVIL], {EVIL: 1}]), {}])
    redis.sadd(store.keys.queues, name)
    redis.lpush(keys.queue, payload)
    redis.set(keys.payload(JOB_ID), payload)
    redis.hset(
        keys.job(JOB_ID),
        mapping={
            "status": "failed", "func": f"f.{EVIL}", "owner": f"w-{EVIL}:1:x", "created_ms": 1,
            "meta": msgpack.packb({EVIL: EVIL}), "result": msgpack.packb(EVIL),
        },
    )  # fmt: skip
    failure = Failure(f"E{EVIL}", EVIL, f"Traceback:\n  {EVIL}\nend", f"w{EVIL}", EVIL)
    redis.lpush(keys.errors(JOB_ID), b"1000 " + failure.encode())
    redis.zadd(keys.index("failed"), {JOB_ID: 9e15})
    portrait = {
        "host": EVIL, "pid": EVIL, "queues": json.dumps([name]), "started": EVIL,
        "busy": json.dumps([[JOB_ID, name, 1]]),
    }  # fmt: skip
    store.sender.send_all(queries.show_worker(store.keys, f"w-{EVIL}", portrait, now_ms=1, ttl=60))
    return redis


@pytest.mark.parametrize("options", [(), ("-R",), ("--json",)])
@pytest.mark.usefixtures("hostile")
def test_info(run: Run, on_terminal: OnTerminal, options: tuple[str, ...]) -> None:
    done = run("info", *options)
    assert done.returncode == 0
    assert done.stdout.count("w-\\") == (2 if "--json" in options else 1)  # its name, and its id
    assert "-R" in options or "f.\\" in done.stdout
    assert_harmless(done.stdout + done.stderr)
    wide = on_terminal("info", *options, NO_COLOR="1", COLUMNS="150")
    assert_harmless(wide.replace("\r\n", "\n"))


@pytest.mark.parametrize("options", [(), ("--args",), ("--json", "--args")])
@pytest.mark.usefixtures("hostile")
def test_job(run: Run, options: tuple[str, ...]) -> None:
    done = run("job", *options, JOB_ID)
    assert done.returncode == 0, done.stderr
    assert "end" in done.stdout
    assert_harmless(done.stdout + done.stderr)


@pytest.mark.usefixtures("hostile")
def test_the_id_that_was_asked_for(run: Run) -> None:
    for command in (("job", f"{EVIL}?"), ("requeue", f"{EVIL}?")):
        done = run(*command)
        assert done.returncode == 1
        assert_harmless(done.stdout + done.stderr)


def test_requeue(hostile: redis_py.Redis, run: Run) -> None:
    hostile.delete(Store(hostile).keys.of(f"q-{EVIL}").payload(JOB_ID))
    done = run("requeue", "--all")
    assert done.returncode == 1
    assert "arguments were not kept" in done.stderr
    assert_harmless(done.stdout + done.stderr)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_log_of_a_worker(redis: redis_py.Redis, start_worker: StartWorker, log_format: str) -> None:
    for function in (f"tasks.{EVIL}", "tasks.add"):
        blob = msgpack.packb([None, [EVIL], {}])
        payload = msgpack.packb([f"{JOB_ID}{function}"[:80], 1, function, "msgpack", blob, {}])
        redis.lpush(Keys().of("default").queue, payload)
    redis.lpush(Keys().of("default").queue, EVIL.encode())
    worker = start_worker("--burst", "--log-format", log_format)
    assert worker.wait() == 0
    assert worker.log.count("failed") >= 3
    assert_harmless(worker.log)


@pytest.mark.parametrize(
    "command",
    [("explain", JOB_ID), ("doctor",), ("cancel", JOB_ID), ("suspend",), ("resume",), ("empty", "-a", "-y")],
    ids=lambda command: command[0],
)
@pytest.mark.usefixtures("hostile")
def test_other_commands(run: Run, command: tuple[str, ...]) -> None:
    for arguments in (command, (*command, "--json")):
        done = run(*arguments)
        assert "Traceback" not in done.stderr
        assert_harmless(done.stdout + done.stderr)
