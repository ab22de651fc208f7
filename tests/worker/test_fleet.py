"""What workers do for queues that they do not serve: somebody does it, and not everybody."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import jobs
import pytest
import redis as redis_py
from support.waits import until

from minirq import Queue
from minirq.connection.client import Sender
from minirq.protocol import commands, queries
from minirq.protocol.keys import Keys
from minirq.worker import fleet
from minirq.worker.maintenance import Maintenance
from minirq.worker.settings import WorkerSettings

KEYS = Keys()
DAY_MS = 86_400_000
Hire = Callable[..., Maintenance]


@pytest.fixture
def hire(redis: redis_py.Redis) -> Iterator[Hire]:
    """A worker without processes: its maintenance, tick by tick."""
    hired: list[Maintenance] = []

    def hire(*queues: str, **options: float) -> Maintenance:
        settings = WorkerSettings(queues=queues, **{"lease": 1.0, **options})  # type: ignore[arg-type]
        hired.append(Maintenance(redis, settings))
        assert hired[-1].register(f"owner-{len(hired)}")
        return hired[-1]

    yield hire
    for worker in hired:
        worker.close()


def tick_until(condition: Callable[[], bool], *workers: Maintenance) -> None:
    def look() -> bool:
        for worker in workers:
            worker.tick()
        return condition()

    until(look)


def now_ms(redis: redis_py.Redis) -> int:
    return Sender(redis).send(queries.server_time())


def make_due(redis: redis_py.Redis, name: str) -> None:
    redis.zadd(KEYS.maintenance, {name: now_ms(redis) - 1})


def calls(redis: redis_py.Redis, command: str) -> int:
    return int(redis.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


# --- queues without workers of their own ------------------------------------------------------


def test_a_queue_whose_workers_are_gone_is_looked_after(redis: redis_py.Redis, hire: Hire) -> None:
    keys, sender = KEYS.of("left"), Sender(redis)
    left = Queue("left", connection=redis)
    held, delayed = left.enqueue(jobs.nothing), left.enqueue_in(3600, jobs.nothing)
    sender.send(commands.beat([keys], [], lease=0.1, worker="gone", new=["dead"]))
    sender.send(commands.finish([keys], "dead", [], want=1))
    redis.zadd(keys.index("scheduled"), {delayed.id: 1})
    tick_until(lambda: left.count == 2, hire("other"))
    assert {held.get_status(), delayed.get_status()} == {"queued"}


def test_a_queue_is_looked_after_by_others_only_when_its_own_workers_are_gone(
    redis: redis_py.Redis, hire: Hire
) -> None:
    own, other = hire("mine"), hire("other")
    soon = now_ms(redis) + 5000
    redis.zadd(KEYS.maintenance, {"mine": soon})
    tick_until(lambda: redis.zscore(KEYS.maintenance, "mine") > soon, own, other)
    assert now_ms(redis) < soon
    assert redis.zscore(KEYS.maintenance, "mine") > now_ms(redis) + fleet.QUEUES_EVERY * 900


def test_a_delayed_job_of_others_is_no_news(redis: redis_py.Redis, hire: Hire) -> None:
    own, other = hire("mine"), hire("other")
    for worker in (own, other):
        tick_until(lambda worker=worker: worker.fileno() is not None, worker)
    Queue("mine", connection=redis).enqueue_in(0.05, jobs.nothing)
    other.receive()
    assert other.tick()[0] > 0
    tick_until(lambda: Queue("mine", connection=redis).count == 1, own)


def test_what_the_promoting_worker_leaves_when_it_dies_is_promoted_by_another(
    redis: redis_py.Redis, hire: Hire
) -> None:
    hire("mine", lease=300.0)  # and never beats again
    second = hire("mine")
    promoter = redis.get(KEYS.of("mine").promoter)
    Queue("mine", connection=redis).enqueue_in(0.01, jobs.nothing)
    tick_until(lambda: Queue("mine", connection=redis).count == 1, second)
    assert redis.get(KEYS.of("mine").promoter) == promoter


def test_a_worker_that_ends_lets_another_one_promote_at_once(redis: redis_py.Redis, hire: Hire) -> None:
    first, second = hire("mine", lease=300.0), hire("mine", lease=300.0)
    assert redis.exists(KEYS.of("mine").promoter)
    first.farewell()
    second.register("again")
    # no beat is due for a while: what is published has to be enough
    tick_until(lambda: second.fileno() is not None and second._heartbeat.due - time.monotonic() > 10, second)
    Queue("mine", connection=redis).enqueue_in(0.01, jobs.nothing)

    def is_promoted() -> bool:
        second.receive()  # the publication takes its time
        return Queue("mine", connection=redis).count == 1

    tick_until(is_promoted, second)


def test_all_workers_together_ask_once_a_second(
    redis: redis_py.Redis, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet.random, "uniform", lambda low, high: (low + high) / 2)
    worker = hire("mine")
    redis.zadd(KEYS.workers, {f"w{n}": now_ms(redis) for n in range(49)})
    redis.zadd(KEYS.workers, {f"long gone {n}": 1 for n in range(49)})
    make_due(redis, "left")
    tick_until(lambda: redis.zscore(KEYS.maintenance, "left") > now_ms(redis), worker)
    assert 49 < worker._fleet.take.due - time.monotonic() <= 50


# --- names ------------------------------------------------------------------------------------


def test_a_new_name_is_looked_after(redis: redis_py.Redis, hire: Hire) -> None:
    redis.sadd(KEYS.queues, "new")
    tick_until(lambda: (redis.zscore(KEYS.maintenance, "new") or 0) > now_ms(redis), hire("mine"))
    assert redis.zscore(KEYS.served, "new") > now_ms(redis) - 60_000


def names_are_read(redis: redis_py.Redis, worker: Maintenance) -> None:
    """Have the list of names read once."""
    redis.zadd(KEYS.maintenance, {fleet._LIST: 1})
    worker._fleet.take.due = 0.0
    tick_until(lambda: redis.zscore(KEYS.maintenance, fleet._LIST) > now_ms(redis) + 30_000, worker)


def test_a_name_is_forgotten_after_a_day_without_workers_and_keys(redis: redis_py.Redis, hire: Hire) -> None:
    worker = hire("mine")
    for name in ("gone", "kept", "young"):
        redis.sadd(KEYS.queues, name)
        redis.zadd(KEYS.served, {name: now_ms(redis) - DAY_MS - 1000})
    redis.zadd(KEYS.served, {"young": now_ms(redis) - DAY_MS + 60_000})
    Queue("kept", connection=redis).enqueue(jobs.nothing)
    names_are_read(redis, worker)
    assert redis.smembers(KEYS.queues) == {b"mine", b"kept", b"young"}
    assert redis.zscore(KEYS.maintenance, "gone") is None
    assert redis.zscore(KEYS.served, "kept") > now_ms(redis) - DAY_MS + 3_500_000
    # a second look finds still nothing: nothing of it is left
    redis.zadd(KEYS.served, {"gone": 1})
    names_are_read(redis, worker)
    assert redis.zscore(KEYS.served, "gone") is None


def test_a_name_that_was_forgotten_too_early_comes_back(redis: redis_py.Redis, hire: Hire) -> None:
    worker = hire("mine")
    redis.sadd(KEYS.queues, "gone")
    redis.zadd(KEYS.served, {"gone": 1})
    names_are_read(redis, worker)
    assert not redis.sismember(KEYS.queues, "gone")
    # between the two, a producer that has said the name a moment ago enqueues a job
    redis.lpush(KEYS.of("gone").queue, b"job")
    redis.zadd(KEYS.served, {"gone": 1}, xx=True)
    names_are_read(redis, worker)
    assert redis.sismember(KEYS.queues, "gone")


def test_a_producer_puts_the_name_back_within_a_minute(
    redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue("mail", connection=redis)
    queue.enqueue(jobs.nothing)
    redis.delete(KEYS.queues)
    queue.enqueue(jobs.nothing)
    assert not redis.exists(KEYS.queues)
    later = time.monotonic() + 61
    monkeypatch.setattr("minirq.client.queue.time.monotonic", lambda: later)
    queue.enqueue(jobs.nothing)
    assert redis.smembers(KEYS.queues) == {b"mail"}


# --- the search -------------------------------------------------------------------------------


def test_one_worker_of_all_searches(redis: redis_py.Redis, hire: Hire) -> None:
    fleet_of_five = [hire(f"q{n}") for n in range(5)]
    redis.config_resetstat()
    tick_until(lambda: calls(redis, "scan") > 0, *fleet_of_five)
    began = time.monotonic()
    tick_until(lambda: time.monotonic() - began > 2, *fleet_of_five)
    assert calls(redis, "scan") == 1
    assert redis.zscore(KEYS.maintenance, fleet._SEARCH) > now_ms(redis) + 250_000


@pytest.mark.parametrize("key", [KEYS.maintenance, KEYS.served, KEYS.queues])
def test_a_broken_index_keeps_no_worker_from_its_own_queues(
    redis: redis_py.Redis, hire: Hire, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    redis.set(key, "text")
    worker = hire("mine")
    tick_until(lambda: "WRONGTYPE" in caplog.text, worker)
    Queue("mine", connection=redis).enqueue_in(0.01, jobs.nothing)
    worker.receive()
    tick_until(lambda: Queue("mine", connection=redis).count == 1, worker)
    assert caplog.text.count("are not looked after") == 1
