"""taskiq, with the list broker and the result backend of taskiq-redis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from bench import jobs
from bench.systems.system import System, redis_url

_NO_DELAYS = "delayed jobs need taskiq's scheduler, which is a process of its own"


class Taskiq(System):
    name = "taskiq"
    family = "taskiq"
    title = "taskiq"
    settings = "list broker (at most once), results in Redis for 500 s, 100 jobs at once a process"
    has_status = False
    speed = 1_500
    missing = {"delayed": _NO_DELAYS}

    def worker_command(self, url: str, processes: int, concurrency: int) -> list[str]:
        at_once = str(concurrency)
        limits = (
            ["--max-async-tasks", at_once, "--max-threadpool-threads", at_once] if concurrency > 1 else []
        )
        worker = ["-m", "taskiq", "worker", "bench.systems.taskiq:make_broker", "--log-level", "ERROR"]
        return [*worker, "--workers", str(processes), *limits]

    def connect(self) -> None:
        self._loop = asyncio.new_event_loop()
        broker = make_broker()
        self._loop.run_until_complete(broker.startup())
        self._tasks = broker.get_all_tasks()

    def enqueue(self, job: str, *args: Any) -> None:
        self._loop.run_until_complete(self._tasks[job].kiq(*args))

    def enqueue_each(self, job: str, calls: Sequence[tuple[Any, ...]]) -> None:
        async def each() -> None:
            for args in calls:
                await self._tasks[job].kiq(*args)

        self._loop.run_until_complete(each())


def make_broker() -> Any:
    """Make the broker with its tasks: taskiq's command calls this in each process."""
    from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

    results: Any = RedisAsyncResultBackend(redis_url(), result_ex_time=500)
    broker = ListQueueBroker(redis_url()).with_result_backend(results)
    for job in (*jobs.PLAIN, jobs.nap_async):
        broker.register_task(job, task_name=job.__name__)
    return broker


SYSTEMS: Sequence[System] = (Taskiq(),)
