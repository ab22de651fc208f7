"""The chores by themselves, tick by tick."""

from __future__ import annotations

import redis as redis_py

from minirq.overview import overview
from minirq.store import Store
from minirq.worker.chores import Chores
from minirq.worker.settings import WorkerSettings


def test_a_worker_that_has_just_come_is_not_taken_for_long_gone(redis: redis_py.Redis) -> None:
    chores = Chores(redis, WorkerSettings())
    assert chores.register("owner")
    chores.tick()
    [seen] = overview(Store(redis)).workers
    assert seen.last_beat is not None
    chores.close()
