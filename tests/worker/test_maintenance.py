"""The maintenance by itself, tick by tick."""

from __future__ import annotations

import pytest
import redis as redis_py

from minirq import Queue
from minirq.client.store import Store
from minirq.connection.client import Sender
from minirq.inspect.overview import overview
from minirq.protocol import commands
from minirq.protocol.keys import Keys
from minirq.worker.maintenance import Maintenance
from minirq.worker.recovery import SILENCE, DeadProcess
from minirq.worker.settings import WorkerSettings


def test_a_worker_that_has_just_come_is_not_taken_for_long_gone(redis: redis_py.Redis) -> None:
    maintenance = Maintenance(redis, WorkerSettings())
    assert maintenance.register("owner")
    maintenance.tick()
    [seen] = overview(Store(redis)).workers
    assert seen.last_beat is not None
    maintenance.close()


def test_very_many_failed_jobs_are_said_once(redis: redis_py.Redis, caplog: pytest.LogCaptureFixture) -> None:
    failed = Keys().of("default").index("failed")
    redis.zadd(failed, {str(n): "+inf" for n in range(100_000)})
    maintenance = Maintenance(redis, WorkerSettings())

    def maintain() -> list[str]:
        caplog.clear()
        maintenance._trimming.due = 0.0
        maintenance.tick()
        return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]

    assert maintenance.register("owner")
    [said] = maintain()
    assert "100,000 failed jobs" in said
    assert "minirq empty default --failed" in said
    assert maintain() == []
    redis.zrem(failed, "0")
    assert maintain() == []
    redis.zadd(failed, {"0": "+inf"})
    assert maintain() == [said]
    maintenance.close()


def test_a_death_is_blamed_on_the_job_of_the_queue_that_ran_and_not_on_its_namesake(
    redis: redis_py.Redis,
) -> None:
    a, b = (Queue(name, connection=redis).enqueue("jobs.add", 1, job_id="daily") for name in "ab")
    settings = WorkerSettings(queues=("a", "b"))
    maintenance = Maintenance(redis, settings)
    assert maintenance.register("owner")
    Sender(redis).send(commands.finish(settings.queue_keys, "owner", [], want=2))
    maintenance.recover(DeadProcess(("owner",), SILENCE, blamed=((1, "daily", 1),)))
    maintenance.tick()
    for job in (a, b):
        job.refresh()
    assert ((a.get_status(), a.lost), (b.get_status(), b.lost)) == (("queued", 0), ("queued", 1))
    maintenance.close()
