"""Crowd: thousands of coroutines in one process."""

from __future__ import annotations

import time

from bench.cases.case import Case, Metric
from bench.stage import Stage

_JOBS, _AT_ONCE = 10_000, 5_000


def measure(stage: Stage) -> dict[str, float | None]:
    with stage.producer() as producer, stage.marks() as marks:
        producer.ask("fill", job="rest", n=_JOBS)
        with stage.worker(marks, concurrency=_AT_ONCE) as worker:
            stage.at_the_gate(worker, marks, 1)
            marks.open_gate()
            time.sleep(1)  # by now as many run as may
            memory = worker.memory()
            stage.count(worker, marks, _JOBS, 60)
            return {"seconds": (marks.last_ns() - marks.opened_ns) / 1e9, "memory": memory / 1e6}


CASE = Case(
    "crowd",
    "Crowd",
    "Seconds for 10,000 coroutines that sleep for a second, 5,000 at once in one process; the ideal is 2 s."
    " Memory of all processes of the worker after a second.",
    [Metric("seconds", "10,000 sleeps", "s", digits=2), Metric("memory", "memory", "MB", digits=1)],
    measure,
    by_name_only=True,
)
