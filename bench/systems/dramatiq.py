"""dramatiq: as it comes, and with its prefetch raised."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from bench import jobs
from bench.systems.system import System, redis_url


class Dramatiq(System):
    name = "dramatiq"
    family = "dramatiq"
    title = "dramatiq"
    settings = "8 threads a process, no results except with 1 KiB results"
    has_status = False
    speed = 2_000
    missing = {"sleeps-async": "coroutines run in one thread, by a middleware that is off by default"}
    threads = 8

    def worker_command(self, url: str, processes: int, concurrency: int) -> list[str]:
        threads = concurrency if concurrency > 1 else self.threads
        counts = ["-p", str(processes), "-t", str(threads)]
        return ["-m", "dramatiq", "bench.systems.dramatiq:set_up", "--skip-logging", *counts]

    def connect(self) -> None:
        self._actors = set_up()

    def enqueue(self, job: str, *args: Any) -> None:
        self._actors[job].send(*args)

    def enqueue_at(self, job: str, when: float, *args: Any) -> None:
        # whole milliseconds, and the message counts them from a clock of its own: round up
        delay = -int(-(when - time.time()) * 1000 // 1)
        self._actors[job].send_with_options(args=args, delay=max(delay, 0))


class Tuned(Dramatiq):
    name = "dramatiq-tuned"
    title = "dramatiq, prefetch"
    settings = "1 thread a process, dramatiq_queue_prefetch=500"
    speed = 5_000
    cases = frozenset({"drain", "drain-1k", "latency", "mixed", "burn"})
    threads = 1

    def environment(self, url: str) -> dict[str, str]:
        return {"dramatiq_queue_prefetch": "500"}


def set_up() -> dict[str, Any]:
    """Make the broker and the actors: dramatiq's command calls this in each process."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    broker = RedisBroker(url=redis_url())
    broker.add_middleware(Results(backend=RedisBackend(url=redis_url())))
    dramatiq.set_broker(broker)
    return {
        job.__name__: dramatiq.actor(job, store_results=job is jobs.echo, broker=broker) for job in jobs.PLAIN
    }


SYSTEMS: Sequence[System] = (Dramatiq(), Tuned())
