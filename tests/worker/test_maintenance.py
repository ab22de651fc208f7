"""The chores by themselves, tick by tick."""

from __future__ import annotations

import pytest
import redis as redis_py

from minirq import Queue
from minirq.client.store import Store
from minirq.connection.client import Sender
from minirq.inspect.overview import overview
from minirq.protocol import commands
from minirq.protocol.keys import Keys
from minirq.worker import process
from minirq.worker.maintenance import Maintenance
from minirq.worker.recovery import DeadOwner
from minirq.worker.settings import WorkerSettings


def test_a_worker_that_has_just_come_is_not_taken_for_long_gone(redis: redis_py.Redis) -> None:
    chores = Maintenance(redis, WorkerSettings())
    assert chores.register("owner")
    chores.tick()
    [seen] = overview(Store(redis)).workers
    assert seen.last_beat is not None
    chores.close()


def test_very_many_failed_jobs_are_said_once(redis: redis_py.Redis, caplog: pytest.LogCaptureFixture) -> None:
    failed = Keys().of("default").index("failed")
    redis.zadd(failed, {str(n): "+inf" for n in range(100_000)})
    chores = Maintenance(redis, WorkerSettings())

    def maintain() -> list[str]:
        caplog.clear()
        chores._trims = dict.fromkeys(chores._trims, 0.0)
        chores.tick()
        return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]

    assert chores.register("owner")
    [said] = maintain()
    assert "100,000 failed jobs" in said
    assert "minirq empty default --failed" in said
    assert maintain() == []
    redis.zrem(failed, "0")
    assert maintain() == []
    redis.zadd(failed, {"0": "+inf"})
    assert maintain() == [said]
    chores.close()


def test_a_death_is_blamed_on_the_job_of_the_queue_that_ran_and_not_on_its_namesake(
    redis: redis_py.Redis,
) -> None:
    a, b = (Queue(name, connection=redis).enqueue("jobs.add", 1, job_id="daily") for name in "ab")
    settings = WorkerSettings(queues=("a", "b"))
    chores = Maintenance(redis, settings)
    assert chores.register("owner")
    Sender(redis).send(commands.finish(settings.queue_keys, "owner", [], want=2))
    chores.bury(DeadOwner(("owner",), process.of_silence(), blamed=((1, "daily", 1),)))
    chores.tick()
    for job in (a, b):
        job.refresh()
    assert ((a.get_status(), a.lost), (b.get_status(), b.lost)) == (("queued", 0), ("queued", 1))
    chores.close()
