"""Figures: the numbers of a result, looked up and written for people. Works on results as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """The median of the runs, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Figure | None:
        """None if there is no number; a run that has none counts as missing as a whole."""
        known = list(values)
        numbers = [value for value in known if value is not None]
        if not numbers or len(numbers) < len(known):
            return None
        return cls(median(numbers), min(numbers), max(numbers))


class Figures:
    """What a result holds, by case, system and metric."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.titles = {system["name"]: system["title"] for system in result["systems"]}
        self._systems = {system["name"]: system for system in result["systems"]}
        self._cases = {case["name"]: case for case in result["cases"]}

    def measured(self) -> list[Result]:
        """The systems that took part in any case."""
        cases = self._cases.values()
        names = {name for case in cases for name in (*case["numbers"], *case["notes"])}
        return [system for name, system in self._systems.items() if name in names]

    def of(self, case: str, system: str, metric: str) -> Figure | None:
        numbers = self._cases.get(case, {}).get("numbers", {}).get(system, {})
        return Figure.of(numbers[metric]) if metric in numbers else None

    def median(self, case: str, system: str, metric: str) -> float | None:
        figure = self.of(case, system, metric)
        return figure.median if figure else None

    def peers(self, *, with_status: bool = False) -> list[str]:
        """All systems that are neither minirq nor the floor."""
        return [
            name
            for name, system in self._systems.items()
            if system["family"] not in ("minirq", "floor") and (system["has_status"] or not with_status)
        ]

    def best_peer(
        self, case: str, metric: str, choose: Callable[..., Any], *, with_status: bool = False
    ) -> tuple[str, float] | None:
        """The peer with the largest or least median, by `choose` (max or min)."""
        known = {name: self.median(case, name, metric) for name in self.peers(with_status=with_status)}
        values = [(value, name) for name, value in known.items() if value is not None]
        if not values:
            return None
        value, name = choose(values)
        return name, value


def written(figure: Figure | None, digits: int, *, with_range: bool = True) -> str:
    """1,234 (1,200 to 1,300), or an en dash."""
    if figure is None:
        return "–"  # noqa: RUF001
    text = number(figure.median, digits)
    least, most = number(figure.least, digits), number(figure.most, digits)
    return f"{text} ({least} to {most})" if with_range and least != most else text


def number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def times(ratio: float) -> str:
    """2.4 or 380: three digits at most say enough."""
    return f"{ratio:,.0f}" if ratio >= 20 else f"{ratio:.1f}" if ratio >= 2 else f"{ratio:.2f}"
