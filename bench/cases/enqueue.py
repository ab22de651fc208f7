"""Enqueue: one process puts jobs in, one at a time and in bulk."""

from __future__ import annotations

from bench.cases.case import Case, Metric
from bench.processes import ProducerProcess
from bench.stage import Stage, pinnings
from bench.systems import Unsupported

KIB = 1024
_WAYS = {"one": (0, False), "bulk": (0, True), "one_1k": (KIB, False), "bulk_1k": (KIB, True)}


def measure(stage: Stage) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for prefix, pinned in pinnings().items():
        with stage.pinned(pinned) as core, stage.producer(core=core) as producer:
            for way, (size, bulk) in _WAYS.items():
                found[f"{prefix}_{way}"] = _rate(stage, producer, size, bulk)
    return found


def _rate(stage: Stage, producer: ProducerProcess, size: int, bulk: bool) -> float | None:
    job = "keep" if size else "noop"
    try:
        # how fast it is decides how many; this also loads what is loaded once
        trial = producer.ask("enqueue", job=job, n=200, size=size, bulk=bulk)
        jobs = min(int(200 / trial * 0.4 * stage.seconds), 40_000, stage.most)
        stage.server.empty()
        taken: float = producer.ask("enqueue", job=job, n=max(jobs, 100), size=size, bulk=bulk)
    except Unsupported:
        return None
    return max(jobs, 100) / taken


CASE = Case(
    "enqueue",
    "Enqueue",
    "Jobs per second that one process enqueues: without arguments, and with 1 KiB of text that does not"
    " compress; one call per job, or the system's call for many jobs. Pinned: it shares one core with"
    " redis-server.",
    [
        Metric(f"{prefix}_{way}", f"{title}, {where}", "jobs/s", higher_is_better=True)
        for prefix, where in (("pinned", "pinned"), ("free", "unpinned"))
        for way, title in (
            ("one", "one by one"), ("bulk", "bulk"),
            ("one_1k", "one by one, 1 KiB"), ("bulk_1k", "bulk, 1 KiB"),
        )
    ],
    measure,
)  # fmt: skip
