"""Waiting for many jobs: as they end, or for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import jobs
import pytest
import redis as redis_py
from support.waits import until

from minirq import Job, Queue, SimpleWorker
from minirq.connection.client import Sender
from minirq.exceptions import JobCanceledError, JobFailedError, NoSuchJobError
from minirq.protocol import commands, queries
from minirq.protocol import waiting as waiting_protocol
from minirq.protocol.keys import Keys


@pytest.fixture
def other(redis: redis_py.Redis) -> Queue:
    return Queue("other", connection=redis)


@pytest.fixture
def _nothing_left(redis: redis_py.Redis) -> Iterator[None]:
    yield
    assert redis.keys("*mailbox*") == []
    assert [key for key in redis.keys("*:job:*") if redis.hexists(key, "waiters")] == []


def run_all(*queues: Queue) -> None:
    SimpleWorker([*queues]).work(burst=True)


def registered(redis: redis_py.Redis) -> int:
    return sum(redis.hexists(key, "waiters") for key in redis.keys("*:job:*"))


@pytest.mark.usefixtures("_nothing_left")
def test_jobs_come_in_the_order_of_their_ends(queue: Queue, redis: redis_py.Redis) -> None:
    first, second, third = (queue.enqueue(jobs.add, n) for n in range(3))
    third.cancel()
    third.requeue(at_front=True)
    second.cancel()
    second.requeue()
    worker = threading.Thread(target=lambda: until(lambda: registered(redis) == 3) and run_all(queue))
    worker.start()
    ended = list(queue.as_completed([first, second, third], timeout=20))
    worker.join()
    assert ended == [third, first, second]
    assert [job.return_value(refresh=False) for job in ended] == [2, 0, 1]


@pytest.mark.usefixtures("_nothing_left")
def test_all_results_come_in_the_order_of_the_jobs(queue: Queue, other: Queue, redis: redis_py.Redis) -> None:
    ended = queue.enqueue(jobs.add, 1)
    run_all(queue)
    waiting = [q.enqueue(jobs.add, n) for n in range(2, 300) for q in (queue, other)]
    worker = threading.Thread(target=lambda: until(lambda: registered(redis) > 500) and run_all(queue, other))
    worker.start()
    results = queue.wait_many([*waiting, ended, waiting[0]], timeout=20)
    worker.join()
    assert results == [*(n for n in range(2, 300) for _ in "ab"), 1, 2]


def test_waiting_takes_one_connection(queue: Queue, redis: redis_py.Redis) -> None:
    waiting = [queue.enqueue(jobs.add, n) for n in range(50)]
    before = len(redis.client_list())
    waiter = threading.Thread(target=queue.wait_many, args=(waiting,))
    waiter.start()
    until(lambda: [client for client in redis.client_list() if client["cmd"] == "blpop"])
    assert len(redis.client_list()) <= before + 2  # one that blocks, one that asks
    run_all(queue)
    waiter.join()


def test_nothing_to_wait_for_is_no_wait(queue: Queue) -> None:
    assert queue.wait_many([]) == []
    assert list(queue.as_completed([])) == []


@pytest.mark.usefixtures("_nothing_left")
def test_a_job_that_fails_ends_the_wait_for_all(queue: Queue) -> None:
    failing, waiting = queue.enqueue(jobs.fail), queue.enqueue_in(60, jobs.add, 1)
    run_all(queue)
    with pytest.raises(JobFailedError, match="ValueError: no") as caught:
        queue.wait_many([waiting, failing], timeout=20)
    assert caught.value.job_id == failing.id


@pytest.mark.usefixtures("_nothing_left")
@pytest.mark.parametrize(
    ("end", "error"), [(Job.cancel, JobCanceledError), (Job.delete, NoSuchJobError)], ids=["cancel", "delete"]
)
def test_jobs_that_do_not_run_are_told_of(
    queue: Queue, redis: redis_py.Redis, end: object, error: type[Exception]
) -> None:
    waiting, scheduled = queue.enqueue(jobs.add, 1), queue.enqueue_in(60, jobs.add, 1)

    def end_all() -> None:
        until(lambda: registered(redis) == 2)
        for job in (scheduled, waiting):
            end(Job(job.id, job._store, job.origin))  # type: ignore[operator]

    ender = threading.Thread(target=end_all)
    ender.start()
    ended = list(queue.as_completed([waiting, scheduled], timeout=20))
    ender.join()
    assert ended == [scheduled, waiting]
    for job in ended:
        with pytest.raises(error):
            job.wait(timeout=1)


def test_a_job_that_never_was_is_told_of_at_once(queue: Queue) -> None:
    job = queue.enqueue(jobs.add, 1)
    job.delete()
    assert list(queue.as_completed([job])) == [job]
    with pytest.raises(NoSuchJobError, match=job.id):
        queue.wait_many([job])


@pytest.mark.usefixtures("_nothing_left")
def test_a_wait_that_takes_too_long_says_for_how_many_jobs(queue: Queue) -> None:
    waiting = [queue.enqueue(jobs.add, n) for n in range(3)]
    with pytest.raises(TimeoutError, match=r"3 of 3 jobs have not ended within 0\.1 s"):
        queue.wait_many(waiting, timeout=0.1)


@pytest.mark.usefixtures("_nothing_left")
def test_a_wait_that_takes_too_long_says_that_no_worker_serves_the_queue(
    queue: Queue, other: Queue, redis: redis_py.Redis
) -> None:
    job, delayed = queue.enqueue(jobs.add, 1), other.enqueue_in(60, jobs.add, 1)

    def complaint(wait: Callable[[], object]) -> str:
        with pytest.raises(TimeoutError) as caught:
            wait()
        return str(caught.value)

    ended = f"job {job.id} has not ended within 0.1 s: it is queued"
    advice = ", and no worker serves the queue default. Start one: minirq worker default"
    assert complaint(lambda: job.wait(0.1)) == ended + advice
    portrait = {"queues": '["default"]', "stopping": "0.0"}
    Sender(redis).send_all(queries.show_worker(Keys(), "w:1", portrait, now_ms=1, ttl=60))
    assert complaint(lambda: job.wait(0.1)) == ended
    said = complaint(lambda: queue.wait_many([job, delayed], timeout=0.1))
    assert said.startswith(
        f"2 of 2 jobs have not ended within 0.1 s, among them {delayed.id}: it is scheduled,"
    )
    assert said.endswith("no worker serves the queue other. Start one: minirq worker other")
    redis.hset(Keys().worker("w:1"), "stopping", "1700000000.5")  # it drains
    assert complaint(lambda: job.wait(0.1)) == ended + advice


@pytest.mark.usefixtures("_nothing_left")
def test_who_may_not_see_workers_is_told_the_rest(
    queue: Queue, redis: redis_py.Redis, redis_url: str
) -> None:
    keys = ("~minirq:{default}:*", "~minirq:queues")
    redis.execute_command("ACL", "SETUSER", "producer", "on", ">x", *keys, "&*", "+@all")
    try:
        mine = Queue(connection=redis_url.replace("unix://", "unix://producer:x@"))
        with pytest.raises(TimeoutError, match=r"has not ended within 0\.1 s: it is queued$"):
            mine.enqueue(jobs.add, 1).wait(0.1)
    finally:
        redis.execute_command("ACL", "DELUSER", "producer")


@pytest.mark.usefixtures("_nothing_left")
def test_who_stops_listening_leaves_nothing_behind(queue: Queue, redis: redis_py.Redis) -> None:
    ended = queue.enqueue(jobs.add, 1)
    run_all(queue)
    waiting = queue.enqueue(jobs.add, 2)
    for job in queue.as_completed([waiting, ended]):
        assert job == ended
        assert registered(redis) == 1
        break


def test_mail_that_was_lost_is_made_up_for(
    queue: Queue, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_protocol, "LOOK_EVERY", 0.3)
    waiting = [queue.enqueue(jobs.add, n) for n in range(2)]

    def steal() -> None:
        until(lambda: registered(redis) == 2)
        for key in redis.keys("*:job:*"):
            redis.hdel(key, "waiters")
        run_all(queue)

    thief = threading.Thread(target=steal)
    thief.start()
    assert queue.wait_many(waiting, timeout=20) == [0, 1]
    thief.join()


def test_a_letter_about_a_job_that_goes_on_is_no_end(queue: Queue, redis: redis_py.Redis) -> None:
    job = queue.enqueue(jobs.add, 1)
    keys = Keys().of("default")

    def write() -> None:
        waiter = until(lambda: redis.hget(keys.job(job.id), "waiters"))
        redis.rpush(keys.mailbox(waiter.decode()), job.id)
        until(lambda: not redis.exists(keys.mailbox(waiter.decode())))
        run_all(queue)

    writer = threading.Thread(target=write)
    writer.start()
    assert queue.wait_many([job], timeout=20) == [1]
    writer.join()


def test_letters_that_nobody_has_read_are_removed(queue: Queue, redis: redis_py.Redis) -> None:
    job = queue.enqueue_in(60, jobs.add, 1)
    keys = Keys().of("default")

    def end() -> None:
        waiter = until(lambda: redis.hget(keys.job(job.id), "waiters"))
        cancel = commands.cancel(keys, job.id)
        assert cancel.script is not None
        with redis.pipeline() as at_once:
            at_once.execute_command("EVAL", cancel.script.text, *cancel.args)
            at_once.rpush(keys.mailbox(waiter.decode()), job.id)
            at_once.execute()

    ender = threading.Thread(target=end)
    ender.start()
    assert list(queue.as_completed([job], timeout=20)) == [job]
    ender.join()
    assert redis.keys("*mailbox*") == []
