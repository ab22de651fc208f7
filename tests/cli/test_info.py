"""`minirq info` and the overview that it shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from support.command_line import OnTerminal, Run
from support.waits import until
from support.worker import StartWorker

from minirq import Queue
from minirq.client.store import Store
from minirq.inspect.overview import overview
from minirq.protocol import commands, queries
from minirq.protocol.keys import Keys

Work = Callable[..., None]

QUEUE_FIELDS = {
    "name", "waiting", "running", "scheduled", "deferred", "failed", "finished", "canceled", "stopped",
    "expired", "unknown", "oldest_seconds", "is_paused", "paused_until",
}  # fmt: skip
WORKER_FIELDS = {
    "name", "host", "pid", "queues", "started", "last_beat", "processes", "concurrency", "running", "busy",
    "done", "failed", "failing", "id", "stopping_since",
}  # fmt: skip


def told(run: Run, *arguments: str) -> dict[str, Any]:
    done = run("info", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def row(text: str, name: str) -> list[str]:
    """The words of the line that begins with this name."""
    [line] = [line for line in text.splitlines() if line.split()[:1] == [name]]
    return line.split()


# --- queues -----------------------------------------------------------------------------------


def test_an_empty_redis_says_what_to_do_next(run: Run) -> None:
    done = run("info")
    assert done.returncode == 0
    assert "No queues yet: enqueue a job with  Queue().enqueue(" in done.stdout
    assert "start one with  minirq worker default" in done.stdout


def test_jobs_are_counted_by_where_they_are(queue: Queue, work: Work, run: Run) -> None:
    queue.enqueue("jobs.add", 1, 2)
    for _ in range(2):
        queue.enqueue("jobs.fail")
    queue.enqueue("jobs.add", 1, ttl=0.01)
    time.sleep(0.02)
    work()
    queue.enqueue_in(60, "jobs.add", 1, 2).cancel()
    for _ in range(3):
        queue.enqueue_in(60, "jobs.add", 1, 2)
    for _ in range(4):
        queue.enqueue("jobs.add", 1, 2)

    [seen] = told(run)["queues"]
    assert seen.keys() == QUEUE_FIELDS
    expected = {"waiting": 4, "scheduled": 3, "finished": 1, "failed": 2, "canceled": 1, "expired": 1}
    assert expected.items() <= seen.items()
    assert 0 <= seen["oldest_seconds"] < 30

    text = run("info").stdout
    assert row(text, "default")[1:6] == ["4", "0", "3", "2", "1"]
    assert "  1 canceled, 1 expired\n" in text


def test_a_number_of_finished_jobs_that_may_be_higher_says_so(
    queue: Queue, redis: redis_py.Redis, run: Run
) -> None:
    queue.enqueue("jobs.add", 1)
    finished = Keys().of("default").index("finished")
    redis.zadd(finished, {str(n): "+inf" for n in range(99_999)})
    assert row(run("info").stdout, "default")[5] == "99,999"
    redis.zadd(finished, {"one more": "+inf"})
    assert row(run("info").stdout, "default")[5] == "100,000+"


def test_the_oldest_is_the_one_that_runs_next(queue: Queue, redis: redis_py.Redis) -> None:
    first = queue.enqueue("jobs.add", 1, 2)
    queue.enqueue("jobs.add", 1, 2)
    age = 3600
    redis.hset(Keys().of("default").job(first.id), "created_ms", int((time.time() - age) * 1000))
    [seen] = overview(Store(redis)).queues
    assert seen.oldest_seconds == pytest.approx(age, abs=30)


def test_a_payload_without_a_record_has_no_age(redis: redis_py.Redis, run: Run) -> None:
    redis.sadd(Keys().queues, "default")
    redis.lpush(Keys().of("default").queue, b"not a payload")
    [seen] = told(run)["queues"]
    assert (seen["waiting"], seen["oldest_seconds"]) == (1, None)


def test_what_is_forgotten_already_is_not_counted(queue: Queue, work: Work, redis: redis_py.Redis) -> None:
    job = queue.enqueue("jobs.add", 1, 2, result_ttl=0.05)
    work()
    assert job.is_finished
    until(lambda: overview(Store(redis)).queues[0].finished == 0)
    assert redis.zcard(Keys().of("default").index("finished")) == 1


def test_what_a_worker_says_of_itself_has_a_ttl_from_its_first_command_on(redis: redis_py.Redis) -> None:
    store = Store(redis)
    store.sender.send(queries.show_worker(store.keys, "w", {"pid": 1}, now_ms=1, ttl=10)[0])
    assert 0 < redis.pttl(store.keys.worker("w")) <= 10_000


def test_a_paused_queue_says_until_when(queue: Queue, redis: redis_py.Redis, run: Run) -> None:
    for name, seconds in (("default", None), ("later", 3600), ("over", 0.001)):
        redis.sadd(Keys().queues, name)
        Store(redis).sender.send(commands.pause(Keys().of(name), seconds=seconds))
    time.sleep(0.01)
    seen = {queue["name"]: queue for queue in told(run)["queues"]}
    assert (seen["default"]["is_paused"], seen["default"]["paused_until"]) == (True, None)
    assert seen["later"]["is_paused"]
    assert seen["later"]["paused_until"] > told(run)["at"]
    assert not seen["over"]["is_paused"]
    assert run("info").stdout.count("paused until") == 2


def test_named_queues_only(redis: redis_py.Redis, start_worker: StartWorker, run: Run) -> None:
    for name in ("a", "b", "c"):
        Queue(name, redis).enqueue("jobs.add", 1, 2)
    start_worker("c", "-n", "of-c")
    until(lambda: told(run)["workers"])
    seen = told(run, "a", "b")
    assert [queue["name"] for queue in seen["queues"]] == ["a", "b"]
    assert seen["workers"] == []
    assert [worker["name"] for worker in told(run, "a", "c")["workers"]] == ["of-c"]


def test_looking_changes_nothing_and_takes_three_round_trips(
    redis: redis_py.Redis, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        Queue(name, redis).enqueue_many([Queue.prepare_data("jobs.add", (1, 2))] * 1500)
        work(name)
        Queue(name, redis).enqueue("jobs.add", 1, 2)
    before = {key: redis.dump(key) for key in redis.keys()}
    store = Store(redis)
    trips: list[int] = []
    send_all = store.sender.send_all
    monkeypatch.setattr(store.sender, "send_all", lambda calls: trips.append(len(calls)) or send_all(calls))

    seen = overview(store)

    assert [queue.finished for queue in seen.queues] == [1500, 1500]
    assert len(trips) == 3
    assert sum(trips) < 50
    assert {key: redis.dump(key) for key in redis.keys()} == before


# --- workers ----------------------------------------------------------------------------------


def test_a_worker_says_what_it_does(queue: Queue, start_worker: StartWorker, run: Run, folder: Path) -> None:
    done = queue.enqueue("tasks.add", 1, 2)
    queue.enqueue("tasks.fail")
    job = queue.enqueue("tasks.wait_for", str(folder / "gate"))
    running = start_worker("-p", "2", "-n", "web-1", "--lease", "0.5")

    def busy() -> dict[str, Any] | None:
        return next((worker for worker in told(run)["workers"] if worker["busy"]), None)

    worker = until(busy)
    assert worker.keys() == WORKER_FIELDS
    assert (worker["name"], worker["pid"], worker["queues"]) == ("web-1", running.process.pid, ["default"])
    [doing] = worker["busy"]
    assert (doing["id"], doing["func"], doing["queue"]) == (job.id, "tasks.wait_for", "default")
    assert 0 <= doing["seconds"] < 30
    until(lambda: [(w["done"], w["failed"]) for w in told(run)["workers"]] == [(2, 1)])
    assert done.is_finished
    assert told(run)["queues"][0]["running"] == 1

    text = run("info").stdout
    assert row(text, "web-1")[-5:] == ["2", "1", *row(text, "web-1")[-3:-1], "default"]
    assert f"tasks.wait_for  {job.id}  (default)" in text
    (folder / "gate").touch()
    until(lambda: not busy())


def test_a_worker_of_many_says_how_many_run(
    queue: Queue, start_worker: StartWorker, run: Run, folder: Path
) -> None:
    for _ in range(12):
        queue.enqueue("tasks.wait_for", str(folder / "gate"))
    start_worker("-p", "1", "-c", "20", "-n", "web-1", "--lease", "0.5")
    until(lambda: [(w["running"], w["concurrency"]) for w in told(run)["workers"]] == [(12, 20)])
    text = run("info").stdout
    assert "12/20" in row(text, "web-1")
    assert text.count("tasks.wait_for  ") == 10
    assert "  and 2 more" in text
    (folder / "gate").touch()


def test_the_time_since_the_beat_counts_for_a_running_job(redis: redis_py.Redis) -> None:
    store = Store(redis)
    now_ms = store.sender.send(queries.server_time())
    store.sender.send_all(
        queries.show_worker(store.keys, "w", {"busy": '[["j", "q", 1.5]]'}, now_ms=now_ms - 60_000, ttl=10)
    )
    [worker] = overview(store).workers
    assert worker.busy[0].seconds == pytest.approx(61.5, abs=5)


def test_a_killed_worker_vanishes_when_its_portrait_has_expired(
    redis: redis_py.Redis, start_worker: StartWorker, run: Run
) -> None:
    worker = start_worker("-n", "w", "--lease", "0.5")
    until(lambda: told(run)["workers"])
    worker.kill_all()
    until(lambda: not told(run)["workers"])
    assert redis.zcard(Keys().workers) == 1  # still on the list, and not shown


def test_a_damaged_portrait_is_shown_as_far_as_it_can_be_read(redis: redis_py.Redis, run: Run) -> None:
    redis.zadd(Keys().workers, {"w": 1e300, b"\xff": 1})
    redis.hset(
        Keys().worker("w"),
        mapping={"queues": "{", "busy": '[[1], ["j", "q", "x"]]', "pid": "nan", "started": "1e400"},
    )
    redis.sadd(Keys().queues, b"\xff\xfe")
    seen = told(run)
    assert seen["queues"] == []
    [worker] = seen["workers"]
    assert (worker["name"], worker["queues"], worker["busy"], worker["pid"]) == ("w", [], [], 0)
    assert run("info").returncode == 0


def test_where_nobody_works_it_says_how_to_start_somebody(
    redis: redis_py.Redis, start_worker: StartWorker, run: Run
) -> None:
    Queue("emails", redis).enqueue("jobs.add", 1, 2)
    assert "No workers: start one with  minirq worker emails\n" in run("info").stdout
    start_worker("other")
    until(lambda: told(run)["workers"])
    assert "have no worker: start one with  minirq worker emails\n" in run("info").stdout


# --- how it is shown --------------------------------------------------------------------------


def test_one_half_only_or_by_queue(queue: Queue, start_worker: StartWorker, run: Run) -> None:
    queue.enqueue_in(60, "jobs.add", 1, 2)
    start_worker("-n", "w")
    until(lambda: told(run)["workers"])
    assert "WORKER" not in run("info", "-Q").stdout
    assert "QUEUE  " not in run("info", "-W").stdout
    assert told(run, "-Q").keys() == {"at", "queues"}
    assert told(run, "-W").keys() == {"at", "workers"}
    assert "\ndefault: w (idle)\n" in run("info", "-R").stdout
    assert run("info", "-Q", "-W").returncode == 2


@pytest.mark.parametrize("columns", [80, 120])
def test_it_fits_the_terminal(redis: redis_py.Redis, on_terminal: OnTerminal, columns: int) -> None:
    for name in ("a" * 150, "b"):
        Queue(name, redis).enqueue("jobs.add", 1, 2)
    store = Store(redis)
    queues = json.dumps([f"queue-{n}" for n in range(40)])
    busy = json.dumps([["j" * 200, "b", 1.0]])
    store.sender.send_all(
        queries.show_worker(store.keys, "w" * 100, {"queues": queues, "busy": busy}, now_ms=1, ttl=60)
    )
    text = on_terminal("info", COLUMNS=str(columns), NO_COLOR="1")
    assert max(map(len, text.splitlines())) <= columns
    assert max(map(len, text.splitlines())) > columns - 5


def test_colours_are_sparing_and_can_be_switched_off(
    queue: Queue, work: Work, run: Run, on_terminal: OnTerminal
) -> None:
    queue.enqueue("jobs.add", 1, 2)
    work()
    assert "\x1b[31m" not in on_terminal("info", NO_COLOR="")
    queue.enqueue("jobs.fail")
    work()
    assert "\x1b[31m" in on_terminal("info", NO_COLOR="")
    assert "\x1b" not in on_terminal("info", NO_COLOR="1")
    assert "\x1b" not in run("info").stdout


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interval_redraws_until_ctrl_c(
    redis: redis_py.Redis, redis_url: str, tmp_path: Path, as_json: bool
) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "minirq", "info", "-i", "0.1", *(["--json"] if as_json else [])],
            env={**os.environ, "MINIRQ_REDIS_URL": redis_url},
            stdout=file,
            stderr=file,
        )
    word = '"queues"' if as_json else "No queues yet"
    try:
        until(lambda: output.read_text().count(word) >= 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in output.read_text()
    if as_json:
        assert all(json.loads(line) for line in output.read_text().splitlines())
