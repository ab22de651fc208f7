"""Tables: a result as text, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.figures import Figures, Result, written
from bench.goals import Goal

_COLUMNS_A_TABLE = 4


def terminal(result: Result, goals: Sequence[Goal]) -> str:
    """Everything that was measured."""
    figures = Figures(result)
    parts = [part for case in result["cases"] for part in _case(figures, case)]
    settings = _aligned([["system", "settings"], *([s["title"], s["settings"]] for s in figures.measured())])
    parts.append("How they are set up\n\n" + settings)
    if goals:
        rows = [[goal.case, goal.wanted, goal.measured, goal.verdict] for goal in goals]
        parts.append("Goals\n\n" + _aligned([["case", "goal", "measured", ""], *rows]))
    return "\n\n".join(parts)


def rows(figures: Figures, case: Result, metrics: Sequence[Result], mark: str = "[{}]") -> list[list[str]]:
    """A row for each system with a number or a reason for none, which is a footnote."""
    notes = list(case["notes"])
    found = []
    for name, title in figures.titles.items():
        if name not in case["numbers"] and name not in notes:
            continue
        cells = [written(figures.of(case["name"], name, m["name"]), m["digits"]) for m in metrics]
        note = " " + mark.format(notes.index(name) + 1) if name in notes else ""
        found.append([title + note, *cells])
    return found


def header(metric: Result) -> str:
    return f"{metric['title']}, {metric['unit']}" if metric["unit"] else str(metric["title"])


def footnotes(figures: Figures, case: Result) -> list[str]:
    return [f"{figures.titles[name]}: {why}" for name, why in case["notes"].items()]


def blocks(case: Result) -> Iterator[Sequence[Result]]:
    """The metrics that have a number, a few for each table."""
    metrics = [m for m in case["metrics"] if any(m["name"] in found for found in case["numbers"].values())]
    for at in range(0, len(metrics), _COLUMNS_A_TABLE):
        yield metrics[at : at + _COLUMNS_A_TABLE]


def _case(figures: Figures, case: Result) -> Iterator[str]:
    tables = [
        _aligned([["", *(header(metric) for metric in metrics)], *rows(figures, case, metrics)])
        for metrics in blocks(case)
    ]
    notes = [f"[{at}] {note}" for at, note in enumerate(footnotes(figures, case), 1)]
    if tables or notes:
        yield "\n\n".join(
            [case["title"] + "\n" + case["about"], *tables, *(["\n".join(notes)] if notes else [])]
        )


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """The first column to the left, numbers to the right, text to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        cells = [
            cell.rjust(width) if at and _is_number(lines[-1][at]) else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text == "–"  # noqa: RUF001
