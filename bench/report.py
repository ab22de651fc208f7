"""Report: a result as docs/benchmarks.md. All that it says about speed comes from the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.figures import Figures, Result, times
from bench.goals import goals
from bench.tables import blocks, footnotes, header, rows

_INTRODUCTION = """\
# Benchmarks

Written by `bin/bench`; not edited by hand. minirq beside other job queues for Python on Redis, and beside
bare loops that show what redis-py and Redis leave room for (the floor). All on one machine and one
`redis-server` without persistence, on a unix socket, with the same functions as jobs. Another machine has
other numbers; what carries over are the ratios within a table.

A number followed by a range is the median of the runs, with the least and the most. Runs are interleaved over
the systems. The number of jobs differs with the system, so that each works for about as long. Jobs mark their
beginning and end in memory shared with what measures; the time that workers take to start is in the case that
measures it and in no other. All workers log errors only: at thousands of jobs a second, lines about each
would be what is measured."""

_REPEAT = """\
## How to repeat it

    bin/bench --write-docs     # all of it; this file and its charts
    bin/bench --quick          # minirq and the floor only
    bin/bench --systems minirq,huey --cases drain,latency --runs 3
    bin/bench --list

Environments with pinned versions are made in `.venv-bench/`, one for each peer. `bench/systems/` has a file
for each peer, `bench/cases/` one for each kind of case."""

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
        f"Measured on {result['date'][:10]}, runs of each: {result['runs']},"
        f" in {result['seconds'] / 60:.0f} minutes:"
        f" {machine['cpu']}, {machine['cores']} cores, {machine['system']}, {machine['python']},"
        f" redis-server {machine['redis-server']}. Load when it began: {machine['load']}.{pinning}"
    )


def _charts(charts: Mapping[str, str]) -> Iterator[str]:
    for file, title in charts.items():
        yield f"![{title}](charts/{file})"


def _ratios(figures: Figures) -> Iterator[str]:
    """How many times as fast as each peer minirq is."""
    lines = []
    for name in figures.peers():
        cells = [_ratio(figures, name, case, metric) for case, metric, _ in _COMPARED]
        if any(cells):
            lines.append([figures.titles[name], *(cell or "–" for cell in cells)])  # noqa: RUF001
    if lines:
        yield "## minirq against each peer\n\nHow many times as fast minirq is; below 1 it is slower."
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
        yield "## Goals\n\nWhat minirq is meant to reach, as ratios within this run where that can be."
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
