"""minirq, from this checkout."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from bench import jobs
from bench.systems.system import System, Unsupported, redis_url
from bench.systems.vocabulary import RqVocabulary


class Minirq(RqVocabulary):
    name = "minirq"
    family = "minirq"
    title = "minirq"
    settings = "`minirq worker -q`: status, results, at least once, batches of short jobs"
    speed = 25_000
    also = frozenset({"crowd", "growth", "fleet"})
    options: tuple[str, ...] = ()

    def worker_command(self, url: str, processes: int, concurrency: int) -> list[str]:
        at_once = ["-c", str(concurrency)] if concurrency > 1 else []
        return [
            "-m",
            "minirq",
            "worker",
            "-q",
            "-P",
            str(self.root),
            "-p",
            str(processes),
            *at_once,
            *self.options,
        ]

    def environment(self, url: str) -> dict[str, str]:
        return {"MINIRQ_REDIS_URL": url, "MINIRQ_EMBEDDED": "0"}

    def connect(self) -> None:
        from minirq import Queue

        self._queue = Queue(connection=redis_url())


class OneByOne(Minirq):
    name = "minirq-one"
    title = "minirq, no batches"
    settings = "`minirq worker -q --no-batch`: one round trip for each job"
    speed = 5_000
    cases = frozenset({"drain", "drain-1k", "traffic"})
    also = frozenset()
    options = ("--no-batch",)


class FiftyTasks(Minirq):
    name = "minirq-aio"
    title = "minirq.aio, 50 tasks"
    settings = "`AsyncQueue.enqueue` in 50 tasks at once"
    cases = frozenset({"enqueue"})
    also = frozenset()
    tasks = 50

    def connect(self) -> None:
        from minirq.aio import AsyncQueue

        self._loop = asyncio.new_event_loop()
        self._tasks_queue = AsyncQueue(connection=redis_url())

    def enqueue_each(self, job: str, calls: Sequence[tuple[Any, ...]]) -> None:
        self._loop.run_until_complete(self._enqueue_all(getattr(jobs, job), calls))

    def enqueue_bulk(self, job: str, calls: Sequence[tuple[Any, ...]]) -> None:
        raise Unsupported("as minirq does it")

    async def _enqueue_all(self, function: Any, calls: Sequence[tuple[Any, ...]]) -> None:
        async def some(first: int) -> None:
            for args in calls[first :: self.tasks]:
                await self._tasks_queue.enqueue(function, *args)

        await asyncio.gather(*(some(first) for first in range(self.tasks)))


SYSTEMS: tuple[System, ...] = (Minirq(), OneByOne(), FiftyTasks())
