"""Idle: a worker that has nothing to do, and how soon it has begun."""

from __future__ import annotations

import time

import psutil

from bench.cases.case import Case, Metric
from bench.stage import Stage
from bench.wire import Wire

#: until what a start brings with it is over, seconds
_SETTLING = 2.0
#: long enough for several beats, seconds
_WATCHED = 12.0


def measure_start(stage: Stage) -> dict[str, float | None]:
    with stage.producer() as producer, stage.marks() as marks:
        producer.ask("enqueue", job="noop", n=1)
        # a process that shares pages with the worker would make it look smaller
        producer.close()
        marks.open_gate()
        with stage.worker(marks) as worker:
            stage.count(worker, marks, 1, 30)
            seconds = (marks.first_ns() - worker.started_ns) / 1e9
            time.sleep(_SETTLING / 2)
            return {"seconds": seconds, "memory": worker.memory() / 1e6, "processes": len(worker.tree())}


def measure_idle(stage: Stage) -> dict[str, float | None]:
    with stage.producer() as producer, stage.marks() as marks:
        producer.ask("enqueue", job="noop", n=1)
        marks.open_gate()
        with stage.worker(marks) as worker:
            stage.count(worker, marks, 1, 60)
            time.sleep(_SETTLING)
            watched = min(_WATCHED, 20 * stage.seconds)
            before, cpu = stage.server.calls(), _cpu(worker.tree())
            with Wire(stage.server.url.removeprefix("unix://")) as wire:
                time.sleep(watched)
            return {
                "sent": wire.sent / watched,
                "commands": (stage.server.calls() - before) / watched,
                "cpu": (_cpu(worker.tree()) - cpu) / watched * 1000,
            }


def _cpu(tree: list[psutil.Process]) -> float:
    """Seconds of CPU that processes have used."""
    return sum(sum(process.cpu_times()[:2]) for process in tree)


START = Case(
    "start",
    "Start and memory",
    "Seconds from the start of a worker with one process to its first job; memory of all its processes a"
    " second later, as PSS (shared pages are divided), or RSS where PSS is not available.",
    [
        Metric("seconds", "to the first job", "s", digits=2),
        Metric("memory", "memory", "MB", digits=1),
        Metric("processes", "processes", ""),
    ],
    measure_start,
)
IDLE = Case(
    "idle",
    "Idle worker",
    "The cost of a worker with one process and nothing to do, over 12 s: commands per second that it sends"
    " and that Redis runs (including those inside scripts), and CPU time. All systems run at once, each with"
    " its own server.",
    [
        Metric("sent", "commands sent", "1/s", digits=2),
        Metric("commands", "commands run", "1/s", digits=2),
        Metric("cpu", "CPU", "ms/s", digits=1),
    ],
    measure_idle,
    together=True,
)
