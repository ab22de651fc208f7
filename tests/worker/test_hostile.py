"""Payloads that nobody should have pushed: the job fails with its bytes kept, and the worker goes on."""

from __future__ import annotations

import resource

import jobs
import msgpack
import pytest
import redis as redis_py
from support.waits import until
from support.worker import StartWorker

from minirq import Job, JobStatus, Queue, SimpleWorker
from minirq.protocol.payload import id_of
from minirq.protocol.serializers import resolve_serializer
from minirq.worker.settings import WorkerSettings

CALL = resolve_serializer("msgpack").dumps([None, [1], {}], "call")
LIST = "minirq:{default}:queue"


def envelope(*items: object) -> bytes:
    return bytes(msgpack.packb(list(items)))


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


GOOD = envelope("good", 1, "jobs.add", "msgpack", CALL, {})

HOSTILE = {
    "empty": b"",
    "garbage": b"\xc1\xff\x00garbage",
    "cut short": GOOD[:-5],
    "trailing bytes": GOOD + b"\x00",
    "not a list": envelope()[:0] + bytes(msgpack.packb("text")),
    "no id": envelope(None, 1, "jobs.add", "msgpack", CALL, {}),
    "an id that is a number": envelope(7, 1, "jobs.add", "msgpack", CALL, {}),
    "a long id": envelope("x" * 300, 1, "jobs.add", "msgpack", CALL, {}),
    "an id with control characters": envelope("a\x1b[31m\n", 9, "jobs.add", "msgpack", CALL, {}),
    "an id that is not UTF-8": b"\x96\xa2\xff\xfe" + GOOD[6:],
    "unknown version": envelope("v", 2, "jobs.add", "msgpack", CALL, {}),
    "version zero": envelope("v0", 0, "jobs.add", "msgpack", CALL, {}),
    "a function that is a list": envelope("f", 1, ["jobs.add"], "msgpack", CALL, {}),
    "unknown serializer": envelope("s", 1, "jobs.add", "yaml", CALL, {}),
    "pickle": envelope("p", 1, "jobs.add", "pickle", b"cos\nsystem\n(S'true'\ntR.", {}),
    "a blob that is text": envelope("b", 1, "jobs.add", "msgpack", "text", {}),
    "arguments that are garbage": envelope("g", 1, "jobs.add", "msgpack", b"\xc1", {}),
    "arguments of the wrong shape": envelope("w", 1, "jobs.add", "msgpack", msgpack.packb([1]), {}),
    "keywords that are numbers": envelope(
        "k", 1, "jobs.add", "msgpack", msgpack.packb([None, [], {1: 2}]), {}
    ),
    "options of the wrong type": envelope("o", 1, "jobs.add", "msgpack", CALL, {"timeout": "soon"}),
    "a retry that is none": envelope("r", 1, "jobs.add", "msgpack", CALL, {"retry": ["x"]}),
    "options that are a list": envelope("l", 1, "jobs.add", "msgpack", CALL, [1]),
    "the standard library": envelope("os", 1, "os.getpid", "msgpack", CALL, {}),
    "a walk through a module": envelope("walk", 1, "jobs.os.getpid", "msgpack", CALL, {}),
    "a dunder": envelope("d", 1, "jobs.add.__globals__", "msgpack", CALL, {}),
    "deep nesting": nested(100_000),
    "deep nesting in the blob": envelope("n", 1, "jobs.add", "msgpack", nested(5000), {}),
    "a huge length": b"\x96\xa1h\x01\xdb\xff\xff\xff\xff",
    "a huge array": b"\xdd\xff\xff\xff\xff\xa1a",
    "a bomb of empty maps": b"\x96\xa1m\x01" + b"\xdc\xff\xff" + b"\x80" * 0xFFFF + b"\xa1x\xc4\x00\x80",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_payload_fails_and_its_bytes_are_kept(
    redis: redis_py.Redis, raw: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerSettings, "miss_window", 0.0)  # no other worker could know such a function
    redis.lpush(LIST, raw)
    queue = Queue(connection=redis)
    good = queue.enqueue(jobs.add, 1, 2)
    SimpleWorker([queue]).work(burst=True)
    assert good.result == 3
    job = Job.fetch(id_of(raw), redis)
    assert job.get_status() == JobStatus.FAILED
    assert job.errors[0].message
    key = b"minirq:{default}:payload:" + id_of(raw).encode("utf-8", "surrogateescape")
    assert redis.get(key) == raw
    assert not redis.keys("minirq:{default}:processing:*")
    assert all(char.isprintable() for record in caplog.records for char in record.getMessage())


def test_a_large_bomb_costs_a_bounded_amount_of_memory(redis: redis_py.Redis) -> None:
    size = 8 * 1024 * 1024
    blob = b"\xdd" + size.to_bytes(4, "big") + b"\x80" * size
    redis.lpush(LIST, envelope("bomb", 1, "jobs.add", "msgpack", blob, {}))
    redis.lpush(LIST, b"\x96\xa4bom2\x01" + b"\xdd" + size.to_bytes(4, "big") + b"\x80" * size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    SimpleWorker("default", connection=redis).work(burst=True)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 128 * size
    assert Job.fetch("bomb", redis).is_failed
    assert Job.fetch("bom2", redis).is_failed


def test_a_payload_above_the_limit_is_not_read(
    redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = envelope("large", 1, "jobs.add", "msgpack", b"x" * 100_000, {})
    redis.lpush(LIST, raw)
    monkeypatch.setenv("MINIRQ_MAX_PAYLOAD", "64K")
    SimpleWorker("default", connection=redis).work(burst=True)
    assert "65,536" in Job.fetch("large", redis).errors[0].message


def test_a_result_above_the_limit_fails_the_job_and_is_not_tried_again(
    redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIRQ_MAX_PAYLOAD", "64K")
    queue = Queue(connection=redis)
    job = queue.enqueue("jobs.large", 100_000)
    SimpleWorker([queue]).work(burst=True)
    assert job.is_failed
    assert job.attempts == 1
    assert "result cannot be kept" in job.errors[0].message


def test_a_copy_of_a_job_that_ran_does_not_run(redis: redis_py.Redis) -> None:
    queue = Queue(connection=redis)
    job = queue.enqueue(jobs.add, 1)
    copy = redis.lindex(LIST, 0)
    SimpleWorker([queue]).work(burst=True)
    assert copy is not None
    redis.lpush(LIST, copy, copy)
    SimpleWorker([queue]).work(burst=True)
    job.refresh()
    assert (job.attempts, queue.count) == (1, 0)


def test_a_payload_under_the_id_of_a_waiting_job_does_not_run_in_its_place(redis: redis_py.Redis) -> None:
    queue = Queue(connection=redis)
    job = queue.enqueue(jobs.add, 1, 2, job_id="victim-1")
    redis.rpush(LIST, envelope("victim-1", 1, "jobs.echo", "msgpack", CALL, {}))  # comes first
    SimpleWorker([queue]).work(burst=True)
    assert (job.result, job.attempts) == (3, 1)


def test_a_job_pushed_by_hand_runs(redis: redis_py.Redis) -> None:
    redis.lpush(LIST, GOOD)
    SimpleWorker("default", connection=redis).work(burst=True)
    job = Job.fetch("good", redis)
    assert job.result == 1
    assert job.func_name == "jobs.add"


def test_a_worker_with_processes_survives_them_all(redis: redis_py.Redis, start_worker: StartWorker) -> None:
    redis.lpush(LIST, *HOSTILE.values())
    worker = start_worker(processes=2)
    good = Queue(connection=redis).enqueue(jobs.add, 1)
    assert good.wait(20) == 1
    # functions that are not known, or refused, wait for other workers
    until(lambda: redis.zcard("minirq:{default}:failed") >= len(HOSTILE) - 5)
    assert worker.process.poll() is None
