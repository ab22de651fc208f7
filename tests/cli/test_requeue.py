"""`minirq requeue`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis as redis_py
from click.testing import CliRunner
from support.command_line import Run

from minirq import Queue
from minirq.cli.main import cli
from minirq.protocol.keys import Keys

Work = Callable[..., None]


def test_failed_jobs_run_again_from_zero(queue: Queue, work: Work, run: Run) -> None:
    jobs = [queue.enqueue("jobs.fail") for _ in range(3)]
    work()
    done = run("requeue", jobs[0].id, jobs[1].id)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Requeued 2 jobs.\n", "")
    assert [job.get_status() for job in jobs] == ["queued", "queued", "failed"]
    assert jobs[0].attempts == 0
    work()
    assert jobs[0].is_failed


def test_what_cannot_be_requeued_is_named_with_the_reason_and_the_others_are_requeued(
    queue: Queue, redis: redis_py.Redis, work: Work, run: Run
) -> None:
    queue.enqueue("jobs.fail", job_id="good")
    queue.enqueue("jobs.fail", job_id="emptied")
    work()
    redis.delete(Keys().of("default").payload("emptied"))
    queue.enqueue("jobs.add", 1, 2, job_id="waits")

    done = run("requeue", "nobody", "good", "waits", "emptied", "good")

    assert done.returncode == 1
    assert done.stdout == "Requeued 1 job.\n"
    assert set(done.stderr.splitlines()) == {
        "minirq: job nobody was not requeued: there is no such job",
        "minirq: job waits was not requeued: it is queued",
        "minirq: job emptied was not requeued: its arguments were not kept",
    }
    assert queue.job_ids == ["waits", "good"]


def test_a_job_with_a_broken_key_is_shown_and_comes_back_once_the_key_is_gone(
    queue: Queue, redis: redis_py.Redis, work: Work, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    broken, good = queue.enqueue("jobs.add", 1, 2, job_id="broken"), queue.enqueue("jobs.add", 3, 4)
    record = Keys().of("default").job("broken")
    redis.delete(record)
    redis.set(record, "text")
    work()
    assert good.result == 7
    errors = [entry.getMessage() for entry in caplog.records if entry.levelname == "ERROR"]
    assert errors == [
        "job broken (queue default) is set aside: one of its keys is of another type (WRONGTYPE)."
        " Once that is mended, run it with: minirq requeue broken"
    ]
    assert "  1 set aside: minirq doctor says which\n" in run("info").stdout
    done = run("doctor")
    assert done.returncode == 1
    assert "1 job is set aside: they have keys that cannot be read" in done.stdout
    assert "minirq requeue broken" in done.stdout

    redis.delete(record)
    done = run("requeue", "broken")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Requeued 1 job.\n", "")
    work()
    assert broken.result == 3
    assert "set aside" not in run("info").stdout


def test_all_of_every_queue_or_of_one(redis: redis_py.Redis, work: Work, run: Run) -> None:
    queues = [Queue(name, redis) for name in ("a", "b")]
    for queue in queues:
        queue.enqueue("jobs.fail")
        queue.enqueue("jobs.add", 1, 2)
    work("a", "b")
    assert run("requeue", "--all", "--queue", "a").stdout == "Requeued 1 job.\n"
    assert [queue.count for queue in queues] == [1, 0]
    work("a")
    assert run("requeue", "--all").stdout == "Requeued 2 jobs.\n"
    assert [queue.count for queue in queues] == [1, 1]
    done = run("requeue", "--all")
    assert (done.returncode, done.stdout) == (0, "Nothing was requeued.\n")


def test_all_passes_over_a_name_that_is_not_text(
    queue: Queue, redis: redis_py.Redis, work: Work, run: Run
) -> None:
    queue.enqueue("jobs.fail")
    work()
    redis.sadd(Keys().queues, b"\xff")
    assert run("requeue", "--all").stdout == "Requeued 1 job.\n"


def test_all_goes_in_chunks(
    queue: Queue, redis_url: str, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minirq.cli.jobs.CHUNK", 2)
    for _ in range(5):
        queue.enqueue("jobs.fail")
    work()
    result = CliRunner().invoke(cli, ["requeue", "--all", "--url", redis_url])
    assert (result.exit_code, result.stdout) == (0, "Requeued 5 jobs.\n")
    assert queue.count == 5


def test_an_id_of_another_queue_is_unknown_to_this_one(queue: Queue, work: Work, run: Run) -> None:
    job = queue.enqueue("jobs.fail")
    work()
    queue.connection.sadd("minirq:queues", "emails")
    done = run("requeue", "--queue", "emails", job.id)
    assert done.returncode == 1
    assert "there is no such job in queue emails" in done.stderr
    assert job.is_failed


def test_json(queue: Queue, work: Work, run: Run) -> None:
    queue.enqueue("jobs.fail", job_id="good")
    work()
    done = run("requeue", "good", "nobody", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "requeued": ["good"],
        "refused": [{"id": "nobody", "reason": "there is no such job"}],
    }


@pytest.mark.parametrize("arguments", [(), ("--all", "id"), ("--queue", "default")])
def test_neither_or_both_is_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    done = run("requeue", *arguments)
    assert done.returncode == 2
    assert "give either the IDs of jobs or --all" in done.stderr
