"""Growth: whether a long queue is slower than a short one."""

from __future__ import annotations

import time

from bench.cases.case import Case, Metric, percentile
from bench.marks import Marks
from bench.processes import ProducerProcess, Worker
from bench.stage import Stage

_DEPTHS = {"1k": 1_000, "100k": 100_000, "1m": 1_000_000}
_CHUNK = 50_000
_ENQUEUES = 1_000
_WARM_UP = 5_000


def measure(stage: Stage) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, depth in _DEPTHS.items():
        if depth <= stage.most:
            found[f"rate_{name}"], found[f"enqueue_{name}"] = _with_waiting(stage, depth)
    if stage.most >= 1_000_000 and stage.system.family != "floor":
        found["rate_scheduled"], found["enqueue_scheduled"] = _with_scheduled(stage, 1_000_000)
    return found


def _with_waiting(stage: Stage, depth: int) -> tuple[float, float]:
    with stage.producer() as producer:
        window = stage.jobs(most=40_000)
        _fill(producer, depth + window + _WARM_UP)
        micros = percentile(producer.ask("each_latency", n=_ENQUEUES), 0.5) / 1000
        return _rate(stage, window), micros


def _with_scheduled(stage: Stage, scheduled: int) -> tuple[float, float]:
    with stage.producer() as producer:
        tomorrow = time.time() + 86_400
        for _ in range(scheduled // _CHUNK):
            producer.ask("at", when=[tomorrow] * _CHUNK)
        micros = percentile(producer.ask("each_latency", n=_ENQUEUES), 0.5) / 1000
        window = stage.jobs(most=40_000)
        _fill(producer, 1_000 + window + _WARM_UP)
        return _rate(stage, window), micros


def _fill(producer: ProducerProcess, jobs: int) -> None:
    for at in range(0, jobs, _CHUNK):
        producer.ask("fill", job="noop", n=min(_CHUNK, jobs - at))


def _rate(stage: Stage, window: int) -> float:
    """Jobs a second from the end of the warm-up on, over so many jobs."""
    with stage.marks() as marks, stage.worker(marks) as worker:
        stage.at_the_gate(worker, marks, 1)
        marks.open_gate()
        first, began = _reached(stage, worker, marks, _WARM_UP)
        last, ended = _reached(stage, worker, marks, _WARM_UP + window)
        return (last - first) / (ended - began)


def _reached(stage: Stage, worker: Worker, marks: Marks, jobs: int) -> tuple[int, float]:
    stage.count(worker, marks, jobs, 60)
    return marks.counted(), time.monotonic()


CASE = Case(
    "growth",
    "Growth",
    "Jobs per second of one process, unpinned, and microseconds per enqueue (the median of 1,000), with at"
    " least this many jobs waiting; and with a million scheduled for tomorrow.",
    [
        Metric(f"{what}_{name}", f"{title}, {name}", unit, higher_is_better=what == "rate", digits=digits)
        for what, title, unit, digits in (("rate", "drain", "jobs/s", 0), ("enqueue", "enqueue", "µs", 1))
        for name in (*_DEPTHS, "scheduled")
    ],
    measure,
    runs=1,
    by_name_only=True,
)
