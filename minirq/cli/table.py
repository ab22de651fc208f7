"""A table: columns that line up, within a width. Knows nothing of what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from minirq.text import safe_text

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
    shown = [[safe_text(cell.text) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *shown, strict=True)]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        widest = max(texts, key=widths.__getitem__)
        if widths[widest] <= max(_NARROWEST, len(headers[widest])):
            break
        widths[widest] -= 1
    lines = [_line(headers, [None] * len(headers), widths, texts)]
    for row, safe in zip(rows, shown, strict=True):
        lines.append(_line(safe, [cell.color for cell in row], widths, texts))
    return lines


def _line(
    words: Sequence[str], colors: Sequence[str | None], widths: Sequence[int], texts: Sequence[int]
) -> str:
    cells = []
    for number, (word, color, width) in enumerate(zip(words, colors, widths, strict=True)):
        cut = word if len(word) <= width else word[: width - 1] + "…"
        # padded first: colours have no width
        padded = cut.ljust(width) if number in texts else cut.rjust(width)
        cells.append(click.style(padded, fg=color) if color else padded)
    return _GAP.join(cells).rstrip()
