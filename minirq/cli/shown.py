"""How values are shown: spans, moments and text for people, and plain data for programs."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from minirq.text import safe_repr, safe_text

_UNITS = (("d", 86400, 2 * 86400), ("h", 3600, 2 * 3600), ("min", 60, 2 * 60))


def span(seconds: float) -> str:
    """Say a span of time in the largest unit of which it has two: "90 s", "3 min", "4 h", "2 d"."""
    for unit, size, least in _UNITS:
        if round(seconds) >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def exact_span(seconds: float) -> str:
    """Say a span of time without rounding: 180 seconds are "3 min", and 500 stay "500 s"."""
    for unit, size, _ in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:g} s"


def moment(when: datetime, now: datetime) -> str:
    """Say a moment in local time, and how far it is from now."""
    away = (now - when).total_seconds()
    distance = f"{span(away)} ago" if away >= 0 else f"in {span(-away)}"
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S} ({distance})"


def safe_lines(text: str, limit: int = 500) -> list[str]:
    """Cut text of several lines, such as a traceback, into lines that are safe to show."""
    return [safe_text(line, limit) for line in text.rstrip("\n").split("\n")]


def plain(value: Any) -> Any:
    """Make a value of the application fit for JSON: what JSON has no form for becomes its repr."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else repr(value)
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {key if isinstance(key, str) else repr(key): plain(item) for key, item in value.items()}
    return safe_repr(value, 1000)
