"""The log of a worker: set up where the application has not, with times that say their zone."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jobs
import pytest
from support.worker import StartWorker

from minirq import Queue

_WORK = """
import json, logging, sys
sys.path.insert(0, sys.argv[1])
if sys.argv[4] == "theirs":
    logging.basicConfig(level="WARNING", stream=sys.stderr, format="theirs %(message)s")
import minirq
worker = getattr(minirq, sys.argv[3])(["default"], name="w", connection=sys.argv[2])
worker.work(burst=True, **json.loads(sys.argv[5]))
"""


def work(url: str, kind: str, set_up: str, **options: object) -> list[str]:
    """Run a worker as Python code starts it; return what it wrote to stderr."""
    arguments = [str(Path(jobs.__file__).parent), url, kind, set_up, json.dumps(options)]
    done = subprocess.run(
        [sys.executable, "-c", _WORK, *arguments], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("kind", ["Worker", "SimpleWorker"])
def test_without_logging_of_the_application_it_is_set_up(queue: Queue, redis_url: str, kind: str) -> None:
    job = queue.enqueue(jobs.add, 1, 2)
    lines = work(redis_url, kind, "nothing")
    said = "\n".join(lines)
    assert "worker w started: queues default" in said
    assert f"job {job.id} started: jobs.add" in said
    assert f"job {job.id} finished: jobs.add" in said
    assert lines[-1].endswith("worker w stopped: 1 run, 0 failed")
    for line in lines:
        assert abs((datetime.now(UTC) - datetime.fromisoformat(line[:25])).total_seconds()) < 60
    queue.enqueue(jobs.add, 1, 2)
    assert work(redis_url, kind, "nothing", logging_level="WARNING") == []


@pytest.mark.parametrize("kind", ["Worker", "SimpleWorker"])
def test_the_logging_of_the_application_is_left_alone(queue: Queue, redis_url: str, kind: str) -> None:
    job = queue.enqueue(jobs.fail)
    [line] = work(redis_url, kind, "theirs")
    assert line.startswith(f"theirs job {job.id} failed: jobs.fail after ")


def test_times_are_right_whatever_a_job_does_to_the_zone(queue: Queue, redis_url: str) -> None:
    for zone in ("Asia/Tokyo", "America/New_York", ""):
        queue.enqueue(jobs.move_to, zone)
    lines = work(redis_url, "SimpleWorker", "nothing")
    assert len({line[19:25] for line in lines}) > 1  # it did something
    for line in lines:
        assert abs((datetime.now(UTC) - datetime.fromisoformat(line[:25])).total_seconds()) < 60


def test_a_function_that_is_missed_is_no_failed_run(queue: Queue, start_worker: StartWorker) -> None:
    queue.enqueue("no_such_module.f")
    worker = start_worker(work={"burst": True})
    assert worker.wait() == 0
    assert " 0 failed" in worker.log
