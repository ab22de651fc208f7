"""How values are printed: times and tables that fit the terminal for people, JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from minirq.durations import local_time, span
from minirq.text import safe_repr, safe_text


def moment(when: datetime, now: datetime) -> str:
    """Show a time in the local time zone, and how far it is from now."""
    away = (now - when).total_seconds()
    distance = f"{span(away)} ago" if away >= 0 else f"in {span(-away)}"
    return f"{local_time(when)} ({distance})"


def json_line(value: object) -> str:
    """Return one line of JSON. Dataclasses become objects; times (in ISO 8601) and paths become text."""
    return json.dumps(value, default=_as_json)


def _as_json(value: Any) -> object:
    match value:
        case datetime():
            return value.isoformat(timespec="milliseconds")
        case Path():
            return str(value)
    return asdict(value)


def plain(value: Any) -> Any:
    """Make a value of the application fit for JSON: what JSON has no form for becomes its repr."""
    match value:
        case int() if value.bit_length() > 10_000:  # Python does not spell an int of thousands of digits
            return safe_repr(value)
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else repr(value)
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {
                key if isinstance(key, str) else safe_repr(key, 1000): plain(item)
                for key, item in value.items()
            }
    return safe_repr(value, 1000)


_GAP = "  "
#: narrower than this a text is not cut, whatever the width
_NARROWEST = 12


@dataclass(frozen=True, slots=True)
class Cell:
    """Text, which is made safe when it is shown, and its colour."""

    text: str
    color: str | None = None


def layout(
    headers: Sequence[str], rows: Sequence[Sequence[Cell]], *, texts: Sequence[int], width: int
) -> list[str]:
    """Return the lines of a table, the header first. Columns in `texts` are left-aligned, and cut to fit."""
    table = [[Cell(header) for header in headers]]
    table += [[Cell(safe_text(cell.text), cell.color) for cell in row] for row in rows]
    widths = [max(len(cell.text) for cell in column) for column in zip(*table, strict=True)]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        widest = max(texts, key=widths.__getitem__)
        if widths[widest] <= max(_NARROWEST, len(headers[widest])):
            break
        widths[widest] -= 1
    return [_line(row, widths, texts) for row in table]


def _line(row: Sequence[Cell], widths: Sequence[int], texts: Sequence[int]) -> str:
    words = []
    for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
        cut = cell.text if len(cell.text) <= width else cell.text[: width - 1] + "…"
        # padded first: colours have no width
        padded = cut.ljust(width) if number in texts else cut.rjust(width)
        words.append(click.style(padded, fg=cell.color) if cell.color else padded)
    return _GAP.join(words).rstrip()
