"""Queues that hand out no jobs: `minirq suspend` and `resume`, `Queue.pause`, and RQ's `suspension`."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
import redis as redis_py
from support.command_line import Invoke
from support.timing import since, within
from support.waits import until
from support.worker import StartWorker

from minirq import Queue, suspension
from minirq.exceptions import InvalidOption


def blocked(redis: redis_py.Redis, command: str, count: int = 1) -> bool:
    """Whether so many connections wait in this command."""
    waiting = [
        client for client in redis.client_list() if client["cmd"] == command and "b" in client["flags"]
    ]
    return len(waiting) == count


def calls(redis: redis_py.Redis) -> int:
    """How many commands the server has run, without those of who asks and those inside scripts."""
    stats = redis.info("commandstats")
    asked = ("evalsha", "blmove", "bzpopmin", "zadd", "sadd", "hset", "zrange", "publish", "rpush", "lpush")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in asked)


# --- what a worker does -----------------------------------------------------------------------


def test_a_worker_that_waits_on_the_queue_runs_not_one_more_job(
    invoke: Invoke, queue: Queue, redis: redis_py.Redis, start_worker: StartWorker
) -> None:
    start_worker()
    until(lambda: blocked(redis, "blmove"))
    assert invoke("suspend", "default").exit_code == 0

    jobs = [queue.enqueue("tasks.add", n, 1) for n in range(3)]
    # the first one is brought to the worker, which gives it back and turns to the bell
    until(lambda: blocked(redis, "bzpopmin"))
    until(lambda: queue.count == 3)
    assert [job.get_status() for job in jobs] == ["queued"] * 3
    assert queue.job_ids == [job.id for job in jobs]
    assert [job.attempts for job in jobs] == [0, 0, 0]


def test_nothing_storms_while_it_is_suspended_and_resume_wakes_at_once(
    invoke: Invoke, queue: Queue, redis: redis_py.Redis, start_worker: StartWorker
) -> None:
    start_worker("-p", "2")
    until(lambda: blocked(redis, "blmove", 2))
    invoke("suspend")
    jobs = [queue.enqueue("tasks.add", n, 1) for n in range(20)]
    until(lambda: blocked(redis, "bzpopmin", 2))

    before = calls(redis)
    time.sleep(1.5)  # that nothing happens takes time to see
    # a beat may fall into it
    assert calls(redis) - before <= 15
    assert {job.get_status() for job in jobs} == {"queued"}

    started = time.monotonic()
    assert invoke("resume").stdout == "Resumed default.\n"
    assert [job.wait(timeout=10) for job in jobs] == [n + 1 for n in range(20)]
    assert within(2, started)


def test_a_duration_ends_by_itself(
    invoke: Invoke, queue: Queue, redis: redis_py.Redis, start_worker: StartWorker
) -> None:
    start_worker()
    until(lambda: blocked(redis, "blmove"))
    started = time.monotonic()
    assert "until 2" in invoke("suspend", "default", "--duration", "700ms").stdout
    job = queue.enqueue("tasks.add", 1, 2)
    assert queue.is_paused
    assert job.wait(timeout=10) == 3
    assert since(started) > 0.65
    assert within(3, started)
    assert not queue.is_paused


def test_other_queues_of_the_same_worker_are_served(
    invoke: Invoke, redis: redis_py.Redis, start_worker: StartWorker
) -> None:
    held, served = Queue("held", redis), Queue("served", redis)
    start_worker("held", "served")
    until(lambda: blocked(redis, "bzpopmin"))
    invoke("suspend", "held")
    waiting = held.enqueue("tasks.add", 1, 2)
    assert served.enqueue("tasks.add", 1, 2).wait(timeout=10) == 3
    assert waiting.is_queued
    invoke("resume", "held")
    assert waiting.wait(timeout=10) == 3


# --- the command line -------------------------------------------------------------------------


def test_without_names_all_known_queues_are_meant(invoke: Invoke, redis: redis_py.Redis) -> None:
    queues = [Queue(name, redis) for name in ("a", "b")]
    for queue in queues:
        queue.enqueue("jobs.add", 1)
    done = invoke("suspend")
    assert done.stdout == "Suspended a, b.\nTo resume:  minirq resume\n"
    assert [queue.is_paused for queue in queues] == [True, True]
    assert invoke("resume", "a").stdout == "Resumed a.\n"
    assert invoke("resume").stdout == "Resumed b.\n"
    assert invoke("resume").stdout == "a, b: not suspended.\n"


def test_without_any_queue_it_says_that_nothing_was_done(invoke: Invoke) -> None:
    for command in ("suspend", "resume"):
        done = invoke(command)
        assert done.exit_code == 1
        assert "there is no queue yet" in done.stderr


@pytest.mark.parametrize(
    "call",
    [
        ("suspend",),
        ("resume",),
        ("info",),
        ("info", "--json"),
        ("empty", "--yes"),
        ("requeue", "--all", "--queue"),
    ],
)
def test_a_name_that_no_queue_has_is_said_and_nothing_is_done(
    invoke: Invoke, redis: redis_py.Redis, call: tuple[str, ...]
) -> None:
    Queue("mail", redis).enqueue("jobs.add", 1)
    before = {key: redis.dump(key) for key in redis.keys()}
    more = ("mial",) if call[0] == "requeue" else ("mail", "mial")
    done = invoke(*call, *more)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "minirq: there is no queue mial (known: mail)\n"
    assert {key: redis.dump(key) for key in redis.keys()} == before


def test_a_queue_that_only_foreign_producers_have_used_is_one(invoke: Invoke, redis: redis_py.Redis) -> None:
    redis.lpush("minirq:{new}:queue", b"a payload")
    assert "To resume:  minirq resume new" in invoke("suspend", "new").stdout
    assert Queue("new", redis).is_paused
    assert invoke("resume").stdout == "Resumed new.\n"


def test_json(invoke: Invoke, redis: redis_py.Redis) -> None:
    redis.sadd("minirq:queues", "a", "b")
    assert json.loads(invoke("suspend", "a", "--json").stdout) == {"suspended": ["a"], "until": None}
    assert json.loads(invoke("suspend", "a", "--duration", "1h", "--json").stdout)["until"].endswith("+00:00")
    assert json.loads(invoke("resume", "a", "b", "--json").stdout) == {"resumed": ["a"]}


@pytest.mark.parametrize("duration", ["0", "-1", "soon"])
def test_a_duration_that_makes_no_sense(invoke: Invoke, redis: redis_py.Redis, duration: str) -> None:
    redis.sadd("minirq:queues", "a")
    assert invoke("suspend", "a", "--duration", duration).exit_code == 2
    assert not Queue("a", redis).is_paused


# --- Python -----------------------------------------------------------------------------------


def test_a_queue_is_paused_and_resumed(queue: Queue) -> None:
    assert not queue.is_paused
    queue.pause()
    assert queue.is_paused
    queue.resume()
    assert not queue.is_paused
    queue.resume()
    queue.pause("10m")
    assert queue.is_paused
    queue.pause(timedelta(milliseconds=20))
    until(lambda: not queue.is_paused)
    for wrong in (0, -1, "soon"):
        with pytest.raises(InvalidOption):
            queue.pause(wrong)
    assert not queue.is_paused


def test_suspension_is_that_of_rq(redis: redis_py.Redis) -> None:
    queues = [Queue(name, redis) for name in ("a", "b")]
    assert not suspension.is_suspended(redis)
    for queue in queues:
        queue.enqueue("jobs.add", 1)
    suspension.suspend(redis)
    assert suspension.is_suspended(redis)
    queues[0].resume()
    assert not suspension.is_suspended(redis)
    suspension.resume(redis)
    assert [queue.is_paused for queue in queues] == [False, False]
    suspension.suspend(redis, ttl=60)
    assert 0 < float(redis.hget("minirq:{b}:meta", "paused") or 0) / 1000 - time.time() <= 61
