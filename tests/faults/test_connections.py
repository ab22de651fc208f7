"""What the network does: requests and replies that get lost, connections that break, hang, or are slow."""

from __future__ import annotations

import os
import pickle
import select
import signal
import threading
import time
from pathlib import Path

import jobs
import pytest
import redis as redis_py
from support.own_server import OwnServer
from support.proxy import Proxy
from support.timing import recovered, since, within
from support.waits import until
from support.worker import LEASE, StartWorker, assert_all_done, is_waiting, lines

from minirq import JobStatus, Queue, SimpleWorker
from minirq.connection import connect
from minirq.exceptions import InvalidJobOperation, ServerUnavailable
from minirq.protocol import commands
from minirq.protocol.keys import Keys
from minirq.worker.maintenance import Maintenance
from minirq.worker.settings import WorkerSettings


@pytest.mark.parametrize("action", ["drop_request", "drop_reply"])
def test_enqueue_is_cut_off(redis: redis_py.Redis, proxy: Proxy, action: str) -> None:
    queue = Queue(connection=proxy.url)
    queue.enqueue(jobs.nothing)
    rule = proxy.rule("enqueue", action, times=3)
    job = queue.enqueue(jobs.add, 1, 2)
    named = queue.enqueue(jobs.add, 1, 2, job_id="named")
    queue.enqueue_many([Queue.prepare_data(jobs.add, (n,)) for n in range(10)])
    assert rule.hits == 3
    assert queue.count == 13
    assert queue.job_ids[1:3] == [job.id, named.id]


def test_enqueue_finds_nobody(redis: redis_py.Redis, proxy: Proxy) -> None:
    queue = Queue(connection=proxy.url, patience="2s")
    proxy.rule("any", "drop_request", times=10**6)
    began = time.monotonic()
    with pytest.raises(ServerUnavailable):
        queue.enqueue(jobs.add, 1)
    assert within(5, began)
    proxy.heal()
    assert queue.count == 0


@pytest.mark.parametrize("job_id", [None, "mine"])
@pytest.mark.parametrize("replies", ["all", "the first"])
@pytest.mark.parametrize("action", ["enqueue", "a second enqueue", "enqueue_in", "enqueue_many"])
def test_an_enqueue_that_got_no_answer_is_sent_again_and_acts_once(
    queue: Queue, proxy: Proxy, trace: Path, action: str, replies: str, job_id: str | None
) -> None:
    """Nobody hears that it has acted, the job runs, and nothing is kept of its result."""
    impatient = Queue(connection=proxy.url, patience=0.5)
    assert impatient.count == 0
    if action == "a second enqueue":
        impatient.enqueue(jobs.add, 1, 2)
    given = {"result_ttl": 0, "job_id": job_id}
    proxy.rule("enqueue", "drop_reply", times=10**6 if replies == "all" else 1)
    if replies == "the first":
        proxy.rule("enqueue", "drop_request", times=10**6)
    call = {
        "enqueue": lambda: impatient.enqueue(jobs.append, str(trace), "ran", **given),
        "a second enqueue": lambda: impatient.enqueue(jobs.append, str(trace), "ran", **given),
        "enqueue_in": lambda: impatient.enqueue_in(0.01, jobs.append, str(trace), "ran", **given),
        "enqueue_many": lambda: impatient.enqueue_many(
            [Queue.prepare_data(jobs.append, (str(trace), "ran"), **given)]
        ),
    }[action]
    with pytest.raises(ServerUnavailable) as caught:
        call()
    assert caught.value.may_have_acted
    until(lambda: SimpleWorker([queue]).work(burst=True) or lines(trace) == ["ran"])
    with pytest.raises(ServerUnavailable) as caught_again:
        caught.value.again()
    proxy.heal()
    job = caught_again.value.again()
    if action == "enqueue_many":
        [job] = job
    assert job.get_status() == JobStatus.FINISHED
    assert (queue.count, job_id in (None, job.id)) == (0, True)
    assert queue.connection.pttl(Keys().of("default").job(job.id)) > 590_000


def test_an_enqueue_that_never_got_there_is_sent_again(own_server: OwnServer) -> None:
    queue = Queue(connection=own_server.url, patience=0)
    assert queue.count == 0
    own_server.kill()
    with pytest.raises(ServerUnavailable) as caught:
        queue.enqueue(jobs.add, 1, result_ttl=0)
    assert not caught.value.may_have_acted
    with pytest.raises(InvalidJobOperation):
        pickle.loads(pickle.dumps(caught.value)).again()
    own_server.start()
    assert queue.job_ids == [] != [caught.value.again().id]
    assert queue.count == 1


def test_an_enqueue_of_which_nobody_knows_any_more_is_not_done_again(
    queue: Queue, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = Queue(connection=proxy.url, patience=0)
    assert impatient.count == 0
    proxy.rule("enqueue", "drop_reply")
    with pytest.raises(ServerUnavailable) as caught:
        impatient.enqueue(jobs.add, 1, result_ttl=0)
    SimpleWorker([queue]).work(burst=True)
    queue.connection.delete(*queue.connection.keys("*job:*"))  # its tombstone has run out
    later = time.monotonic() + 120
    monkeypatch.setattr("minirq.client.queue.time.monotonic", lambda: later)
    with pytest.raises(InvalidJobOperation, match="may have run since"):
        caught.value.again()
    assert queue.count == 0


@pytest.mark.parametrize("action", ["drop_request", "drop_reply"])
@pytest.mark.parametrize("command", ["finish", "beat", "promote", "BLMOVE"])
def test_a_worker_is_cut_off(
    queue: Queue, start: StartWorker, proxy: Proxy, trace: Path, command: str, action: str
) -> None:
    start(url=proxy.url)
    queue.enqueue(jobs.append, str(trace), "first").wait(10)
    until(lambda: is_waiting(queue.connection))
    rule = proxy.rule(command, action, times=2)
    made = [queue.enqueue(jobs.append, str(trace), str(n)) for n in range(10)]
    made.append(queue.enqueue_in(0.1, jobs.append, str(trace), "delayed"))
    for job in made:
        job.wait(10)
    until(lambda: rule.hits == 2)
    queue.enqueue(jobs.append, str(trace), "last").wait(10)
    assert len(lines(trace)) == 13
    assert [job.attempts for job in made if job.refresh() is None] == [1] * 11
    assert_all_done(queue.connection)


@pytest.mark.parametrize("action", ["drop_request", "drop_reply"])
def test_the_jobs_of_a_dead_process_are_taken_back_over_a_bad_connection(
    queue: Queue, start: StartWorker, proxy: Proxy, trace: Path, action: str
) -> None:
    start(url=proxy.url)
    rule = proxy.rule("reclaim", action, times=2)
    job = queue.enqueue(jobs.die_once, str(trace))
    assert job.wait(10) == "survived"
    until(lambda: rule.hits == 2)
    job.refresh()
    assert (job.attempts, job.lost) == (2, 1)
    assert_all_done(queue.connection)


def test_all_connections_are_reset_while_jobs_run(
    queue: Queue, start: StartWorker, proxy: Proxy, trace: Path
) -> None:
    start(url=proxy.url, processes=2)
    made = [queue.enqueue("harmful.trace_and_sleep", str(trace), 0.02) for _ in range(60)]
    for _ in range(6):
        time.sleep(0.1)
        proxy.reset()
    assert [job.wait(10) for job in made] == ["slept"] * 60
    assert len(lines(trace)) == 60
    assert_all_done(queue.connection)


def test_the_server_ends_all_connections(queue: Queue, start: StartWorker, trace: Path) -> None:
    start(processes=2)
    made = [queue.enqueue("harmful.trace_and_sleep", str(trace), 0.02) for _ in range(60)]
    for _ in range(6):
        time.sleep(0.1)
        for kind in ("normal", "pubsub"):
            queue.connection.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    assert [job.wait(10) for job in made] == ["slept"] * 60
    assert len(lines(trace)) == 60
    assert_all_done(queue.connection)


@pytest.mark.parametrize("command", ["BLMOVE", "finish"])
def test_a_connection_leads_nowhere(
    queue: Queue, start: StartWorker, proxy: Proxy, trace: Path, command: str
) -> None:
    start(url=proxy.url)
    queue.enqueue(jobs.append, str(trace), "first").wait(10)
    # the server gets the request and keeps its side open: it goes on serving a client that hears nothing
    rule = proxy.rule(command, "hole_reply")
    job = queue.enqueue(jobs.append, str(trace), "second")
    until(lambda: rule.hits == 1)
    began = time.monotonic()
    job.wait(10)
    recovered("a connection that leads nowhere (1 s + 2 s of patience)", since(began), 1 + 2 + 1)
    assert lines(trace) == ["first", "second"]
    until(lambda: is_waiting(queue.connection))
    assert_all_done(queue.connection)


def test_a_job_that_an_idle_process_is_given_after_its_end_is_taken_back(
    redis: redis_py.Redis, queue: Queue, start: StartWorker, proxy: Proxy, trace: Path
) -> None:
    rule = proxy.rule("BLMOVE", "outlive")
    worker = start(url=proxy.url, block=2.0)
    until(lambda: rule.hits == 1 and is_waiting(redis))
    [child], [owner] = worker.children, redis.zrange("minirq:{default}:owners", 0, -1)
    os.kill(child, signal.SIGKILL)
    until(lambda: redis.zscore("minirq:{default}:owners", owner) < 0)
    job = queue.enqueue(jobs.append, str(trace), "only")
    assert redis.llen(b"minirq:{default}:processing:" + owner) == 1
    began = time.monotonic()
    job.wait(10)
    # the wait of 2 s, 2 s more, and a beat
    recovered("a job that was given to a process after its end (2 s + 2 s)", since(began), 2 + 2 + 1)
    assert lines(trace) == ["only"]
    until(lambda: redis.zscore("minirq:{default}:owners", owner) is None)
    assert_all_done(redis)


def test_processes_that_end_with_every_wait_answered_are_forgotten_at_once(
    redis: redis_py.Redis, queue: Queue, start: StartWorker, trace: Path
) -> None:
    start(max_jobs_per_child=1)
    for n in range(5):
        until(lambda: is_waiting(redis))
        queue.enqueue(jobs.append, str(trace), str(n)).wait(10)
    until(lambda: is_waiting(redis))
    assert redis.zcount("minirq:{default}:owners", "-inf", "(0") == 0
    assert redis.zcard("minirq:{default}:owners") == 1


def test_everything_leads_nowhere_for_longer_than_the_lease(
    queue: Queue, start: StartWorker, proxy: Proxy, trace: Path
) -> None:
    cut_off = start(url=proxy.url)
    job = queue.enqueue("harmful.trace_and_sleep", str(trace), 0.2)
    until(lambda: len(lines(trace)) == 1)
    proxy.rule("any", "hole", times=10**6)
    start()
    until(lambda: len(lines(trace)) == 2)
    assert job.wait(10) == "slept"
    job.refresh()
    ended = job.ended_at
    proxy.heal()
    until(lambda: "the result was dropped" in cut_off.log or "has lost its lease" in cut_off.log)
    job.refresh()
    assert job.ended_at == ended
    assert (job.attempts, job.lost) == (2, 1)


def test_the_way_is_slow(queue: Queue, start: StartWorker, proxy: Proxy, trace: Path) -> None:
    proxy.rule("any", "delay", seconds=LEASE / 10, times=10**6)
    worker = start(url=proxy.url)
    made = [queue.enqueue(jobs.append, str(trace), str(n)) for n in range(10)]
    for job in made:
        job.wait(10)
    assert lines(trace) == [str(n) for n in range(10)]
    assert "lost its lease" not in worker.log
    assert_all_done(queue.connection)


def test_a_settlement_that_is_delivered_twice_acts_once(redis: redis_py.Redis, queue: Queue) -> None:
    keys = Keys().of("default")
    send = queue._store.sender.send
    job = queue.enqueue(jobs.add, 1)
    send(commands.beat([keys], [], lease=10, worker="w", new=["owner"]))
    [claimed] = send(commands.finish([keys], "owner", [], want=1)).claim.jobs
    done = commands.Settlement(0, job.id, claimed.run, "finished", b"", 60)
    codes = [send(commands.finish([keys], "owner", [done], want=0)).codes for _ in range(2)]
    assert codes == [[commands.SETTLED], [commands.SETTLED_BEFORE]]
    job.refresh()
    assert job.attempts == 1


def test_a_waiter_is_cut_off(queue: Queue, start: StartWorker, proxy: Proxy) -> None:
    job = Queue(connection=proxy.url).enqueue(jobs.nap, 0.3)
    results: list[float] = []
    waiter = threading.Thread(target=lambda: results.append(job.wait(10)))
    waiter.start()
    start()
    time.sleep(0.1)
    proxy.reset()
    waiter.join(10)
    assert results == [0.3]


def test_a_publication_comes_together_with_the_confirmation(redis: redis_py.Redis) -> None:
    maintenance = Maintenance(redis, WorkerSettings())
    maintenance._subscription.open()
    maintenance._due["default"] = 1e9
    redis.publish(Keys().chores, "default")
    until(lambda: select.select([maintenance.fileno()], [], [], 0)[0])
    time.sleep(
        0.05
    )  # both have arrived: they are read together, and nothing makes the descriptor readable again
    maintenance.receive()
    assert maintenance._due["default"] == 0.0
    maintenance.close()


def test_a_process_that_is_registered_after_an_outage_keeps_its_lease(own_server: OwnServer) -> None:
    maintenance = Maintenance(connect(own_server.url), WorkerSettings(lease=1.0))
    assert maintenance.register("before")
    own_server.kill()
    pause = 0.0
    while pause < 0.5:  # pauses grow, and this one is longer than a beat
        time.sleep(pause)
        pause, _ = maintenance.tick()
    own_server.start()
    assert maintenance.register("new")
    assert maintenance.tick()[0] <= 0.2
    maintenance.close()
