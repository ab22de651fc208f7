"""Charts: one for each main case, as SVG that reads on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

from bench.figures import Figure, Figures, Result, number

matplotlib.use("Agg")
# text stays text, and the same result gives the same file
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "minirq", "font.family": "sans-serif"})

from matplotlib import pyplot  # noqa: E402  the backend is chosen first

#: one grey that has contrast to white and to near black
_TEXT, _OURS, _PEER, _FLOOR = "#7d8590", "#d9822b", "#4c8bd0", "#9aa4af"


@dataclass(frozen=True)
class Chart:
    """`metrics` are bars side by side for each system, with what the legend says of them."""

    name: str
    title: str
    case: str
    metrics: Sequence[tuple[str, str]]
    digits: int
    is_log: bool = True


CHARTS = (
    Chart("drain", "No-op jobs a second, one process (log scale; more is better)", "drain",
          [("pinned", "pinned to one core"), ("free", "unpinned")], 0),
    Chart("enqueue", "Jobs enqueued a second, one by one, unpinned (log scale; more is better)", "enqueue",
          [("free_one", "without arguments"), ("free_one_1k", "1 KiB")], 0),
    Chart("enqueue-bulk", "Jobs enqueued a second, in bulk, unpinned (log scale; more is better)", "enqueue",
          [("free_bulk", "without arguments"), ("free_bulk_1k", "1 KiB")], 0),
    Chart("latency", "Milliseconds from enqueue to start, unpinned (log scale; less is better)", "latency",
          [("free_p50", "median"), ("free_p99", "99th percentile")], 2),
    Chart("delayed", "Milliseconds that single delayed jobs are late (log scale; less is better)", "delayed",
          [("p50", "median"), ("p99", "99th percentile")], 1),
    Chart("memory", "Bytes in Redis for a job with 1 KiB of argument (less is better)", "traffic",
          [("queued", "queued"), ("finished", "finished")], 0, is_log=False),
)  # fmt: skip


def draw(result: Result, folder: Path) -> dict[str, str]:
    """Draw the charts that the result has numbers for; their titles by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = Figures(result)
    drawn = {}
    for chart in CHARTS:
        bars = _bars(figures, chart)
        if bars:
            _draw(figures, chart, bars, folder / f"{chart.name}.svg")
            drawn[f"{chart.name}.svg"] = chart.title
    return drawn


def _bars(figures: Figures, chart: Chart) -> list[tuple[str, list[Figure | None]]]:
    """The systems that have a number, and their numbers, in the order of the systems."""
    found = []
    for name in figures.titles:
        numbers = [figures.of(chart.case, name, metric) for metric, _ in chart.metrics]
        if any(number is not None for number in numbers):
            found.append((name, numbers))
    return found


def _draw(figures: Figures, chart: Chart, bars: list[tuple[str, list[Figure | None]]], path: Path) -> None:
    kinds = len(chart.metrics)
    size, axes = pyplot.subplots(figsize=(8, 0.9 + 0.24 * kinds * len(bars) + 0.1 * len(bars)))
    thickness = 0.84 / kinds
    for row, (name, numbers) in enumerate(bars):
        for kind, figure in enumerate(numbers):
            if figure is not None:
                place = row + (kind - (kinds - 1) / 2) * thickness
                shade = 1.0 if kind == 0 else 0.55
                axes.barh(place, figure.median, thickness * 0.9, color=_colour(figures, name), alpha=shade)
                text = f" {number(figure.median, chart.digits)}"
                axes.text(figure.median, place, text, va="center", fontsize=8, color=_TEXT)
    axes.set_yticks(range(len(bars)), [figures.titles[name] for name, _ in bars])
    axes.invert_yaxis()
    if chart.is_log:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.margins(x=0.12)
    axes.set_title(chart.title, fontsize=10, color=_TEXT, loc="left", pad=22)
    _legend(axes, [title for _, title in chart.metrics])
    axes.tick_params(colors=_TEXT, labelsize=9, length=0)
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", color=_TEXT, alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    size.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(size)


def _legend(axes: pyplot.Axes, titles: Sequence[str]) -> None:
    handles = [
        pyplot.Rectangle((0, 0), 1, 1, color=_PEER, alpha=1.0 if at == 0 else 0.55)
        for at in range(len(titles))
    ]
    axes.legend(
        handles, titles, loc="lower left", bbox_to_anchor=(-0.01, 0.995), ncols=len(titles), frameon=False,
        fontsize=8, labelcolor=_TEXT, handlelength=1, handleheight=1,
    )  # fmt: skip


def _colour(figures: Figures, name: str) -> str:
    if name in figures.peers():
        return _PEER
    return _FLOOR if name.startswith("floor") else _OURS
