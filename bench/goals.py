"""Goals: what minirq is meant to reach, and whether a result reaches it. Ratios within one result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.figures import Figures, number, times


@dataclass(frozen=True)
class Goal:
    case: str
    wanted: str
    measured: str
    is_met: bool

    @property
    def verdict(self) -> str:
        return "met" if self.is_met else "missed"


def goals(figures: Figures) -> list[Goal]:
    """All goals that the result has the numbers for."""
    return [goal for part in _PARTS for goal in part(figures)]


def _drain(f: Figures) -> Iterator[Goal]:
    pinned = "drain no-op, pinned"
    for peer, factor in (("huey", 5), ("celery", 35), ("rq-simple", 60), ("rq", 400)):
        yield from _faster(f, pinned, "drain", "pinned", peer, factor)
    yield from _faster(f, pinned, "drain", "pinned", "floor-script10", 0.4)
    yield from _faster(f, "drain no-op, unpinned", "drain", "free", "huey", 10)
    yield from _faster(f, "drain 1 KiB and result, pinned", "drain-1k", "pinned", "huey", 4)
    yield from _faster(f, "1 ms CPU, two processes", "burn", "rate", "floor-bare", 0.9)


def _enqueue(f: Figures) -> Iterator[Goal]:
    for prefix in ("pinned", "free"):
        case = f"enqueue, {_WORDS[prefix]}"
        yield from _faster(f, case, "enqueue", f"{prefix}_one", "floor-script", 0.75)
        yield from _faster_than_best(f, case, f"{prefix}_one", 1, with_status=False)
        yield from _faster_than_best(f, case, f"{prefix}_one", 1.7, with_status=True)
        aio, one = (f.median("enqueue", name, f"{prefix}_one") for name in ("minirq-aio", "minirq"))
        if aio and one:
            wanted = "50 asyncio tasks at least 1.5 times one at a time"
            yield Goal(case, wanted, f"{times(aio / one)} times", aio / one >= 1.5)
        bulk = f"enqueue in bulk, {_WORDS[prefix]}"
        yield from _faster_than_best(f, bulk, f"{prefix}_bulk", 5, with_status=False)


def _latency(f: Figures) -> Iterator[Goal]:
    for prefix, factor in (("free", 2), ("pinned", 3)):
        case = f"latency, {_WORDS[prefix]}"
        ours = f.median("latency", "minirq", f"{prefix}_p50")
        floor = f.median("latency", "floor-list", f"{prefix}_p50")
        if ours and floor:
            wanted = f"p50 at most {factor} times the bare hand-over"
            yield Goal(case, wanted, f"{times(ours / floor)} times", ours / floor <= factor)
        yield from _below_best(f, case, f"{prefix}_p50", "p50", with_status=True)
        yield from _below_best(f, case, f"{prefix}_p99", "p99", with_status=False)


def _times(f: Figures) -> Iterator[Goal]:
    yield from _at_most(f, "mixed", "mixed", "ratio", 1.1, "times the ideal of two processes", 2)
    yield from _at_most(f, "mixed", "mixed", "idle", 10, "ms idle while jobs wait", 1)
    yield from _at_most(f, "10,000 coroutines of 1 s", "crowd", "seconds", 4, "s with 5,000 at once", 2)
    yield from _at_most(f, "10,000 coroutines of 1 s", "crowd", "memory", 250, "MB", 1)
    for case, kind in (("sleeps", "functions"), ("sleeps-async", "coroutines")):
        ours, best = f.median(case, "minirq", "seconds"), f.best_peer(case, "seconds", min, with_status=False)
        if ours and best:
            measured = f"{number(ours, 2)} s, {f.titles[best[0]]} {number(best[1], 2)} s"
            yield Goal(f"2,000 sleeps, {kind}", "ahead of the best peer", measured, ours < best[1])
    yield from _at_most(f, "5,000 due at one moment", "delayed", "seconds", 0.5, "s until all have run", 2)
    yield from _at_most(f, "single delayed jobs", "delayed", "p50", 5, "ms late, p50", 1)
    yield from _at_most(f, "single delayed jobs", "delayed", "p99", 20, "ms late, p99", 1)
    yield from _at_most(f, "delayed jobs", "delayed", "early", 0, "early", 0)
    yield from _at_most(f, "start of a worker", "start", "seconds", 0.25, "s to the first job", 2)
    yield from _at_most(f, "kill -9", "kill", "unfinished", 0, "unfinished", 0)
    yield from _at_most(f, "kill -9", "kill", "seconds", 17, "s until all are done (lease + 2 s)", 1)


def _cost(f: Figures) -> Iterator[Goal]:
    yield from _at_most(f, "Redis memory, 1 KiB job", "traffic", "queued", 1450, "bytes queued", 0)
    yield from _at_most(f, "Redis memory, 1 KiB job", "traffic", "finished", 2000, "bytes finished", 0)
    yield from _at_most(
        f, "commands run for a job", "traffic", "commands", 9, "commands, with those inside scripts", 1
    )
    yield from _at_most(
        f, "round trips for a job", "traffic", "sent", 1.1, "round trips, no batches", 2, "minirq-one"
    )
    yield from _at_most(f, "round trips for a job", "traffic", "sent", 0.1, "round trips, batches", 2)
    # one for each process: the supervisor and its child
    yield from _at_most(f, "idle worker", "idle", "sent", 2, "commands sent a second by its two processes", 2)
    yield from _at_most(f, "idle worker", "start", "memory", 40, "MB, supervisor and one child", 1)


def _fleet(f: Figures) -> Iterator[Goal]:
    for workers in (1, 10, 20):
        for queues in (10, 1_000, 10_000):
            title, most = f"{workers} idle, {queues:,} queues of others", 5 + 0.1 * queues
            yield from _at_most(f, title, "fleet", f"others_{workers}_{queues}", most, "commands a second", 1)
        title = f"{workers} idle, own queue"
        yield from _at_most(f, title, "fleet", f"own_{workers}", 2, "commands a second and worker", 2)


def _growth(f: Figures) -> Iterator[Goal]:
    for metric, title, best in (("rate", "drain rate", max), ("enqueue", "enqueue latency", min)):
        base = f.median("growth", "minirq", f"{metric}_1k")
        for name, waiting in (("1m", "1 million waiting"), ("scheduled", "1 million scheduled")):
            value = f.median("growth", "minirq", f"{metric}_{name}")
            if base and value:
                ratio = value / base
                is_met = ratio >= 0.9 if best is max else ratio <= 1.1
                wanted = f"{title} within 10 % of that with 1,000"
                yield Goal(waiting, wanted, f"{times(ratio)} times", is_met)


_PARTS: tuple[Callable[[Figures], Iterator[Goal]], ...] = (
    _drain,
    _enqueue,
    _latency,
    _times,
    _cost,
    _fleet,
    _growth,
)
_WORDS = {"pinned": "pinned", "free": "unpinned"}


# --- kinds of goals -------------------------------------------------------------------------------


def _faster(f: Figures, title: str, case: str, metric: str, other: str, factor: float) -> Iterator[Goal]:
    ours, theirs = f.median(case, "minirq", metric), f.median(case, other, metric)
    if ours and theirs:
        ratio = ours / theirs
        wanted = f"at least {factor:g} times {f.titles[other]}"
        yield Goal(title, wanted, f"{times(ratio)} times", ratio >= factor)


def _faster_than_best(
    f: Figures, title: str, metric: str, factor: float, *, with_status: bool
) -> Iterator[Goal]:
    ours = f.median("enqueue", "minirq", metric)
    best = f.best_peer("enqueue", metric, max, with_status=with_status)
    if ours and best:
        name, value = best
        which = "with a status" if with_status else "of all"
        wanted = f"at least {factor:g} times the best peer {which}"
        yield Goal(title, wanted, f"{times(ours / value)} times {f.titles[name]}", ours / value >= factor)


def _below_best(f: Figures, title: str, metric: str, what: str, *, with_status: bool) -> Iterator[Goal]:
    ours = f.median("latency", "minirq", metric)
    best = f.best_peer("latency", metric, min, with_status=with_status)
    if ours and best:
        name, value = best
        which = "with a status" if with_status else "of all"
        measured = f"{number(ours, 2)} ms, {f.titles[name]} {number(value, 2)} ms"
        yield Goal(title, f"{what} below the best peer {which}", measured, ours < value)


def _at_most(  # noqa: PLR0913 - a row of the table
    f: Figures,
    title: str,
    case: str,
    metric: str,
    limit: float,
    what: str,
    digits: int,
    system: str = "minirq",
) -> Iterator[Goal]:
    value = f.median(case, system, metric)
    if value is not None:
        yield Goal(title, f"at most {limit:,g} {what}", number(value, digits), value <= limit)
