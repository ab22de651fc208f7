"""Drain: a worker runs jobs that wait already."""

from __future__ import annotations

from bench.cases.case import Case, Metric
from bench.processes import ProducerProcess
from bench.stage import Stage, pinnings

_RATE = "jobs/s"


def measure_noop(stage: Stage) -> dict[str, float | None]:
    with stage.producer() as producer:
        found = _by_pinning(stage, producer, "noop", 0)
        jobs = stage.jobs(seconds=1.5)
        found["two"] = jobs / stage.drain(producer, "noop", jobs, processes=2)
    return found


def measure_1k(stage: Stage) -> dict[str, float | None]:
    with stage.producer() as producer:
        return _by_pinning(stage, producer, "echo", 1024)


def measure_burn(stage: Stage) -> dict[str, float | None]:
    with stage.producer() as producer:
        jobs = stage.jobs(most=2000)
        return {"rate": jobs / stage.drain(producer, "burn", jobs, processes=2)}


def measure_sleeps(stage: Stage) -> dict[str, float | None]:
    return _sleeps(stage, "nap")


def measure_async_sleeps(stage: Stage) -> dict[str, float | None]:
    return _sleeps(stage, "nap_async")


def _sleeps(stage: Stage, job: str) -> dict[str, float | None]:
    with stage.producer() as producer:
        jobs = min(2000, stage.most)
        return {"seconds": stage.drain(producer, job, jobs, concurrency=50) * 2000 / jobs}


def _by_pinning(stage: Stage, producer: ProducerProcess, job: str, size: int) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    jobs = stage.jobs(most=100_000)
    for prefix, pinned in pinnings().items():
        with stage.pinned(pinned) as core:
            found[prefix] = jobs / stage.drain(producer, job, jobs, size=size, core=core)
    return found


NOOP = Case(
    "drain",
    "Drain",
    "Jobs per second that a worker runs from a queue that is already full; the jobs do nothing. Pinned:"
    " redis-server and worker share one core.",
    [
        Metric("pinned", "one process, pinned", _RATE, higher_is_better=True),
        Metric("free", "one process, unpinned", _RATE, higher_is_better=True),
        Metric("two", "two processes, unpinned", _RATE, higher_is_better=True),
    ],
    measure_noop,
)
KIB = Case(
    "drain-1k",
    "Drain with arguments and results",
    "Jobs per second with 1 KiB of text as the argument, which is also returned and stored as the result.",
    [
        Metric("pinned", "one process, pinned", _RATE, higher_is_better=True),
        Metric("free", "one process, unpinned", _RATE, higher_is_better=True),
    ],
    measure_1k,
)
BURN = Case(
    "burn",
    "Jobs of 1 ms CPU",
    "Jobs per second with two processes, unpinned; each job takes 1 ms of CPU time.",
    [Metric("rate", "two processes", _RATE, higher_is_better=True)],
    measure_burn,
)
SLEEPS = Case(
    "sleeps",
    "Sleeps, plain functions",
    "Seconds for 2,000 jobs that sleep for 10 ms, 50 at once in one process; the ideal is 0.4 s.",
    [Metric("seconds", "2,000 sleeps", "s", digits=2)],
    measure_sleeps,
)
ASYNC_SLEEPS = Case(
    "sleeps-async",
    "Sleeps, coroutines",
    "The same with `async def` functions.",
    [Metric("seconds", "2,000 sleeps", "s", digits=2)],
    measure_async_sleeps,
)
