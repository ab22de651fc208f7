"""`minirq stop`: workers are asked to stop, from elsewhere; and workers that share a name."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from support.command_line import Invoke
from support.waits import until
from support.worker import StartWorker, WorkerProcess

from minirq import Queue
from minirq.command import send_shutdown_command
from minirq.exceptions import NoSuchWorkerError
from minirq.protocol import queries
from minirq.protocol.keys import Keys


def workers(invoke: Invoke) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = json.loads(invoke("info", "--json").stdout)["workers"]
    return seen


def start(start_worker: StartWorker, invoke: Invoke, *options: str, count: int = 1) -> WorkerProcess:
    """Start a worker, and wait until so many are seen."""
    worker = start_worker("--lease", "1", *options)
    until(lambda: len(workers(invoke)) == count)
    return worker


def run_a_job(queue: Queue, folder: Path) -> Any:
    """Have a job run until the test opens the gate."""
    job = queue.enqueue("tasks.wait_for", str(folder / "gate"))
    until((folder / "gate.started").exists)
    return job


def test_a_worker_drains_and_says_so(
    invoke: Invoke, queue: Queue, start_worker: StartWorker, folder: Path
) -> None:
    worker = start(start_worker, invoke, "-n", "web", "--stop-timeout", "-1")
    job = run_a_job(queue, folder)
    done = invoke("stop", "web")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("web:")
    assert done.stdout.endswith(" is stopping: 1 job still runs.\n")

    assert workers(invoke)[0]["stopping_since"] is not None
    assert "  stopping for " in invoke("info").stdout
    assert "default: web (stopping)" in invoke("info", "-R").stdout
    waiting = queue.enqueue("tasks.add", 1, 2)
    assert "have no worker: start one with  minirq worker default" in invoke("info").stdout
    assert "no worker serves it" in invoke("doctor").stdout
    assert "No worker serves its queue." in invoke("explain", waiting.id).stdout
    assert worker.process.poll() is None

    (folder / "gate").touch()
    assert worker.wait() == 0
    assert job.return_value() == "opened"
    assert waiting.is_queued
    assert invoke("stop", "web").stderr == "minirq: no worker 'web' is running\n"


def test_now_gives_running_jobs_back(
    invoke: Invoke, queue: Queue, start_worker: StartWorker, folder: Path
) -> None:
    worker = start(start_worker, invoke, "-n", "web", "--stop-timeout", "-1")
    job = run_a_job(queue, folder)
    assert invoke("stop", "web").exit_code == 0
    done = invoke("stop", "web", "--now")
    assert done.stdout.endswith(" has stopped.\n")
    assert worker.wait() == 0
    assert (job.get_status(), job.attempts, job.lost) == ("queued", 0, 0)


def test_an_idle_worker_stops_and_programs_are_told(
    invoke: Invoke, redis: redis_py.Redis, start_worker: StartWorker
) -> None:
    worker = start(start_worker, invoke, "-n", "web", "a", "b")
    [seen] = workers(invoke)
    until(lambda: json.loads(invoke("stop", "web", "--json").stdout or "{}").get("workers") is not None)
    assert worker.wait() == 0
    assert not redis.exists(Keys().shutdown(seen["id"]))
    assert not redis.zcard(Keys().workers)


def test_a_worker_that_missed_the_publication_finds_the_request_at_a_beat(
    invoke: Invoke, redis: redis_py.Redis, start_worker: StartWorker
) -> None:
    worker = start(start_worker, invoke, "-n", "web")
    redis.set(Keys().shutdown(workers(invoke)[0]["id"]), "warm", ex=60)
    assert worker.wait() == 0


def test_who_may_not_publish_stops_workers_all_the_same(
    invoke: Invoke, redis: redis_py.Redis, redis_url: str, start_worker: StartWorker
) -> None:
    worker = start(start_worker, invoke, "-n", "web")
    redis.execute_command("ACL", "SETUSER", "mute", "on", ">x", "~*", "+@all", "-publish")
    try:
        send_shutdown_command(redis_url.replace("unix://", "unix://mute:x@"), "web")
        assert worker.wait() == 0
    finally:
        redis.execute_command("ACL", "DELUSER", "mute")


def test_from_python(invoke: Invoke, redis: redis_py.Redis, start_worker: StartWorker) -> None:
    worker = start(start_worker, invoke, "-n", "web")
    send_shutdown_command(redis, "web")
    assert worker.wait() == 0
    with pytest.raises(NoSuchWorkerError, match="no worker 'web' is running"):
        send_shutdown_command(redis, "web")


# --- names ------------------------------------------------------------------------------------


def test_workers_of_one_name_are_several_and_each_can_be_stopped(
    invoke: Invoke, queue: Queue, start_worker: StartWorker
) -> None:
    first = start(start_worker, invoke, "-n", "same", "a")
    [mine] = workers(invoke)
    second = start(start_worker, invoke, "-n", "same", "b", count=2)
    assert {worker["name"] for worker in workers(invoke)} == {"same"}
    other = next(worker["id"] for worker in workers(invoke) if worker["id"] != mine["id"])
    text = invoke("info").stdout
    assert mine["id"] in text
    assert other in text
    assert "2 running, with " in invoke("doctor").stdout

    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    [left] = workers(invoke)  # at once: the goodbye of the one is not the other's
    assert (left["id"], left["queues"]) == (other, ["b"])
    assert other not in invoke("info").stdout

    start(start_worker, invoke, "-n", "same", "a", count=2)
    assert invoke("stop", other).exit_code == 0
    assert second.wait() == 0
    assert [worker["queues"] for worker in workers(invoke)] == [["a"]]


def test_a_name_stops_all_that_have_it(invoke: Invoke, queue: Queue, start_worker: StartWorker) -> None:
    several = [start(start_worker, invoke, "-n", "same", count=count) for count in (1, 2)]
    done = invoke("stop", "same")
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 2
    assert [worker.wait() for worker in several] == [0, 0]


def test_a_name_that_nobody_has_is_said_and_nobody_is_stopped(
    invoke: Invoke, redis: redis_py.Redis, start_worker: StartWorker
) -> None:
    start(start_worker, invoke, "-n", "web")
    done = invoke("stop", "web", "wbe")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "minirq: no worker 'wbe' is running; running are web\n"
    assert not redis.keys(Keys().shutdown("*"))


def test_a_worker_that_does_not_answer_is_said(invoke: Invoke, redis: redis_py.Redis) -> None:
    gone = {"name": "gone", "queues": '["default"]', "processes": "[1]"}
    redis.hset(Keys().worker("gone:1"), mapping=gone)
    redis.zadd(Keys().workers, {"gone:1": 1})  # last heard of long ago
    done = invoke("stop", "gone")
    assert done.exit_code == 1
    assert "gone:1 has not answered yet" in done.stdout
    assert 0 < redis.ttl(Keys().shutdown("gone:1")) <= 3600


def test_what_a_worker_of_the_first_version_says_is_read(invoke: Invoke, redis: redis_py.Redis) -> None:
    seen = queries.show_worker(Keys(), "old", {"name": "old", "queues": '["a"]'}, now_ms=1, ttl=60)
    for call in seen:
        redis.execute_command(*call.command)
    assert [(worker["name"], worker["id"]) for worker in workers(invoke)] == [("old", "old")]
