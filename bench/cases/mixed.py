"""Mixed: one job in a hundred takes long. Shows what waits behind it."""

from __future__ import annotations

from bench.cases.case import Case, Metric
from bench.marks import Marks
from bench.stage import Stage

_LONG = 0.05


def measure(stage: Stage) -> dict[str, float | None]:
    jobs = max(200, stage.jobs(seconds=2, most=4000) // 200 * 200)
    calls = [[_LONG if at % 100 == 50 else 0] for at in range(jobs)]
    with stage.producer() as producer, stage.marks() as marks:
        producer.ask("listed", job="mixed", calls=calls)
        taken = stage.run_dry(marks, jobs, processes=2)
        return {"ratio": taken / (jobs / 100 * _LONG / 2), "idle": _longest_idle(marks)}


def _longest_idle(marks: Marks) -> float | None:
    """Milliseconds that a process stood idle at most while a job waited; None if each job has its own."""
    pairs = [sorted(pairs) for pairs in marks.pairs() if pairs]
    if len(pairs) > 2:
        return None
    last_start = max(began for process in pairs for began, _ in process)
    longest = 0
    for process in pairs:
        busy_until = process[0][1]
        for began, ended in process[1:]:
            longest = max(longest, began - busy_until)
            busy_until = max(busy_until, ended)
        longest = max(longest, last_start - busy_until)
    return longest / 1e6


CASE = Case(
    "mixed",
    "Mixed",
    "One job in 100 sleeps for 50 ms, the others do nothing; two processes, unpinned. Against the ideal:"
    " the time taken, divided by the time that evenly shared sleeps take. Idle: the longest time in which a"
    " process ran nothing while jobs waited.",
    [
        Metric("ratio", "against the ideal", "times", digits=2),
        Metric("idle", "longest idle", "ms", digits=1),
    ],
    measure,
)
