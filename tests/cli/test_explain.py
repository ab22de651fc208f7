"""`minirq explain`: what keeps a job from running, and what to do."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from support.command_line import Invoke
from support.waits import until
from support.worker import StartWorker

from minirq import Queue, Retry, SimpleWorker
from minirq.client.store import Store
from minirq.protocol import commands, queries
from minirq.protocol.commands import Settlement
from minirq.protocol.keys import Keys
from minirq.protocol.record import Failure

Work = Callable[..., None]


@pytest.fixture
def store(redis: redis_py.Redis) -> Store:
    return Store(redis)


@pytest.fixture
def because(invoke: Invoke) -> Callable[[str], dict[str, str]]:
    """Explain a job; return the reasons by their codes, in order, as text and advice."""

    def because(job_id: str) -> dict[str, str]:
        done = invoke("explain", job_id, "--json")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert told.keys() == {"id", "queue", "status", "func", "reasons"}
        return {reason["code"]: f"{reason['text']} / {reason['advice']}" for reason in told["reasons"]}

    return because


Because = Callable[[str], dict[str, str]]


def pretend_worker(
    store: Store, *queues: str, processes: int = 2, concurrency: int = 1, busy: int = 0, beat_ms: int = 0
) -> None:
    """Have a worker on the list; it beat just now unless told otherwise."""
    now_ms = beat_ms or store.sender.send(queries.server_time())
    portrait: dict[str, Any] = {
        "queues": json.dumps(queues or ["default"]),
        "processes": json.dumps(list(range(1, processes + 1))),
        "concurrency": json.dumps(concurrency),
        "busy": json.dumps([[f"j{n}", "default", 1.0] for n in range(busy)]),
    }
    store.sender.send_all(queries.show_worker(store.keys, "w.1", portrait, now_ms=now_ms, ttl=60))


def claim(store: Store, owner: str = "w.1:7:abc") -> commands.Claimed:
    """Have an owner claim a job, as a process of worker w.1 does."""
    keys = [store.keys.of("default")]
    store.sender.send(commands.beat(keys, [owner], lease=60, worker="w", new=[owner]))
    [claimed] = store.sender.send(commands.finish(keys, owner, [], want=1)).claim.jobs
    return claimed


def settle(store: Store, claimed: commands.Claimed, verb: Any, **fields: Any) -> None:
    blob = Failure("minirq.exceptions.FunctionNotFound", "no module named gone").encode()
    settlement = Settlement(0, claimed.id, claimed.run, verb, blob, **fields)
    store.sender.send(commands.finish([store.keys.of("default")], "w.1:7:abc", [settlement], want=0))


# --- jobs that wait ---------------------------------------------------------------------------


def test_nobody_serves_the_queue(queue: Queue, invoke: Invoke) -> None:
    queue.enqueue("jobs.add", 1, job_id="mine")
    done = invoke("explain", "mine")
    assert (done.exit_code, done.stdout) == (
        0,
        "Job mine (jobs.add) is queued in queue default.\n"
        "No worker serves its queue.\n"
        "  Start one: minirq worker default\n",
    )


def test_the_queue_is_suspended(queue: Queue, store: Store, because: Because) -> None:
    job = queue.enqueue("jobs.add", 1)
    pretend_worker(store)
    queue.pause()
    told = because(job.id)
    assert told == {
        "paused": "Its queue is suspended until it is resumed. / To resume: minirq resume default"
    }
    queue.pause(60)
    assert "suspended until 2" in because(job.id)["paused"]


def test_others_are_before_it(queue: Queue, store: Store, because: Because) -> None:
    jobs = [queue.enqueue("jobs.add", n) for n in range(3)]
    pretend_worker(store, "mail", "default", processes=2, busy=1)
    assert because(jobs[2].id) == {
        "behind": "2 jobs run before it. 2 processes serve the queue, 1 of them busy."
        " mail may be served first. / Wait, or start another worker: minirq worker default"
    }
    pretend_worker(store, processes=2, busy=3, concurrency=10)
    assert "2 processes serve the queue, 3 of 20 places busy." in because(jobs[2].id)["behind"]
    pretend_worker(store, processes=1)
    assert because(jobs[0].id) == {
        "next": "It runs next. 1 process serves the queue, 0 of them busy. / Wait."
    }


def test_the_workers_are_silent(queue: Queue, store: Store, because: Because) -> None:
    job = queue.enqueue("jobs.add", 1)
    pretend_worker(store, beat_ms=int(time.time() * 1000) - 30_000)
    assert "sent no heartbeat for 30 s" in because(job.id)["late-workers"]


def test_it_runs_alone_after_a_death(queue: Queue, store: Store, because: Because) -> None:
    job = queue.enqueue("jobs.add", 1)
    claimed = claim(store)
    evidence = Failure("Lost", "killed by SIGKILL", kind="lost").encode()
    bury = {"evidence": evidence, "pause": 0.0}
    keys = store.keys.of("default")
    store.sender.send(commands.take_back(keys, "w.1:7:abc", blamed=[(job.id, claimed.run)], **bury))  # type: ignore[arg-type]
    pretend_worker(store)
    told = because(job.id)
    assert list(told) == ["alone", "next"]
    assert told["alone"].startswith("It was running when 1 process died, so it now runs alone")


def test_it_is_brought_just_now(queue: Queue, redis: redis_py.Redis, store: Store, because: Because) -> None:
    job = queue.enqueue("jobs.add", 1)
    pretend_worker(store)
    redis.lmove("minirq:{default}:queue", "minirq:{default}:processing:w.1:7:abc", "RIGHT", "LEFT")
    assert list(because(job.id)) == ["moving"]


# --- jobs that wait for their time ------------------------------------------------------------


def test_a_delay(queue: Queue, store: Store, because: Because) -> None:
    pretend_worker(store)
    job = queue.enqueue_in(300, "jobs.add", 1)
    assert because(job.id) == {"delayed": "It was enqueued with a delay, and is due in 5 min. / "}


def test_a_retry_after_a_failure(queue: Queue, store: Store, work: Work, because: Because) -> None:
    job = queue.enqueue("jobs.fail", retry=Retry(3, interval=300))
    work()
    pretend_worker(store)
    [(code, text)] = because(job.id).items()
    assert code == "retry"
    assert text.startswith("Attempt 1 failed, and it is tried again in 5 min. The last error: ValueError: no")


def test_a_function_that_no_worker_has_known_yet(queue: Queue, store: Store, because: Because) -> None:
    job = queue.enqueue("gone.away")
    settle(store, claim(store), "miss", seconds=60)
    pretend_worker(store)
    [(code, text)] = because(job.id).items()
    assert code == "missed"
    assert text.startswith(
        "No worker that took it could import its function gone.away or was allowed to run it, for 0 s now."
        " It is tried again in "
    )
    assert "minirq worker --path DIRECTORY default" in text


def test_a_pause_after_deaths(queue: Queue, store: Store, because: Because) -> None:
    job = queue.enqueue("jobs.add", 1)
    keys, evidence = store.keys.of("default"), Failure("Lost", "killed", kind="lost").encode()
    for owner in ("w:1:a", "w:1:b"):
        claimed = claim(store, owner)
        blamed = [(job.id, claimed.run)]
        store.sender.send(commands.take_back(keys, owner, blamed=blamed, evidence=evidence, pause=60.0))
    assert list(because(job.id)) == ["pause", "no-worker"]
    assert "has died 2 times" in because(job.id)["pause"]


def test_nobody_moves_what_is_due(
    queue: Queue, redis: redis_py.Redis, store: Store, because: Because
) -> None:
    job = queue.enqueue_in(60, "jobs.add", 1)
    redis.zadd("minirq:{default}:scheduled", {job.id: time.time() * 1000 - 60_000})
    assert list(because(job.id)) == ["delayed", "late", "no-worker"]
    assert "It was due 60 s ago" in because(job.id)["late"]


# --- jobs that run ----------------------------------------------------------------------------


def test_it_runs(queue: Queue, start_worker: StartWorker, folder: Path, because: Because) -> None:
    job = queue.enqueue("tasks.wait_for", str(folder / "gate"))
    worker = start_worker("--name", "web")
    until((folder / "gate.started").exists)
    assert because(job.id) == {"running": "It has been running on worker web for 0 s. / Nothing to do."}
    worker.signal(signal.SIGSTOP)  # so that nobody interrupts it
    job.cancel()
    assert list(because(job.id)) == ["canceled-running"]


def test_the_lease_of_its_worker_has_run_out(
    queue: Queue, redis: redis_py.Redis, store: Store, because: Because
) -> None:
    job = queue.enqueue("jobs.add", 1)
    claim(store)
    redis.zadd("minirq:{default}:owners", {"w.1:7:abc": time.time() * 1000 - 20_000})
    [(code, text)] = because(job.id).items()
    assert code == "frozen"
    assert "Worker w.1 runs it and has sent no heartbeat: its lease expired 20 s ago" in text
    assert text.endswith("Start a worker: minirq worker default")
    redis.zadd("minirq:{default}:owners", {"w.1:7:abc": -1})
    assert list(because(job.id)) == ["dead"]


# --- jobs that have ended ---------------------------------------------------------------------


def test_it_has_run(queue: Queue, work: Work, because: Because) -> None:
    good, bad = queue.enqueue("jobs.add", 1), queue.enqueue("jobs.fail", "no\nway")
    work()
    assert because(good.id)["finished"].startswith("It ran and finished 0 s ago.")
    text = because(bad.id)["failed"]
    assert text.startswith("It failed 0 s ago: ValueError: no\\nway / See the traceback: minirq job ")
    assert text.endswith(f"minirq requeue {bad.id}")


def test_its_function_is_unknown(queue: Queue, because: Because) -> None:
    job = queue.enqueue("gone.away")
    queue.connection.hset(Keys().of("default").job(job.id), "missed", "1 0")  # long ago
    SimpleWorker([queue]).work(max_jobs=1)
    [(code, text)] = because(job.id).items()
    assert code == "unknown-function"
    assert "gone" in text
    assert "Deploy the function." in text


def test_it_was_canceled_and_is_being_cleared(queue: Queue, store: Store, because: Because) -> None:
    job = queue.enqueue("jobs.add", 1)
    store.sender.send(commands.cancel(store.keys.of("default"), job.id))
    assert list(because(job.id)) == ["clearing"]
    job.cancel()
    [(code, text)] = because(job.id).items()
    assert code == "canceled"
    assert text.endswith(f"Run it again: minirq requeue {job.id}")
    forgotten = queue.enqueue("jobs.add", 1, failure_ttl=0)
    forgotten.cancel()
    assert list(because(forgotten.id)) == ["canceled"]


def test_it_has_expired(queue: Queue, because: Because) -> None:
    job = queue.enqueue("jobs.add", 1, ttl="1ms")
    until(lambda: job.is_expired)
    assert list(because(job.id)) == ["expired"]


def test_a_status_of_a_newer_version(queue: Queue, redis: redis_py.Redis, because: Because) -> None:
    job = queue.enqueue("jobs.add", 1)
    redis.hset(f"minirq:{{default}}:job:{job.id}", "status", "parked\x1b")
    assert "'parked\\\\x1b'" in because(job.id)["unknown-status"]


# --- for all ----------------------------------------------------------------------------------


def test_nobody_knows_the_job(invoke: Invoke) -> None:
    done = invoke("explain", "nobody")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no job has the id 'nobody'" in done.stderr


def test_what_an_id_could_do_to_a_shell_is_quoted(queue: Queue, invoke: Invoke, work: Work) -> None:
    queue.enqueue("jobs.fail", job_id="-a;b")
    work()
    assert "minirq requeue -- '-a;b'" in invoke("explain", "--", "-a;b").stdout


def test_it_changes_nothing(queue: Queue, redis: redis_py.Redis, invoke: Invoke) -> None:
    ids = [queue.enqueue("jobs.add", 1, ttl="1ms").id, queue.enqueue_in(60, "jobs.add").id]
    before = {key: redis.dump(key) for key in redis.keys()}
    for job_id in ids:
        assert invoke("explain", job_id).exit_code == 0
    assert {key: redis.dump(key) for key in redis.keys()} == before
