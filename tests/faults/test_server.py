"""What the server does: it ends, comes back with or without its data, is full, forbids, or is not itself."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jobs
import pytest
import redis as redis_py
from support import APP
from support.own_server import OwnServer
from support.proxy import Proxy
from support.timing import recovered, since
from support.waits import until
from support.worker import LEASE, StartWorker, assert_all_done, is_waiting, lines

from minirq import JobStatus, Queue, Retry, SimpleWorker
from minirq.connection import connect
from minirq.exceptions import AccessDenied, QueueFull, ServerFault, ServerUnavailable
from minirq.protocol.keys import Keys

OWNERS = Keys().of("default").owners


@pytest.fixture
def own(own_server: OwnServer) -> Iterator[Queue]:
    """A queue of a server that the test may kill."""
    with connect(own_server.url) as client:
        yield Queue(connection=client)


def test_the_server_is_killed_and_comes_back_with_its_data(
    own_server: OwnServer, own: Queue, start: StartWorker, trace: Path
) -> None:
    start(url=own_server.url, processes=2)
    made = [own.enqueue("harmful.trace_and_sleep", str(trace), 0.05) for _ in range(20)]
    until(lambda: len(lines(trace)) >= 4)
    own_server.kill()
    time.sleep(0.3)
    own_server.start()
    began = time.monotonic()
    ran = len(lines(trace))
    until(lambda: len(lines(trace)) > ran)
    recovered("a server that was started again", since(began), 2.5)
    assert [job.wait(10) for job in made] == ["slept"] * 20
    assert len(lines(trace)) == 20
    assert_all_done(own.connection)


def test_the_server_is_away_for_seconds_while_jobs_run(
    own_server: OwnServer, own: Queue, start: StartWorker, trace: Path
) -> None:
    worker = start(url=own_server.url)
    until(lambda: is_waiting(own.connection))
    job = own.enqueue("harmful.trace_and_sleep", str(trace), 0.3)
    until(lambda: len(lines(trace)) == 1)
    own_server.kill()
    with pytest.raises(ServerUnavailable):
        Queue(connection=own_server.url).enqueue(jobs.add, 1)
    time.sleep(max(0.0, 2 * LEASE - 2))
    own_server.start()
    assert job.wait(10) == "slept"  # the result was kept meanwhile
    assert len(lines(trace)) == 1
    job.refresh()
    assert (job.attempts, job.lost) == (1, 0)
    assert "waiting for it" in worker.log
    until(lambda: "Redis is back" in worker.log)


#: `minirq` with another time for bursts to wait, seconds
IMPATIENT = """
import sys
from minirq.cli.main import main
from minirq.worker import settings
settings.BURST_PATIENCE = float(sys.argv.pop(1))
main()
"""


def test_a_burst_finds_nobody(own_server: OwnServer) -> None:
    own_server.kill()
    command = [sys.executable, "-c", IMPATIENT, "1", "worker", "--burst", "--url", own_server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("minirq: Redis at unix://")
    assert done.stderr.splitlines()[-1].endswith("; a burst waits for 1 s")


@pytest.mark.parametrize("options", [(), ("-c", "3")], ids=["one by one", "together"])
def test_the_server_ends_during_a_burst(
    own_server: OwnServer, own: Queue, trace: Path, options: tuple[str, ...]
) -> None:
    own.enqueue("harmful.trace_and_sleep", str(trace), 0.5)
    paths = [f"--path={APP}"]
    command = [sys.executable, "-c", IMPATIENT, "1", "worker", "--burst", *paths, *options]
    with subprocess.Popen([*command, "--url", own_server.url], stderr=subprocess.PIPE, text=True) as worker:
        until(lambda: len(lines(trace)) == 1)
        own_server.kill()
        _, said = worker.communicate(timeout=20)
    assert worker.returncode == 1
    assert said.splitlines()[-1].endswith("; a burst waits for 1 s")
    own_server.start()
    assert own.connection.llen(next(iter(own.connection.keys("*processing*")))) == 1  # nothing is lost


def test_the_server_ends_during_a_burst_of_a_simple_worker(
    own_server: OwnServer, own: Queue, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minirq.worker.settings.BURST_PATIENCE", 1.0)
    monkeypatch.syspath_prepend(str(APP))
    own.enqueue("harmful.trace_and_sleep", str(trace), 0.5)

    def kill() -> None:
        until(lambda: len(lines(trace)) == 1)
        own_server.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ServerUnavailable, match="a burst waits for 1 s"):
        SimpleWorker([own]).work(burst=True)
    killer.join()


def test_a_producer_waits_out_a_failover(own_server: OwnServer, own: Queue) -> None:
    own.enqueue(jobs.add, 1)
    own_server.kill()
    back = threading.Timer(4, own_server.start)
    back.start()
    job = own.enqueue(jobs.add, 2)
    back.join()
    assert own.job_ids[-1] == job.id
    assert own.count == 2


@pytest.mark.parametrize("event", ["restart", "flush"])
def test_the_server_loses_its_data(event: str, start: StartWorker, trace: Path) -> None:
    server = OwnServer(fsync=None)
    try:
        with connect(server.url) as client:
            queue = Queue(connection=client)
            worker = start(url=server.url)
            running = queue.enqueue("harmful.trace_and_sleep", str(trace), 0.5)
            until(lambda: len(lines(trace)) == 1)
            if event == "flush":
                client.flushall()
            else:
                server.kill()
                server.start()
            until(lambda: "has lost its lease" in worker.log or "the result was dropped" in worker.log)
            assert queue.enqueue(jobs.add, 1, 2).wait(10) == 3
            assert not client.exists(f"minirq:{{default}}:job:{running.id}")
            assert_all_done(client)
            worker.kill_all()
    finally:
        server.close()


def test_the_server_forgets_its_scripts(queue: Queue, start: StartWorker) -> None:
    start()
    for n in range(5):
        assert queue.enqueue(jobs.add, n).wait(10) == n
        queue.connection.script_flush()


@pytest.mark.parametrize(
    "answer",
    [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "READONLY You can't write against a read only replica.",
        "MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.",
        "NOREPLICAS Not enough good replicas to write.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    ],
)
def test_the_server_cannot_serve_for_now(
    queue: Queue, start: StartWorker, proxy: Proxy, trace: Path, answer: str
) -> None:
    worker = start(url=proxy.url)
    producer = Queue(connection=proxy.url)
    producer.enqueue(jobs.append, str(trace), "first").wait(10)
    rule = proxy.rule("any", "answer", text=answer, times=12)
    job = producer.enqueue(jobs.append, str(trace), "second")
    job.wait(10)
    until(lambda: rule.hits == 12)
    producer.enqueue(jobs.append, str(trace), "third").wait(10)
    assert lines(trace) == ["first", "second", "third"]
    assert worker.process.poll() is None
    assert_all_done(queue.connection)


def test_the_server_is_full(own_server: OwnServer, own: Queue, start: StartWorker, trace: Path) -> None:
    waiting = [own.enqueue(jobs.append, str(trace), str(n)) for n in range(200)]
    own.connection.config_set("maxmemory-policy", "noeviction")
    own.connection.config_set("maxmemory", 1)
    with pytest.raises(QueueFull):
        own.enqueue(jobs.add, 1)
    start(url=own_server.url, processes=2)  # also started while it is full
    until(lambda: len(lines(trace)) == 200)
    until(lambda: all(job.get_status() == JobStatus.FINISHED for job in waiting))
    with pytest.raises(QueueFull):
        own.enqueue(jobs.add, 1)
    own.connection.config_set("maxmemory", 0)
    assert own.enqueue(jobs.add, 1, 2).wait(10) == 3
    assert_all_done(own.connection)


def test_a_process_dies_while_the_server_is_full(
    own_server: OwnServer, own: Queue, start: StartWorker, trace: Path
) -> None:
    start(url=own_server.url)
    job = own.enqueue(jobs.die_once, str(trace))
    own.connection.config_set("maxmemory", 1)
    until(lambda: job.get_status() == JobStatus.FINISHED)
    assert job.lost == 1
    own.connection.config_set("maxmemory", 0)


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_key_of_the_wrong_type(
    redis: redis_py.Redis, start: StartWorker, trace: Path, is_alone: bool
) -> None:
    bad, good = Queue("bad", connection=redis), Queue("good", connection=redis)
    redis.set("minirq:{bad}:queue", "text")
    with pytest.raises(ServerFault, match="WRONGTYPE"):
        bad.enqueue(jobs.add, 1)
    worker = start(*(["bad"] if is_alone else ["bad", "good"]))
    until(lambda: redis.zcard("minirq:workers"))
    if not is_alone:
        assert [good.enqueue(jobs.add, n).wait(10) for n in range(3)] == [0, 1, 2]
    calls, used = redis.info("stats")["total_commands_processed"], worker.cpu_seconds
    time.sleep(1.0)
    # five beats with what their scripts call, and an attempt each 0.1 s or more to claim and to wait
    assert redis.info("stats")["total_commands_processed"] - calls < 200
    assert worker.cpu_seconds - used < 0.3
    redis.delete("minirq:{bad}:queue")
    assert bad.enqueue(jobs.add, 1, 2).wait(10) == 3


@pytest.mark.parametrize("key", ["scheduled", "failed"])
def test_a_broken_index_of_one_queue_does_not_keep_others_from_being_looked_after(
    redis: redis_py.Redis, start: StartWorker, trace: Path, key: str
) -> None:
    redis.set(f"minirq:{{bad}}:{key}", "text")
    good = Queue("good", connection=redis)
    first = start("bad", "good")
    job = good.enqueue("harmful.trace_and_sleep", str(trace), 0.7)
    until(lambda: len(lines(trace)) == 1)
    second = start("bad", "good")
    until(lambda: redis.zcard("minirq:workers") == 2)
    later = good.enqueue_in(0.1, jobs.append, str(trace), "delayed")
    first.kill_all()
    died = time.monotonic()
    assert job.wait(10) == "slept"
    recovered("a killed worker beside a broken queue", since(died), LEASE + 2 + 0.7)
    until(lambda: later.get_status() == JobStatus.FINISHED)
    until(lambda: "WRONGTYPE" in second.log)
    assert second.log.count("WRONGTYPE") in (1, 2)


def test_the_user_may_not_do_what_a_worker_does(
    redis: redis_py.Redis, redis_url: str, start: StartWorker
) -> None:
    for name, rules in (
        ("no-blmove", ["+@all", "-blmove"]),
        ("no-lpush", ["+@all", "-lpush"]),
        ("no-evalsha", ["+@all", "-evalsha"]),
        ("no-sadd", ["+@all", "-sadd"]),
    ):
        redis.execute_command("ACL", "SETUSER", name, "reset", "on", ">pw", "~*", "&*", *rules)
    path = redis_url.removeprefix("unix://")
    try:
        workers = {
            said: start(url=f"unix://{name}:{password}@{path}")
            for name, password, said in (
                ("no-blmove", "pw", "does not permit BLMOVE"),
                ("no-evalsha", "pw", "does not permit"),
                ("no-blmove", "wrong", "refused the user or password"),
            )
        }
        for said, worker in workers.items():
            until(lambda worker=worker: worker.process.poll() is not None)
            assert worker.process.returncode != 0
            assert said in worker.log
            assert "wrong@" not in worker.log
        producer = Queue(connection=f"unix://no-lpush:pw@{path}")
        with pytest.raises(AccessDenied, match="enqueue"):
            producer.enqueue(jobs.add, 1)
        queue = Queue(connection=f"unix://no-sadd:pw@{path}")
        job = queue.enqueue(jobs.add, 1)
        assert queue.job_ids == [job.id]
    finally:
        redis.execute_command("ACL", "DELUSER", "no-blmove", "no-lpush", "no-evalsha", "no-sadd")


def test_the_user_has_no_channels(
    redis: redis_py.Redis, redis_url: str, start: StartWorker, tmp_path: Path
) -> None:
    redis.execute_command(*["ACL", "SETUSER", "mute", "reset", "on", ">pw", "~*", "resetchannels", "+@all"])
    try:
        mute = f"unix://mute:pw@{redis_url.removeprefix('unix://')}"
        worker = start(url=mute)
        queue = Queue(connection=mute)
        delayed = queue.enqueue_in(0.2, jobs.add, 1, 2)
        retried = queue.enqueue(jobs.fail_times, str(tmp_path / "tries"), 2, retry=Retry(2, interval=0.2))
        assert (delayed.wait(5), retried.wait(5)) == (3, 3)
        napping = queue.enqueue(jobs.nap, 60)
        until(lambda: napping.get_status() == JobStatus.STARTED)
        napping.cancel()
        until(lambda: napping.get_status() == JobStatus.CANCELED)
        assert worker.process.poll() is None
    finally:
        redis.execute_command("ACL", "DELUSER", "mute")


@pytest.mark.parametrize("hours", [1, -1])
def test_the_servers_clock_is_set(
    queue: Queue, redis: redis_py.Redis, start: StartWorker, trace: Path, hours: int
) -> None:
    # a server whose clock was set ahead by an hour sees all leases as ended an hour ago, and the other way
    workers = [start(), start()]
    until(lambda: redis.zcard("minirq:workers") == 2)
    made = [queue.enqueue("harmful.trace_and_sleep", str(trace), 1.0) for _ in range(2)]
    until(lambda: len(lines(trace)) == 2)
    for owner in redis.zrange(OWNERS, 0, -1):
        redis.zincrby(OWNERS, -hours * 3_600_000, owner)
    assert [job.wait(10) for job in made] == ["slept"] * 2
    if hours < 0:
        # a worker that died meanwhile is not waited for by an hour
        job = queue.enqueue("harmful.trace_and_sleep", str(trace), 0.8)
        until(lambda: len(lines(trace)) == 3)
        [victim] = [w for w in workers if int(lines(trace)[2]) in w.children]
        victim.kill_all()
        [owner] = [o for o in redis.zrange(OWNERS, 0, -1) if redis.exists(_held(o))]
        redis.zincrby(OWNERS, 3_600_000, owner)
        assert job.wait(10) == "slept"
    assert_all_done(redis)


def _held(owner: bytes) -> bytes:
    return b"minirq:{default}:processing:" + owner


def test_the_server_is_away_in_the_middle_of_a_campaign(
    own_server: OwnServer, own: Queue, start: StartWorker, trace: Path
) -> None:
    start(url=own_server.url, processes=2)
    accepted: list[str] = []
    over = threading.Event()

    def produce() -> None:
        queue = Queue(connection=own_server.url)
        while not over.is_set():
            name = f"job-{len(accepted)}"
            try:
                queue.enqueue(jobs.append, str(trace), name, job_id=name)
            except ServerUnavailable:
                continue  # may have arrived: the same id again
            accepted.append(name)

    producer = threading.Thread(target=produce)
    producer.start()
    for _ in range(2):
        time.sleep(0.5)
        own_server.kill()
        time.sleep(1.0)
        own_server.start()
    time.sleep(0.3)
    over.set()
    producer.join()
    until(lambda: set(lines(trace)) == set(accepted))
    until(lambda: own.count == 0)
    until(lambda: {job.get_status() for job in map(own.fetch_job, accepted) if job} == {JobStatus.FINISHED})
    assert_all_done(own.connection)


def test_the_index_of_owners_is_lost_while_a_dead_one_holds_jobs(
    redis: redis_py.Redis, queue: Queue, start: StartWorker, trace: Path
) -> None:
    first = start()
    made = [queue.enqueue("harmful.trace_and_sleep", str(trace), 1.0)]
    until(lambda: len(lines(trace)) == 1)
    first.kill_all()
    redis.delete(OWNERS, "minirq:queues")
    second = start()
    began = time.monotonic()
    until(lambda: len(lines(trace)) == 2)
    recovered("an owner that no index knew, at a worker's start", since(began), 2 * LEASE + 2)
    assert made[0].wait(10) == "slept"
    assert "holds jobs and was not known" in second.log
    assert_all_done(redis)


def test_the_index_of_owners_is_lost_while_they_live(
    redis: redis_py.Redis, queue: Queue, start: StartWorker, trace: Path
) -> None:
    start()
    job = queue.enqueue("harmful.trace_and_sleep", str(trace), 0.5)
    until(lambda: len(lines(trace)) == 1)
    redis.delete(OWNERS)
    assert job.wait(10) == "slept"
    job.refresh()
    assert (len(lines(trace)), job.lost) == (2, 0)
    assert_all_done(redis)
