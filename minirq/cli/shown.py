"""How values are shown: moments and text for people, and plain data for programs."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from minirq.durations import span
from minirq.text import safe_repr


def moment(when: datetime, now: datetime) -> str:
    """Say a moment in local time, and how far it is from now."""
    away = (now - when).total_seconds()
    distance = f"{span(away)} ago" if away >= 0 else f"in {span(-away)}"
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S} ({distance})"


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
