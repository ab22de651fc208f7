"""`minirq job`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import redis as redis_py
from support.command_line import Run
from support.waits import until
from support.worker import StartWorker

from minirq import Queue, Retry
from minirq.protocol.keys import Keys

Work = Callable[..., None]


def facts(run: Run, *arguments: str) -> dict[str, Any]:
    done = run("job", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_failed_job_shows_its_errors_and_what_to_do_next(queue: Queue, work: Work, run: Run) -> None:
    queue.enqueue("jobs.fail", "first line\nsecond line", job_id="bad", retry=Retry(1), meta={"by": "me"})
    work()
    done = run("job", "bad")
    assert done.returncode == 0
    assert "status        failed\n" in done.stdout
    assert "queue         default\n" in done.stdout
    assert "function      jobs.fail\n" in done.stdout
    assert "attempts      2\n" in done.stdout
    assert "limits        timeout 3 min, result kept 500 s, failure kept 30 d\n" in done.stdout
    assert "meta          {'by': 'me'}\n" in done.stdout
    assert done.stdout.count("ValueError: first line\\nsecond line\n") == 2  # both errors
    assert done.stdout.count("Traceback (most recent call last):\n") == 1  # of the last one
    assert "\n  ValueError: first line\n  second line\n" in done.stdout
    assert done.stdout.endswith("Run it again:  minirq requeue bad\n")


def test_a_waiting_job_shows_its_place(queue: Queue, run: Run) -> None:
    jobs = [queue.enqueue("jobs.add", 1, 2) for _ in range(3)]
    assert "status        queued, next to run\n" in run("job", jobs[0].id).stdout
    assert "status        queued, 2 before it\n" in run("job", jobs[2].id).stdout
    assert facts(run, jobs[2].id)["position"] == 2


def test_a_scheduled_job_shows_when_it_is_due(queue: Queue, run: Run) -> None:
    job = queue.enqueue_in(7500, "jobs.add", 1, 2)
    assert "(in 2 h)" in run("job", job.id).stdout
    seen = facts(run, job.id)
    due = datetime.fromisoformat(seen["due_at"]) - datetime.fromisoformat(seen["created_at"])
    assert due.total_seconds() == 7500


def test_a_running_job_shows_its_worker(
    queue: Queue, start_worker: StartWorker, run: Run, folder: Path
) -> None:
    job = queue.enqueue("tasks.wait_for", str(folder / "gate"))
    start_worker("-n", "web-1")
    until((folder / "gate.started").exists)
    text = run("job", job.id).stdout
    assert "status        started\n" in text
    assert "worker        web-1\n" in text


def test_arguments_and_result_are_shown_when_asked_for(queue: Queue, work: Work, run: Run) -> None:
    queue.enqueue("jobs.echo", "hunter2", key="s3cret", job_id="j")
    work()
    assert "hunter2" not in run("job", "j").stdout
    assert not {"args", "kwargs", "result"} & facts(run, "j").keys()
    text = run("job", "j", "--args").stdout
    assert "arguments     ['hunter2']\n" in text
    assert "keywords      {'key': 's3cret'}\n" in text
    assert "result        [['hunter2'], {'key': 's3cret'}]\n" in text
    seen = facts(run, "j", "--args")
    assert (seen["args"], seen["kwargs"]) == (["hunter2"], {"key": "s3cret"})
    assert seen["result"] == [["hunter2"], {"key": "s3cret"}]


def test_a_long_result_is_cut(queue: Queue, work: Work, run: Run) -> None:
    queue.enqueue("jobs.echo", "x" * 5000, job_id="j")
    work()
    [line] = [line for line in run("job", "j", "--args").stdout.splitlines() if line.startswith("result")]
    assert len(line) < 220
    assert line.endswith("…")


def test_the_help_warns_of_secrets(run: Run) -> None:
    assert "secrets" in run("job", "--help").stdout


def test_values_that_json_has_no_form_for_are_shown_as_text(queue: Queue, run: Run) -> None:
    queue.enqueue("jobs.echo", b"\x00", float("inf"), {1: (2, 3)}, job_id="j")
    assert facts(run, "j", "--args")["args"] == ["b'\\x00'", "inf", {"1": [2, 3]}]


def test_a_number_too_long_for_text_does_not_end_the_command(
    queue: Queue, redis: redis_py.Redis, run: Run
) -> None:
    queue.enqueue("jobs.echo", 10**6000, {10**6000: 1}, job_id="j", meta={"n": 10**6000})
    shown = facts(run, "j", "--args")
    assert shown["args"] == ["<int>", {"<int>": 1}]
    assert shown["meta"] == {"n": "<int>"}


def test_what_was_pickled_is_not_read(redis: redis_py.Redis, run: Run) -> None:
    job = Queue(connection=redis, serializer="pickle").enqueue("jobs.add", 1, 2, meta={"k": "v"})
    text = run("job", job.id, "--args").stdout
    assert "function      jobs.add\n" in text
    assert text.count("(this was written with pickle, which can run code") == 3
    assert facts(run, job.id, "--args")["args"] is None


def test_a_job_without_its_payload_is_shown_all_the_same(
    queue: Queue, redis: redis_py.Redis, work: Work, run: Run
) -> None:
    queue.enqueue("jobs.fail", job_id="bad")
    work()
    redis.delete(Keys().of("default").payload("bad"))
    text = run("job", "bad", "--args").stdout
    assert "arguments     (the arguments of job bad were not kept)" in text
    assert text.endswith("It cannot be run again: its arguments were not kept.\n")


def test_looking_changes_nothing(queue: Queue, redis: redis_py.Redis, work: Work, run: Run) -> None:
    queue.enqueue("jobs.fail", job_id="bad")
    work()
    before = {key: redis.dump(key) for key in redis.keys()}
    assert run("job", "bad", "--args").returncode == 0
    assert {key: redis.dump(key) for key in redis.keys()} == before


def test_an_unknown_id_is_one_line(run: Run) -> None:
    done = run("job", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "minirq: no job has the id 'nobody': it never existed, was deleted, or has expired\n"
    )


def test_an_id_that_a_shell_would_take_for_more_is_quoted(
    queue: Queue, redis: redis_py.Redis, run: Run
) -> None:
    keys = Keys().of("default")
    redis.sadd(Keys().queues, "default")
    for job_id in ("a;reboot", "-x"):
        redis.hset(keys.job(job_id), mapping={"status": "failed", "func": "f.g"})
        redis.set(keys.payload(job_id), bytes.fromhex("96a16101a3662e67a76d73677061636bc40080"))
    assert run("job", "a;reboot").stdout.endswith("minirq requeue 'a;reboot'\n")
    assert run("job", "--", "-x").stdout.endswith("minirq requeue -- -x\n")
