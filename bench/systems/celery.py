"""Celery: prefork, with results, tuned for throughput, and with acks_late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bench import jobs
from bench.systems.system import System, socket_path


class Celery(System):
    name = "celery"
    family = "celery"
    title = "Celery"
    settings = "prefork, results in Redis, defaults; for sleeps `--pool threads`"
    speed = 700
    missing = {"sleeps-async": "it has no coroutines"}
    config: Mapping[str, Any] = {}
    options: tuple[str, ...] = ()

    def worker_command(self, url: str, processes: int, concurrency: int) -> list[str]:
        return ["-m", "bench.producer", "work", self.name, str(processes), str(concurrency)]

    def connect(self) -> None:
        import celery

        url = f"redis+socket://{socket_path()}"
        self.app = celery.Celery("bench", broker=url, backend=url)
        self.app.conf.update(broker_connection_retry_on_startup=True, **self.config)
        self._tasks = {job.__name__: self.app.task(job, name=job.__name__) for job in jobs.PLAIN}

    def enqueue(self, job: str, *args: Any) -> None:
        self._tasks[job].delay(*args)

    def enqueue_at(self, job: str, when: float, *args: Any) -> None:
        self._tasks[job].apply_async(args, eta=datetime.fromtimestamp(when, UTC))

    def work(self, processes: int, concurrency: int) -> None:
        self.connect()
        pool = ["--pool", "threads", "-c", str(concurrency)] if concurrency > 1 else ["-c", str(processes)]
        self.app.worker_main(["worker", "-l", "ERROR", *pool, *self.options])


class Tuned(Celery):
    name = "celery-tuned"
    title = "Celery, no results"
    settings = "prefork, ignore_result, prefetch multiplier 64, no gossip, mingle, heartbeat"
    has_status = False
    speed = 800
    cases = frozenset({"enqueue", "drain"})
    config = {"task_ignore_result": True, "worker_prefetch_multiplier": 64}
    options = ("--without-gossip", "--without-mingle", "--without-heartbeat")


class AcksLate(Celery):
    name = "celery-late"
    title = "Celery, acks_late"
    settings = "prefork, results, acks_late, reject_on_worker_lost, prefetch multiplier 1"
    speed = 600
    cases = frozenset({"drain", "mixed", "kill"})
    config = {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
    }


SYSTEMS: Sequence[System] = (Celery(), Tuned(), AcksLate())
