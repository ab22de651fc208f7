"""huey: processes, or threads where jobs sleep."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bench import jobs
from bench.systems.system import System, redis_url


class Huey(System):
    name = "huey"
    family = "huey"
    title = "huey"
    settings = "worker type process (for sleeps thread), defaults: at most once, results unless None"
    has_status = False
    speed = 5_000
    missing = {"sleeps-async": "it has no coroutines"}

    def worker_command(self, url: str, processes: int, concurrency: int) -> list[str]:
        return ["-m", "bench.producer", "work", self.name, str(processes), str(concurrency)]

    def connect(self) -> None:
        from huey import RedisHuey

        self._huey = RedisHuey("bench", url=redis_url(), utc=True)
        self._tasks = {job.__name__: self._huey.task()(job) for job in jobs.PLAIN}

    def enqueue(self, job: str, *args: Any) -> None:
        self._tasks[job](*args)

    def enqueue_at(self, job: str, when: float, *args: Any) -> None:
        self._tasks[job].schedule(args=args, eta=datetime.fromtimestamp(when, UTC))

    def work(self, processes: int, concurrency: int) -> None:
        self.connect()
        kind, workers = ("thread", concurrency) if concurrency > 1 else ("process", processes)
        self._huey.create_consumer(workers=workers, worker_type=kind).run()


SYSTEMS: Sequence[System] = (Huey(),)
