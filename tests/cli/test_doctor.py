"""`minirq doctor`: what it measures, and what it finds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis as redis_py
from support.command_line import Invoke, OnTerminal
from support.waits import until
from support.worker import StartWorker

from minirq import Queue
from minirq.client.store import Store
from minirq.inspect.health import Health, OrphanedList, findings, read_health
from minirq.inspect.overview import Overview, QueueView, WorkerView

Work = Callable[..., None]

NOW = datetime(2030, 1, 1, tzinfo=UTC)
GIB = 2**30
INFO: dict[str, Any] = {
    "redis_version": "7.2.4", "redis_mode": "standalone", "role": "master", "maxmemory_policy": "noeviction",
    "evicted_keys": 0, "used_memory": GIB, "maxmemory": 0, "aof_enabled": 1, "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok", "rdb_last_save_time": int(NOW.timestamp()) - 90,
}  # fmt: skip
QUEUE = QueueView("mail", 0, 0, 0, 0, 0, 0, 0, 0, 0)
WORKER = WorkerView("w.1", "w.1:a", "host", 1, ("mail",), NOW, NOW, (11, 12), 1, 0, (), 0, 0)
HEALTHY = Health(INFO, 0.0004, 0.02, Overview(NOW, (QUEUE,), (WORKER,)), (), True, {}, {})


def seen(queue: QueueView = QUEUE, *workers: WorkerView) -> Overview:
    return Overview(NOW, (queue,), workers)


def trouble(health: Health) -> list[tuple[str, str, str]]:
    """What is not in order: subject, mark and text. Each has something to do."""
    found = [finding for finding in findings(health) if finding.mark != "ok"]
    assert all(finding.advice for finding in found)
    return [(finding.subject, finding.mark, finding.text) for finding in found]


# --- findings --------------------------------------------------------------


def test_nothing_is_wrong() -> None:
    found = list(findings(HEALTHY))
    assert {finding.mark for finding in found} == {"ok"}
    assert [finding.text for finding in found] == [
        "Redis 7.2.4, standalone",
        "A round trip takes 0.4 ms",
        "noeviction: nothing is evicted",
        "An append-only file is kept",
        "1.0 GiB in use, no limit is set",
        "The clocks of Redis and of this host agree",
        "1 running, with 2 processes",
        "0 jobs are waiting, 0 running",
        "All claimed jobs have a living owner",
    ]


@pytest.mark.parametrize(
    ("info", "subject", "mark", "text"),
    [
        ({"role": "slave"}, "server", "bad", "Redis 7.2.4 is a slave"),
        ({"redis_mode": "cluster"}, "server", "bad", "is a cluster"),
        ({"redis_mode": None, "server_mode": "cluster"}, "server", "bad", "is a cluster"),
        ({"maxmemory_policy": "allkeys-lru"}, "eviction", "bad", "allkeys-lru evicts jobs"),
        ({"evicted_keys": 3}, "eviction", "warn", "3 keys were evicted"),
        ({"aof_enabled": 0}, "persistence", "warn", "since the last snapshot, 90 s ago"),
        ({"aof_last_write_status": "err"}, "persistence", "bad", "cannot be written"),
        ({"rdb_last_bgsave_status": "err"}, "persistence", "bad", "The last snapshot failed"),
        ({"maxmemory": GIB * 10 // 9}, "memory", "warn", "1.0 GiB of 1.1 GiB in use (90%)"),
        ({"maxmemory": GIB}, "memory", "bad", "(100%): new jobs will soon be refused"),
    ],
)
def test_a_server(info: dict[str, Any], subject: str, mark: str, text: str) -> None:
    [found] = trouble(replace(HEALTHY, info={**INFO, **info}))
    assert found[:2] == (subject, mark)
    assert text in found[2]


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (replace(HEALTHY, round_trip=0.1), ("distance", "warn", "A round trip takes 100.0 ms")),
        (
            replace(HEALTHY, clock_ahead=40.0),
            ("clock", "warn", "The clock of Redis is 40 s ahead of this host's"),
        ),
        (
            replace(HEALTHY, clock_ahead=-300.0),
            ("clock", "warn", "The clock of Redis is 5 min behind this host's"),
        ),
    ],
)
def test_a_slow_connection_or_a_wrong_clock(health: Health, expected: tuple[str, str, str]) -> None:
    assert trouble(health) == [expected]


def test_a_server_that_forgets_only_records_of_ended_jobs_is_in_order() -> None:
    assert trouble(replace(HEALTHY, info={**INFO, "maxmemory_policy": "volatile-ttl"})) == []


@pytest.mark.parametrize(
    ("queue", "mark", "text"),
    [
        (replace(QUEUE, failed=1200), "warn", "1,200 failed jobs are kept"),
        (replace(QUEUE, is_paused=True, waiting=2), "warn", "It is suspended, and 2 jobs are waiting"),
    ],
)
def test_a_queue(queue: QueueView, mark: str, text: str) -> None:
    assert trouble(replace(HEALTHY, overview=seen(queue, WORKER))) == [("queue mail", mark, text)]


def test_very_many_failed_jobs_are_bad_and_the_advice_deletes_them() -> None:
    health = replace(HEALTHY, overview=seen(replace(QUEUE, failed=100_000), WORKER))
    [finding] = [finding for finding in findings(health) if finding.mark == "bad"]
    assert finding.text == "100,000 failed jobs are kept"
    assert "minirq empty mail --failed" in finding.advice


def test_jobs_wait_where_nobody_works() -> None:
    queue = replace(QUEUE, waiting=5)
    elsewhere = replace(WORKER, queues=("default",))
    expected = ("queue mail", "bad", "5 jobs are waiting, and no worker serves it")
    assert trouble(replace(HEALTHY, overview=seen(queue, elsewhere))) == [expected]
    nobody = trouble(replace(HEALTHY, overview=seen(queue)))
    assert nobody == [("workers", "warn", "No worker is running"), expected]


def test_a_silent_worker() -> None:
    silent = replace(WORKER, last_beat=NOW - timedelta(seconds=25))
    [found] = trouble(replace(HEALTHY, overview=seen(QUEUE, silent)))
    assert found == ("workers", "warn", "Worker w.1 has sent no heartbeat for 25 s")


def test_delayed_jobs_that_nobody_moves() -> None:
    [found] = trouble(replace(HEALTHY, overdue={"mail": 7}))
    assert found == ("queue mail", "bad", "7 delayed jobs are overdue: no worker moves them")


@pytest.mark.parametrize(
    ("orphan", "mark", "text"),
    [
        (
            OrphanedList("mail", "w:1:a", 2, "unregistered"),
            "bad",
            "2 jobs are held by w:1:a, which is not registered",
        ),
        (OrphanedList("mail", "w:1:a", 2, "dead", 90), "bad", "which has been dead for 90 s"),
        (OrphanedList("mail", "w:1:a", 2, "late", 90), "bad", "whose lease expired 90 s ago"),
    ],
)
def test_jobs_that_nobody_owns(orphan: OrphanedList, mark: str, text: str) -> None:
    [found] = trouble(replace(HEALTHY, orphaned=(orphan,)))
    assert found[:2] == ("queue mail", mark)
    assert text in found[2]


def test_what_the_next_sweep_takes_back_is_not_bad() -> None:
    orphaned = (OrphanedList("mail", "w:1:a", 1, "dead", 5), OrphanedList("mail", "w:1:b", 1, "late", 5))
    assert [mark for _, mark, _ in trouble(replace(HEALTHY, orphaned=orphaned))] == ["warn"]


def test_a_search_that_was_cut_short_is_told() -> None:
    [found] = trouble(replace(HEALTHY, is_search_complete=False))
    assert "was cut short" in found[2]


# --- what is found in a Redis -----------------------------------------------------------------


def test_measurements_are_those_of_the_server(queue: Queue, redis: redis_py.Redis) -> None:
    queue.enqueue("jobs.add", 1)
    late = queue.enqueue_in(60, "jobs.add", 1)
    redis.zadd("minirq:{default}:scheduled", {late.id: time.time() * 1000 - 20_000})
    queue.enqueue_in(60, "jobs.add", 2)
    health = read_health(Store(redis))
    about = redis.info()
    assert health.info["redis_version"] == about["redis_version"]
    assert (health.info["maxmemory_policy"], health.info["aof_enabled"]) == ("noeviction", 1)
    assert abs(health.clock_ahead) < 0.5
    assert 0 < health.round_trip < 0.5
    assert health.overdue == {"default": 1}
    assert [queue.waiting for queue in health.overview.queues] == [1]


def test_lists_without_a_living_owner_are_found(redis: redis_py.Redis) -> None:
    now_ms = time.time() * 1000
    leases = {
        "alive:1:a": now_ms + 60_000,
        "late:1:a": now_ms - 5000,
        "dead:1:a": -(now_ms - 90_000),
        "empty:1:a": -1,
    }
    redis.zadd("minirq:{mail}:owners", leases)
    for owner in ("alive:1:a", "late:1:a", "dead:1:a", "nobody:1:a"):
        redis.lpush(f"minirq:{{mail}}:processing:{owner}", b"x", b"y")
    redis.lpush("other:{mail}:processing:nobody:1:a", b"x")
    redis.lpush(b"minirq:{\xff}:processing:nobody:1:a", b"x")
    held = {one.owner: one for one in read_health(Store(redis)).orphaned}
    assert {owner: (one.queue, one.jobs, one.state) for owner, one in held.items()} == {
        "late:1:a": ("mail", 2, "late"),
        "dead:1:a": ("mail", 2, "dead"),
        "nobody:1:a": ("mail", 2, "unregistered"),
    }
    assert held["late:1:a"].seconds == pytest.approx(5, abs=2)
    assert held["dead:1:a"].seconds == pytest.approx(90, abs=2)


def test_the_search_ends_in_a_large_database(redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    redis.mset({f"key:{n}": "" for n in range(20_000)})
    redis.lpush("minirq:{mail}:processing:nobody:1:a", b"x")
    health = read_health(Store(redis))
    assert (len(health.orphaned), health.is_search_complete) == (1, True)
    monkeypatch.setattr("minirq.inspect.health.SEARCH_SECONDS", -1)
    assert not read_health(Store(redis)).is_search_complete


# --- the command ------------------------------------------------------------------------------


def test_a_healthy_system(invoke: Invoke, redis: redis_py.Redis, start_worker: StartWorker) -> None:
    start_worker("--lease", "1")
    until(lambda: redis.zcard("minirq:{default}:owners"))
    done = invoke("doctor")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("unix://")
    assert {line.split()[0] for line in lines[1:]} == {"ok"}


def test_something_bad_is_told_with_what_to_do_and_exits_with_1(
    invoke: Invoke, queue: Queue, work: Work
) -> None:
    queue.enqueue("jobs.fail")
    work()
    queue.enqueue("jobs.add", 1)
    done = invoke("doctor")
    assert done.exit_code == 1
    assert "\x1b" not in done.stdout
    text = " ".join(done.stdout.split())
    assert (
        "bad queue default 1 job is waiting, and no worker serves it Start one: minirq worker default" in text
    )
    assert "warn queue default 1 failed job is kept" in text

    told = json.loads(invoke("doctor", "--json").stdout)
    assert told["is_bad"] is True
    bad = [finding for finding in told["findings"] if finding["mark"] == "bad"]
    assert bad == [
        {"subject": "queue default", "mark": "bad", "text": "1 job is waiting, and no worker serves it",
         "advice": "Start one: minirq worker default"}
    ]  # fmt: skip


def test_marks_are_coloured_on_a_terminal_only_and_not_with_no_color(
    redis: redis_py.Redis, on_terminal: OnTerminal
) -> None:
    assert "\x1b[32mok  \x1b[0m  server" in on_terminal("doctor", NO_COLOR="")
    plain = on_terminal("doctor", NO_COLOR="1")
    assert "\x1b" not in plain
    assert "ok    server" in plain


def test_claims_that_fail_are_told_until_the_key_is_mended(
    invoke: Invoke, redis: redis_py.Redis, queue: Queue, start_worker: StartWorker
) -> None:
    redis.set("minirq:{default}:bell", "text")
    redis.lpush("minirq:{default}:queue", "no payload", "nor this")
    worker = start_worker("--lease", "0.5")
    until(lambda: "Claims fail in 1 process of worker" in invoke("doctor").output)
    assert worker.log.count("it is sent again until that is mended") == 1
    redis.delete("minirq:{default}:bell")
    assert queue.enqueue("tasks.add", 1, 2).wait(10) == 3
    until(lambda: "Claims fail" not in invoke("doctor").output)


def test_an_index_of_another_type_is_told(invoke: Invoke, redis: redis_py.Redis, queue: Queue) -> None:
    queue.enqueue("tasks.add", 1, 2)
    redis.set("minirq:{default}:expired", "text")
    done = invoke("doctor")
    assert done.exit_code == 1
    assert "a key cannot be read, so claims may fail" in done.output
    assert "WRONGTYPE" in done.output


def test_it_changes_nothing(invoke: Invoke, queue: Queue, redis: redis_py.Redis) -> None:
    queue.enqueue("jobs.add", 1)
    redis.lpush("minirq:{mail}:processing:nobody:1:a", b"x")
    before = {key: redis.dump(key) for key in redis.keys()}
    assert invoke("doctor").exit_code == 1
    assert {key: redis.dump(key) for key in redis.keys()} == before
