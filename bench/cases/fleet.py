"""Fleet: what idle workers send for queues that they do not serve, and for their own."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from typing import Any

from bench.cases.case import Case, Metric
from bench.stage import Stage
from bench.wire import Wire
from minirq.protocol.keys import Keys

WORKERS = (1, 10, 20)
QUEUES = (10, 1_000, 10_000)
#: until what a start brings with it is over, seconds
_SETTLING = 10.0
#: each queue is looked after once in this time (minirq.worker.fleet), seconds
_EVERY = 20.0
#: five beats, three waits, and what is said of a worker twice, seconds
_WATCHED = 15.0
_KEYS = Keys()
#: what is sent for other queues, and for the indexes of all queues
_FOR_OTHERS = re.compile(
    rb'\{other-|"minirq:(?:maintenance|served|queues)"|"(?:SCAN|SSCAN|ZCOUNT|ZREMRANGEBYSCORE)"', re.I
)
_OWN = re.compile(rb'"default"')


def measure(stage: Stage) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {}
    for workers in WORKERS:
        numbers |= _with_workers(stage, workers)
    return numbers


def _with_workers(stage: Stage, workers: int) -> dict[str, float | None]:
    client, numbers, own, late = stage.server.client, {}, [], []
    stage.server.empty()
    with stage.marks() as marks, ExitStack() as stack:
        running = [stack.enter_context(stage.worker(marks)) for _ in range(workers)]
        stage.wait(running[0], lambda: client.zcard(_KEYS.workers) == workers, "has not begun", 60 + workers)
        time.sleep(min(_SETTLING, 20 * stage.seconds))
        for queues in QUEUES:
            _list(stage, queues)
            # workers sleep until the time that they saw last, which was before these queues came
            time.sleep(min(_EVERY, 20 * stage.seconds))
            watched = min(_WATCHED, 20 * stage.seconds)
            with Wire(stage.server.url.removeprefix("unix://"), _FOR_OTHERS, _OWN) as wire:
                time.sleep(watched)
            numbers[f"others_{workers}_{queues}"] = wire.matched / watched
            own.append((wire.sent - wire.matched) / watched / workers)
            late.append(_overdue(stage))
    return {**numbers, f"own_{workers}": max(own), f"late_{workers}": max(late)}


def _list(stage: Stage, queues: int) -> None:
    """As many queues as that are known, without workers of their own, and were looked after at some time."""
    names = [f"other-{n}" for n in range(queues)]
    client, now_ms = stage.server.client, _now_ms(stage)
    # one after the other in the time in which each is looked after once
    step = _EVERY * 1000 / queues
    client.sadd(_KEYS.queues, *names)
    client.zadd(_KEYS.served, dict.fromkeys(names, now_ms))
    client.zadd(_KEYS.maintenance, {name: int(now_ms + n * step) for n, name in enumerate(names)})


def _overdue(stage: Stage) -> float:
    """By how many seconds the queue is overdue that has waited longest."""
    first: Any = stage.server.client.zrange(_KEYS.maintenance, 0, 0, withscores=True)
    return max(_now_ms(stage) - float(first[0][1]), 0.0) / 1000


def _now_ms(stage: Stage) -> float:
    now: Any = stage.server.client.time()
    return float(now[0] * 1000 + now[1] / 1000)


CASE = Case(
    "fleet",
    "Idle workers beside queues that they do not serve",
    "Commands a second that idle workers of one queue send, over 15 s, without those inside scripts: all of"
    " them together for queues without workers of their own, and each for its own queue (the highest of"
    " three); and how many seconds at most a queue was overdue.",
    [
        *(
            Metric(
                f"others_{w}_{q}", f"{w} {'worker' if w == 1 else 'workers'}, {q:,} queues", "1/s", digits=1
            )
            for w in WORKERS
            for q in QUEUES
        ),
        *(Metric(f"own_{w}", f"{w}: own queue, each", "1/s", digits=2) for w in WORKERS),
        *(Metric(f"late_{w}", f"{w}: overdue", "s", digits=1) for w in WORKERS),
    ],
    measure,
    runs=1,
    by_name_only=True,
)
