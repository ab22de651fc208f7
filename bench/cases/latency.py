"""Latency: from enqueue to the start of the job, with an idle worker."""

from __future__ import annotations

from bench.cases.case import Case, Metric, percentile
from bench.stage import Stage, pinnings

_PAUSE = 0.002
#: for the jobs of one part, unless even the first hundred take longer
_SECONDS = 6.0


def measure(stage: Stage) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    jobs = stage.jobs(seconds=2, most=1000)
    for prefix, pinned in pinnings().items():
        with (
            stage.pinned(pinned) as core,
            stage.producer() as producer,
            stage.marks() as marks,
        ):
            marks.open_gate()
            producer.ask("enqueue", job="hello", n=1)
            with stage.worker(marks, core=core) as worker:
                stage.at_the_gate(worker, marks, 1)
                notes = producer.ask(
                    "one_by_one", n=jobs, folder=str(marks.folder), pause=_PAUSE, seconds=_SECONDS
                )
        taken = [note / 1e6 for note in notes]
        found[f"{prefix}_p50"] = percentile(taken, 0.5)
        found[f"{prefix}_p99"] = percentile(taken, 0.99)
        found[f"{prefix}_max"] = max(taken)
    return found


CASE = Case(
    "latency",
    "Latency",
    "Milliseconds from the call that enqueues to the start of the job, with one idle process; 1,000 jobs,"
    " or as many as fit into 6 s, each sent 2 ms after the previous one has run. Pinned: redis-server and"
    " worker share one core.",
    [
        Metric(f"{prefix}_{what}", f"{what}, {where}", "ms", digits=2)
        for prefix, where in (("pinned", "pinned"), ("free", "unpinned"))
        for what in ("p50", "p99", "max")
    ],
    measure,
)
