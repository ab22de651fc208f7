"""Delayed: many jobs due at one moment, and single ones."""

from __future__ import annotations

import time

from bench.cases.case import Case, Metric, percentile
from bench.stage import Stage

_TOGETHER = 5000
_SINGLE = 100
_SPACING = 0.031


def measure(stage: Stage) -> dict[str, float | None]:
    jobs = stage.jobs(seconds=5, most=_TOGETHER)
    seconds, early_together = _together(stage, jobs)
    late = _single(stage, min(_SINGLE, stage.most))
    return {
        "jobs": jobs,
        "seconds": seconds,
        "p50": percentile(late, 0.5),
        "p99": percentile(late, 0.99),
        "early": early_together + sum(value < 0 for value in late),
    }


def _together(stage: Stage, jobs: int) -> tuple[float, int]:
    """Seconds from the moment until the last has run, and how many were early."""
    with stage.producer() as producer, stage.marks() as marks:
        far = time.time() + 3600
        producer.ask("at", when=[far])  # what is loaded once
        began = time.time()
        trial = producer.ask("at", when=[far] * 100) - began
        stage.server.empty()
        producer.ask("enqueue", job="hello", n=1)
        marks.open_gate()
        with stage.worker(marks) as worker:
            stage.at_the_gate(worker, marks, 1)
            moment = time.time() + 1 + 1.5 * jobs * trial / 100
            done = producer.ask("at", when=[moment] * jobs)
            stage.count(worker, marks, jobs, moment - time.time() + 30 + 2 * jobs / stage.system.speed)
            now, clock = time.time(), time.monotonic_ns()
            # what was enqueued too late does not count as waiting since the moment
            since = max(moment, done)
            early = sum(note < 0 for note in marks.notes())
            return now - (clock - marks.last_ns()) / 1e9 - since, early


def _single(stage: Stage, jobs: int) -> list[float]:
    """Milliseconds that each was late."""
    with stage.producer() as producer, stage.marks() as marks:
        producer.ask("enqueue", job="hello", n=1)
        marks.open_gate()
        with stage.worker(marks) as worker:
            stage.at_the_gate(worker, marks, 1)
            first = time.time() + 1
            producer.ask("at", when=[first + at * _SPACING for at in range(jobs)])
            stage.count(worker, marks, jobs, 40 + jobs * _SPACING)
            return [note / 1e6 for note in marks.notes()]


CASE = Case(
    "delayed",
    "Delayed jobs",
    "Seconds from the moment at which many jobs are due until the last has run (5,000 jobs; fewer with"
    " workers that take longer), with one process; and how many milliseconds late single jobs are that are"
    " due 31 ms apart.",
    [
        Metric("jobs", "jobs due at once", ""),
        Metric("seconds", "until all have run", "s", digits=2),
        Metric("p50", "single, p50", "ms", digits=1),
        Metric("p99", "single, p99", "ms", digits=1),
        Metric("early", "early", "jobs"),
    ],
    measure,
)
