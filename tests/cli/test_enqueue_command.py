"""`minirq enqueue`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis as redis_py
from support.command_line import Invoke, Run
from support.waits import until
from support.worker import StartWorker

from minirq import Job, Queue, Retry

Work = Callable[..., None]


def enqueued(invoke: Invoke, redis: redis_py.Redis, *arguments: str) -> Job[object]:
    """Enqueue with these arguments, and return the job that was told."""
    done = invoke("enqueue", "--quiet", *arguments)
    assert done.exit_code == 0, done.output
    return Job.fetch(done.stdout.strip(), redis)


def test_a_job_that_a_worker_runs(run: Run, start_worker: StartWorker, redis: redis_py.Redis) -> None:
    done = run("enqueue", "tasks.add", ":1", "b:=2")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    said, _, job_id = first.rpartition(" ")
    assert said == "Enqueued tasks.add in queue default as"
    assert second == "No worker serves the queue: start one with  minirq worker default"
    assert start_worker("--burst").wait() == 0
    assert Job.fetch(job_id, redis).result == 3


def test_with_a_worker_it_says_how_to_see_it(
    invoke: Invoke, start_worker: StartWorker, queue: Queue, redis: redis_py.Redis
) -> None:
    start_worker()
    until(lambda: redis.zcard("minirq:workers"))
    done = invoke("enqueue", "tasks.add", ":1", ":2", "--job-id", "sum")
    assert done.stdout.splitlines()[1] == "Check it with:  minirq job sum"
    assert Job.fetch("sum", redis).wait(timeout=10) == 3


def test_the_arguments_are_what_they_are_written_as(
    invoke: Invoke, redis: redis_py.Redis, tmp_path: Path
) -> None:
    (tmp_path / "points.json").write_text("[1, 2]")
    words = ["text", ":[1]", "%(1, 2)", f":@{tmp_path}/points.json", "job_id=mine", "args:=2", "--", "-1"]
    job = enqueued(invoke, redis, "jobs.echo", *words)
    assert job.args == ("text", [1], (1, 2), [1, 2], "-1")
    assert job.kwargs == {"job_id": "mine", "args": 2}
    assert job.id != "mine"


def test_options(invoke: Invoke, redis: redis_py.Redis) -> None:
    options = [
        "--queue", "mail", "--timeout", "10m", "--result-ttl", "-1", "--ttl", "1h", "--failure-ttl", "2d",
        "--description", "what it is", "--job-id", "mine", "--retry-max", "3", "--retry-interval", "10s",
        "--retry-interval", "60", "--on-worker-lost", "fail",
    ]  # fmt: skip
    job = enqueued(invoke, redis, "jobs.add", ":1", *options)
    assert (job.id, job.origin, job.timeout, job.description) == ("mine", "mail", 600, "what it is")
    envelope = job._run(job._payload_steps()).options
    assert (envelope.result_ttl, envelope.failure_ttl) == (-1, 2 * 86400)
    assert envelope.retry == Retry(3, [10, 60])
    assert envelope.loss_limit == 0
    assert enqueued(invoke, redis, "jobs.add", "--on-worker-lost", "7")
    left = job._known.expires_at - datetime.now(UTC)  # type: ignore[operator]
    assert timedelta(minutes=59) < left <= timedelta(minutes=61)


def test_a_function_that_workers_refuse_is_warned_of(invoke: Invoke, queue: Queue) -> None:
    done = invoke("enqueue", "os.getpid")
    assert done.stderr.startswith("Warning: workers refuse os.getpid")
    assert queue.count == 1
    assert invoke("enqueue", "jobs.add").stderr == ""


def test_at_front(invoke: Invoke, redis: redis_py.Redis, queue: Queue) -> None:
    for name, option in (("first", []), ("second", ["--at-front"])):
        enqueued(invoke, redis, "jobs.add", "--job-id", name, *option)
    assert queue.job_ids == ["second", "first"]


def test_a_delay_and_a_time(invoke: Invoke, redis: redis_py.Redis, queue: Queue) -> None:
    def due(job: Job[object]) -> float:
        assert job.is_scheduled
        return float(redis.zscore("minirq:{default}:scheduled", job.id) or 0) / 1000

    now = datetime.now(UTC).timestamp()
    assert due(enqueued(invoke, redis, "jobs.add", "--in", "10m")) == pytest.approx(now + 600, abs=30)
    at = enqueued(invoke, redis, "jobs.add", "--at", "2040-01-02T03:04:05Z")
    assert due(at) == datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    local = enqueued(invoke, redis, "jobs.add", "--at", "2040-01-02 03:04:05")
    assert due(local) == datetime(2040, 1, 2, 3, 4, 5).timestamp()


def test_an_id_that_lives_is_left_alone_and_one_that_has_ended_is_not(
    invoke: Invoke, queue: Queue, work: Work
) -> None:
    def told() -> tuple[str, bool]:
        done = invoke("enqueue", "jobs.add", ":1", "--job-id", "mine", "--json")
        facts = json.loads(done.stdout)
        assert facts.keys() == {"id", "queue", "func", "is_new"}
        return facts["id"], facts["is_new"]

    assert told() == ("mine", True)
    assert told() == ("mine", False)
    assert "mine already exists and has not ended" in invoke("enqueue", "jobs.add", "--job-id", "mine").stdout
    assert queue.count == 1
    work()
    assert told() == ("mine", True)


@pytest.mark.parametrize("word", [":{", "a%=(", ":@no-such-file"])
def test_a_bad_argument_is_one_line_that_names_it(invoke: Invoke, queue: Queue, word: str) -> None:
    done = invoke("enqueue", "jobs.add", "x", word)
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: argument a " if word[0] == "a" else f"Error: argument 2 ({word!r})")
    assert queue.count == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--in", "soon"), "'soon' is not a duration"),
        (("--at", "tomorrow"), "'tomorrow' is not a time"),
        (("--in", "1", "--at", "2040-01-01"), "give either --in or --at"),
        (("--in", "1", "--at-front"), "--at-front cannot be combined"),
        (("--retry-interval", "1"), "--retry-interval needs --retry-max"),
        (("--timeout", "-2"), "is negative"),
        (("--on-worker-lost", "ignore"), "give 'retry', 'fail', or how often"),
        (("--on-worker-lost", "101"), "give 'retry', 'fail', or how often"),
    ],
)
def test_wrong_usage(invoke: Invoke, queue: Queue, options: tuple[str, ...], said: str) -> None:
    done = invoke("enqueue", "jobs.add", *options)
    assert (done.exit_code, queue.count) == (2, 0)
    assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-function",), "no-function"),
        (("jobs.add", "--queue", "a b"), "a queue name must not contain spaces"),
        (("jobs.add", "--job-id", "a b"), "a job id must not contain spaces"),
        (("jobs.add", "--timeout", "0"), "job_timeout is 0"),
        (("jobs.add", "%1j"), "complex"),
    ],
)
def test_what_cannot_be_enqueued(invoke: Invoke, queue: Queue, arguments: tuple[str, ...], said: str) -> None:
    done = invoke("enqueue", *arguments)
    assert (done.exit_code, queue.count) == (1, 0)
    [line] = done.stderr.splitlines()
    assert line.startswith("minirq: ")
    assert said in line
