"""What is in Redis and should not be, or is not there and should be. All in one shared worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jobs
import msgpack
import pytest
from support.waits import until
from support.worker import QUICK, WorkerProcess, assert_all_done, lines, python_worker

from minirq import JobStatus, Queue, Retry
from minirq.connection import connect
from minirq.exceptions import SerializationError
from minirq.protocol.keys import Keys
from minirq.protocol.payload import Payload, id_of

KEYS = Keys().of("default")


@pytest.fixture(scope="module")
def worker(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    with connect(redis_url) as client:
        client.flushall()
    environ = {"MINIRQ_MAX_PAYLOAD": "100000"}
    log = tmp_path_factory.mktemp("shared") / "worker.log"
    worker = python_worker(redis_url, (), log, environ, max_payload=100_000, **QUICK)
    yield worker
    worker.kill_all()


@pytest.fixture
def shared(worker: WorkerProcess, redis_url: str) -> Iterator[Queue]:
    with connect(redis_url) as client:
        yield Queue(connection=client)
        assert worker.process.poll() is None
        assert_all_done(client)


def payload(job_id: str, trace: Path, line: str = "run") -> bytes:
    blob = msgpack.packb([None, [str(trace), line], {}])
    return Payload(job_id, "jobs.append", "msgpack", blob).encode()


def ends(queue: Queue, job_id: str) -> str:
    until(lambda: (job := queue.fetch_job(job_id)) is not None and job.is_failed)
    job = queue.fetch_job(job_id)
    assert job is not None
    assert (job.run if hasattr(job, "run") else 1, job.attempts, job.lost) == (1, 1, 0)
    return job.errors[0].message


def test_a_payload_is_cut_short(shared: Queue, trace: Path) -> None:
    raw = payload("cut", trace)
    shared.connection.lpush(KEYS.queue, raw[: len(raw) - 5], raw[:3])
    assert "not msgpack" in ends(shared, "cut")
    assert "payload" in ends(shared, id_of(raw[:3]))
    assert shared.enqueue(jobs.add, 1).wait(10) == 1
    assert not lines(trace)


def test_a_payload_is_garbage(shared: Queue) -> None:
    for raw in (
        b"",
        b"\x00",
        b"\xff" * 100,
        b"\xc1",
        b"{}",
        msgpack.packb([1, 2, 3]),
        b"\xdd\xff\xff\xff\xff",
    ):
        shared.connection.lpush(KEYS.queue, raw)
        assert "payload" in ends(shared, id_of(raw))
    assert shared.enqueue(jobs.add, 1).wait(10) == 1


def test_a_payload_is_of_a_newer_version(shared: Queue) -> None:
    raw = msgpack.packb(["newer", 2, "jobs.add", "msgpack", b"\x93\xc0\x91\x01\x80", {}])
    shared.connection.lpush(KEYS.queue, raw)
    assert "format version 2" in ends(shared, "newer")


def test_the_record_is_gone_while_the_job_waits(shared: Queue, trace: Path) -> None:
    shared.connection.hset(KEYS.meta, "paused", -1)
    job = shared.enqueue(jobs.append, str(trace), "run")
    shared.connection.delete(KEYS.job(job.id))
    shared.resume()
    until(lambda: lines(trace))
    until(lambda: job.get_status() == JobStatus.FINISHED)
    assert lines(trace) == ["run"]


def test_a_job_is_twice_in_the_list(shared: Queue, trace: Path) -> None:
    shared.connection.hset(KEYS.meta, "paused", -1)
    raw = payload("twice", trace)
    shared.connection.lpush(KEYS.queue, raw, raw, raw)
    shared.resume()
    shared.enqueue(jobs.append, str(trace), "after").wait(10)
    shared.connection.lpush(KEYS.queue, raw)  # and once more after it has ended
    until(lambda: shared.count == 0)
    shared.enqueue(jobs.append, str(trace), "last").wait(10)
    assert lines(trace) == ["run", "after", "last"]


def test_a_status_is_not_known(shared: Queue, trace: Path) -> None:
    shared.connection.hset(KEYS.meta, "paused", -1)
    job = shared.enqueue(jobs.append, str(trace), "run")
    shared.connection.hset(KEYS.job(job.id), "status", "of a newer version")
    shared.resume()
    assert shared.enqueue(jobs.add, 1).wait(10) == 1
    # it is kept in sight, and nothing of it is changed
    assert shared.connection.zscore(KEYS.index("unknown"), job.id) is not None
    assert shared.connection.hget(KEYS.job(job.id), "status") == b"of a newer version"
    assert shared.connection.exists(KEYS.payload(job.id))
    assert not lines(trace)


def hurt(queue: Queue, key: str) -> None:
    queue.connection.delete(key)
    queue.connection.set(key, "text")


def test_a_record_is_of_another_type_while_the_job_waits(
    shared: Queue, worker: WorkerProcess, trace: Path
) -> None:
    shared.connection.hset(KEYS.meta, "paused", -1)
    before, broken, after = (shared.enqueue(jobs.append, str(trace), line) for line in ("1", "x", "2"))
    hurt(shared, KEYS.job(broken.id))
    shared.resume()
    after.wait(10)
    assert (before.is_finished, lines(trace)) == (True, ["1", "2"])
    assert f"job {broken.id} (queue default) is set aside" in worker.log
    assert shared.connection.zscore(KEYS.index("unknown"), broken.id) is not None
    shared.connection.delete(KEYS.job(broken.id))


def test_the_errors_of_a_job_are_of_another_type_when_it_fails(
    shared: Queue, worker: WorkerProcess, trace: Path
) -> None:
    job = shared.enqueue(jobs.fail_slowly, str(trace), 0.5)
    hurt(shared, KEYS.errors(job.id))
    until(lambda: job.get_status() == "unknown")
    assert shared.enqueue(jobs.add, 1).wait(10) == 1
    assert f"job {job.id} (queue default) is set aside" in worker.log
    shared.connection.delete(KEYS.errors(job.id))
    assert job.requeue().wait(10) == "second"


def test_an_argument_cannot_be_carried(shared: Queue) -> None:
    before = set(shared.connection.keys("*:{*"))
    for argument in (object(), open, {1: {2: lambda: 0}}, "x" * 20_000_000):
        with pytest.raises(SerializationError):
            shared.enqueue(jobs.echo, argument)
    assert set(shared.connection.keys("*:{*")) == before


@pytest.mark.parametrize(("function", "said"), [("jobs.unserializable", "object"), ("big", "100,000")])
def test_a_result_cannot_be_kept(shared: Queue, trace: Path, function: str, said: str) -> None:
    if function == "big":
        job = shared.enqueue("harmful.big_result", str(trace), retry=Retry(3))
    else:
        job = shared.enqueue(function, retry=Retry(3))
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert job.attempts == 1
    assert "SerializationError" in job.errors[0].exc_type
    assert said in job.errors[0].message
    assert function != "big" or lines(trace) == ["run"]
