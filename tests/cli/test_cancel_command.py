"""`minirq cancel`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import redis as redis_py
from support.command_line import Invoke
from support.waits import until
from support.worker import StartWorker

from minirq import Queue

Work = Callable[..., None]


def test_jobs_that_wait_or_are_delayed_do_not_run(
    invoke: Invoke, queue: Queue, redis: redis_py.Redis
) -> None:
    waiting = queue.enqueue("jobs.add", 1, job_id="waits")
    delayed = Queue("mail", redis).enqueue_in(60, "jobs.add", 1, job_id="delayed")
    stays = queue.enqueue("jobs.add", 2)
    done = invoke("cancel", "waits", "delayed")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Canceled waits\nCanceled delayed\n", "")
    assert waiting.is_canceled
    assert delayed.is_canceled
    assert queue.job_ids == [stays.id]


def test_of_two_queues_with_the_same_id_one_can_be_named(
    invoke: Invoke, queue: Queue, redis: redis_py.Redis
) -> None:
    first = queue.enqueue("jobs.add", 1, job_id="daily")
    second = Queue("mail", redis).enqueue("jobs.add", 1, job_id="daily")
    assert invoke("cancel", "daily", "--queue", "mail").stdout == "Canceled daily\n"
    assert (first.get_status(), second.get_status()) == ("queued", "canceled")


def test_unknown_and_ended_ids_are_named_and_the_others_are_canceled(
    invoke: Invoke, queue: Queue, work: Work
) -> None:
    queue.enqueue("jobs.add", 1, job_id="ran")
    queue.enqueue("jobs.fail", job_id="failed")
    work()
    queue.enqueue("jobs.add", 1, job_id="gone").cancel()
    waiting = queue.enqueue("jobs.add", 1, job_id="waits")
    done = invoke("cancel", "ran", "failed", "waits", "nobody", "gone", "waits")
    assert done.exit_code == 1
    assert done.stdout == "Canceled waits\n"
    assert done.stderr.splitlines() == [
        "minirq: job ran was not canceled: it is finished already",
        "minirq: job failed was not canceled: it is failed already",
        "minirq: job nobody was not canceled: there is no such job",
        "minirq: job gone was not canceled: it is canceled already",
    ]
    assert waiting.is_canceled


def test_a_job_that_runs_is_interrupted(
    invoke: Invoke, queue: Queue, start_worker: StartWorker, folder: Path
) -> None:
    job = queue.enqueue("tasks.wait_for", str(folder / "gate"), job_id="runs")
    start_worker()
    until((folder / "gate.started").exists)
    done = invoke("cancel", "runs")
    assert (done.exit_code, done.stdout) == (0, "Canceled runs: it is running, and is interrupted\n")
    until(lambda: job.is_canceled)


def test_json(invoke: Invoke, queue: Queue) -> None:
    queue.enqueue("jobs.add", 1, job_id="waits")
    done = invoke("cancel", "--json", "waits", "nobody")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "canceled": [{"id": "waits", "was": "queued"}],
        "refused": [{"id": "nobody", "reason": "there is no such job"}],
    }


def test_without_ids_it_is_wrong_usage(invoke: Invoke) -> None:
    assert invoke("cancel").exit_code == 2
