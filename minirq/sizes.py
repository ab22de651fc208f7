"""Sizes in bytes as people write them: a number, or text such as "512K", "200M", "1.5G"."""

from __future__ import annotations

import re

from minirq.exceptions import InvalidOption
from minirq.text import safe_repr

_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", re.IGNORECASE | re.ASCII)


def parse_size(value: int | str, *, what: str) -> int:
    """Return bytes; the units are powers of 1024. Raises InvalidOption, which names `what` and the value."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if not 0 < size < 2**50:
        raise InvalidOption(f"{what} is {safe_repr(value)}: give bytes above 0, or text such as '200M'")
    return size
