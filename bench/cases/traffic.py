"""Traffic: what a job costs Redis in commands, bytes and memory."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.cases.case import Case, Metric
from bench.server import Server
from bench.stage import Stage
from bench.wire import Wire

#: until what follows the last job has been said too, seconds
_SETTLED = 0.5


@dataclass(frozen=True)
class _Reading:
    calls: int
    bytes: int
    memory: int

    @classmethod
    def of(cls, server: Server) -> _Reading:
        stats = server.info("stats")
        moved = stats["total_net_input_bytes"] + stats["total_net_output_bytes"]
        return cls(server.calls(), moved, server.info("memory")["used_memory"])


def measure(stage: Stage) -> dict[str, float | None]:
    jobs = stage.jobs(seconds=2, least=min(400, stage.most), most=2000)
    server = stage.server
    with stage.producer() as producer, stage.marks() as marks:
        # scripts and connections are there already when the counting begins
        producer.ask("enqueue", job="keep", n=10, size=1024)
        server.empty()
        empty = _Reading.of(server)
        producer.ask("enqueue", job="keep", n=jobs, size=1024)
        queued = _Reading.of(server)
        with stage.worker(marks) as worker:
            stage.at_the_gate(worker, marks, 1)
            started = _Reading.of(server)
            marks.open_gate()
            stage.count(worker, marks, jobs, 20 + 4 * jobs / stage.system.speed)
            time.sleep(_SETTLED)
            ended = _Reading.of(server)
        time.sleep(_SETTLED)
        finished = _Reading.of(server)
    return {
        "enqueue_commands": (queued.calls - empty.calls) / jobs,
        "enqueue_bytes": (queued.bytes - empty.bytes) / jobs,
        "queued": (queued.memory - empty.memory) / jobs,
        "commands": (ended.calls - started.calls) / jobs,
        "sent": _sent(stage, stage.jobs(seconds=0.5, least=min(200, stage.most), most=2000)),
        "bytes": (ended.bytes - started.bytes) / jobs,
        "finished": (finished.memory - empty.memory) / jobs,
    }


def _sent(stage: Stage, jobs: int) -> float:
    """Commands a job that the worker sends, seen in a run of its own: MONITOR's replies are bytes too."""
    with stage.producer() as producer, stage.marks() as marks:
        producer.ask("fill", job="keep", n=jobs, size=1024)
        with stage.worker(marks) as worker:
            stage.at_the_gate(worker, marks, 1)
            with Wire(stage.server.url.removeprefix("unix://")) as wire:
                marks.open_gate()
                stage.count(worker, marks, jobs, 20 + 4 * jobs / stage.system.speed)
                time.sleep(_SETTLED)
            return wire.sent / jobs


CASE = Case(
    "traffic",
    "Cost in Redis",
    "A job with 1 KiB of text that does not compress and no result, enqueued one by one, run by one"
    " process. Commands run include those inside scripts; commands sent are those of the worker. Bytes count"
    " both directions.",
    [
        Metric("enqueue_commands", "commands run to enqueue", "", digits=1),
        Metric("enqueue_bytes", "bytes to enqueue", "bytes"),
        Metric("commands", "commands run to execute", "", digits=1),
        Metric("sent", "commands sent to execute", "", digits=2),
        Metric("bytes", "bytes to execute", "bytes"),
        Metric("queued", "memory queued", "bytes"),
        Metric("finished", "memory finished", "bytes"),
    ],
    measure,
)
