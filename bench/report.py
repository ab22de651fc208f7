"""Report: a result as docs/benchmarks.md. All that it says about speed comes from the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.figures import Figures, Result, times
from bench.goals import goals
from bench.tables import blocks, footnotes, header, rows

_INTRODUCTION = """\
# Benchmarks

`bin/bench` writes this file; do not edit it by hand. It compares minirq with other job queues for Python on
Redis, and with bare loops that show the limits of redis-py and Redis (the floor). Everything runs on one
machine and one `redis-server` without persistence, on a unix socket, with the same functions as jobs. Another
machine has other numbers; only the ratios within a table carry over.

A number followed by a range is the median of the runs, with the minimum and the maximum. Runs are interleaved
over the systems. Each system gets as many jobs as it needs to work for about the same time. Jobs mark their
start and end in memory that they share with the measuring process. The start-up time of workers counts only
in the case that measures it. All workers log errors only: at thousands of jobs a second, a log line per job
would dominate the measurement."""

_REPEAT = """\
## How to repeat it

    bin/bench --write-docs     # all of it; this file and its charts
    bin/bench --quick          # minirq and the floor only
    bin/bench --systems minirq,huey --cases drain,latency --runs 3
    bin/bench --list

`bin/bench` makes environments with pinned versions in `.venv-bench/`, one per peer. `bench/systems/` has a
file for each peer, `bench/cases/` one for each kind of case."""

#: what the peers are compared by: a case, a metric, and its words
_COMPARED = (
    ("drain", "pinned", "drain, pinned"),
    ("drain", "free", "drain"),
    ("drain-1k", "free", "drain, 1 KiB"),
    ("enqueue", "free_one", "enqueue"),
    ("enqueue", "free_bulk", "enqueue, bulk"),
    ("latency", "free_p50", "latency, p50"),
    ("delayed", "p50", "lateness, p50"),
)


def document(result: Result, charts: Mapping[str, str]) -> str:
    """The whole file."""
    figures = Figures(result)
    parts = [_INTRODUCTION, _circumstances(result), *_charts(charts), *_ratios(figures)]
    parts += [part for case in result["cases"] for part in _case(figures, case)]
    parts += [*_goals(figures), _settings(figures), _REPEAT]
    return "\n\n".join(parts) + "\n"


def _circumstances(result: Result) -> str:
    machine = result["machine"]
    pinning = "" if machine["pinning"] else " Pinning to a core is not available there."
    return (
        f"Measured on {result['date'][:10]}, {result['runs']} runs of each,"
        f" in {result['seconds'] / 60:.0f} minutes:"
        f" {machine['cpu']}, {machine['cores']} cores, {machine['system']}, {machine['python']},"
        f" redis-server {machine['redis-server']}. Load at the start: {machine['load']}.{pinning}"
    )


def _charts(charts: Mapping[str, str]) -> Iterator[str]:
    for file, title in charts.items():
        yield f"![{title}](charts/{file})"


def _ratios(figures: Figures) -> Iterator[str]:
    """The speed of minirq divided by that of each peer."""
    lines = []
    for name in figures.peers():
        cells = [_ratio(figures, name, case, metric) for case, metric, _ in _COMPARED]
        if any(cells):
            lines.append([figures.titles[name], *(cell or "–" for cell in cells)])  # noqa: RUF001
    if lines:
        about = "The speed of minirq divided by the peer's; below 1, minirq is slower."
        yield f"## minirq against each peer\n\n{about}"
        yield _markdown([["", *(words for _, _, words in _COMPARED)], *lines])


def _ratio(figures: Figures, peer: str, case: str, metric: str) -> str | None:
    ours, theirs = figures.median(case, "minirq", metric), figures.median(case, peer, metric)
    if not ours or not theirs:
        return None
    is_time = metric.endswith("p50")
    return times(theirs / ours if is_time else ours / theirs)


def _case(figures: Figures, case: Result) -> Iterator[str]:
    tables = [
        _markdown([["", *map(header, metrics)], *rows(figures, case, metrics, "<sup>{}</sup>")])
        for metrics in blocks(case)
    ]
    notes = footnotes(figures, case)
    if tables or notes:
        yield f"## {case['title']}\n\n{case['about']}"
        yield from tables
        if notes:
            yield "\n".join(f"{at}. {note}" for at, note in enumerate(notes, 1))


def _goals(figures: Figures) -> Iterator[str]:
    found = goals(figures)
    if found:
        yield "## Goals\n\nThe goals of minirq, as ratios within this run where possible."
        lines = [[goal.case, goal.wanted, goal.measured, goal.verdict] for goal in found]
        yield _markdown([["case", "goal", "measured", ""], *lines], numbers=False)


def _settings(figures: Figures) -> str:
    lines = [[s["title"], s["settings"], _versions(s)] for s in figures.measured()]
    return "## How they are set up\n\n" + _markdown(
        [["system", "settings", "versions"], *lines], numbers=False
    )


def _versions(system: Result) -> str:
    family = system["family"]
    wanted = {"redis"} if family == "floor" else {"redis", family, f"{family}-redis"}
    return ", ".join(
        f"{name} {version}" for name, version in sorted(system["versions"].items()) if name in wanted
    )


def _markdown(lines: list[list[str]], *, numbers: bool = True) -> str:
    rule = ["---", *(["---:"] if numbers else ["---"]) * (len(lines[0]) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])
