"""Kill: the whole worker dies in the middle of its jobs, and a second one is started."""

from __future__ import annotations

import time

from bench.cases.case import Case, Metric
from bench.jobs import KILL_JOBS
from bench.processes import Trouble
from bench.stage import Stage

_PATIENCE = 60.0


def measure(stage: Stage) -> dict[str, float | None]:
    with stage.producer() as producer, stage.marks() as marks:
        producer.ask("listed", job="once", calls=[[number] for number in range(KILL_JOBS)])
        marks.open_gate()
        with stage.worker(marks) as worker:
            stage.count(worker, marks, KILL_JOBS // 3, 60)
        killed = time.monotonic()
        with stage.worker(marks) as second:
            while time.monotonic() - killed < _PATIENCE:
                ends = marks.tallies(range(KILL_JOBS))
                if all(ends):
                    break
                if second.has_ended():
                    raise Trouble("the second worker has ended by itself")
                time.sleep(0.02)
            seconds = time.monotonic() - killed
    return {
        "unfinished": sum(end == 0 for end in ends),
        "twice": sum(end > 1 for end in ends),
        "seconds": seconds if all(ends) else None,
    }


CASE = Case(
    "kill",
    "kill -9",
    "200 jobs of 20 ms; all processes of the worker are killed after a third of them, and a second worker"
    " is started at once. Unfinished: after 60 s. Twice: jobs that ran to their end more than once. All"
    " systems run at once, each with its own server.",
    [
        Metric("unfinished", "unfinished", "jobs"),
        Metric("twice", "twice", "jobs"),
        Metric("seconds", "until all are done", "s", digits=1),
    ],
    measure,
    together=True,
)
