"""Case: something to measure, and the numbers that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.stage import Stage

#: numbers of one run by the name of their metric; None is a number that cannot be had from this system
Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class Metric:
    """One column. `digits` behind the point."""

    name: str
    title: str
    unit: str
    higher_is_better: bool = False
    digits: int = 0


@dataclass(frozen=True)
class Case:
    """`together`: systems wait more than they work, so all are measured at once, with servers of their own.

    `runs` bounds the runs of what takes long.
    """

    name: str
    title: str
    about: str
    metrics: Sequence[Metric]
    measure: Callable[[Stage], Numbers]
    together: bool = False
    runs: int | None = None
    #: only systems that name it (System.also) take part
    by_name_only: bool = False


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies; nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
