"""Parse and format durations (90, "90", "10m", "1h30m", timedelta(...)); parse sizes ("512K", "1.5G")."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

from minirq.exceptions import InvalidOption, TimeoutFormatError
from minirq.text import safe_repr

__all__ = ["MAX_SECONDS", "Duration", "exact_span", "local_time", "parse_duration", "span", "utc_from_ms"]

Duration = int | float | str | timedelta

_SECONDS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PLAIN = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")
# Units in descending order, each at most once: "1h30m" and not "30m1h", which is more often a slip.
# Possessive: nothing is matched in a second way, so invalid text is refused in linear time.
_PARTS = re.compile(
    "".join(rf"(?:\s*+([0-9]{{1,20}}+(?:\.[0-9]{{1,20}}+)?)\s*+{unit}(?![a-z]))?" for unit in _SECONDS)
)
_LONGEST_TEXT = 64
# Beyond this, the milliseconds that Redis computes with would overflow.
MAX_SECONDS = 1000 * 365 * 86400.0
_FORMS = "seconds, a timedelta, or text such as '90', '500ms', '10m', '1h30m', '1.5h', '2d', '1w'"


def parse_duration(value: Duration, *, what: str, allow_unlimited: bool = False) -> float:
    """Return `value` in seconds; `what` names the setting in errors.

    Raises TimeoutFormatError if it is not a duration, for NaN, infinity and bool, for more than 1,000 years,
    and for negative values. With `allow_unlimited`, -1 is returned as -1.0.
    """
    seconds = _read(value)
    if seconds is None or math.isnan(seconds):
        raise TimeoutFormatError(f"{what}: {safe_repr(value)} is not a duration; give {_FORMS}")
    if seconds == -1 and allow_unlimited:
        return -1.0
    if seconds < 0:
        unlimited = " (-1 means no limit)" if allow_unlimited else ""
        raise TimeoutFormatError(f"{what}: {safe_repr(value)} is negative; give 0 or more seconds{unlimited}")
    if seconds > MAX_SECONDS:
        raise TimeoutFormatError(f"{what}: {safe_repr(value)} is longer than 1,000 years")
    return seconds


def _read(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return _read_text(value.strip().lower()) if len(value) <= _LONGEST_TEXT else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return None


def _read_text(text: str) -> float | None:
    if _PLAIN.fullmatch(text):
        return float(text)
    parts = _PARTS.fullmatch(text)
    if not text or parts is None:
        return None
    pairs = zip(parts.groups(), _SECONDS.values(), strict=True)
    return math.fsum(float(number) * seconds for number, seconds in pairs if number)


_SAID = (("d", 86400, 2 * 86400), ("h", 3600, 2 * 3600), ("min", 60, 2 * 60))


def span(seconds: float) -> str:
    """Format a duration in the largest unit of which it has at least two: "90 s", "3 min", "4 h", "2 d"."""
    for unit, size, least in _SAID:
        if round(seconds) >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def exact_span(seconds: float) -> str:
    """Format a duration without rounding: 180 seconds are "3 min", and 500 stay "500 s"."""
    for unit, size, _ in _SAID:
        if seconds and seconds % size == 0:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:g} s"


def local_time(when: datetime) -> str:
    """Show a time in the local time zone, to the second."""
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S}"


def utc_from_ms(ms: float | None) -> datetime | None:
    """Return the UTC time of a time in milliseconds; None for none, and for one that no datetime can hold."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC) if ms is not None and ms > 0 else None
    except (OverflowError, ValueError, OSError):
        return None


_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", re.IGNORECASE | re.ASCII)


def parse_size(value: int | str, *, what: str) -> int:
    """Return a size in bytes; units are powers of 1024. Raises InvalidOption, which names `what`."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if not 0 < size < 2**50:
        raise InvalidOption(f"{what} is {safe_repr(value)}: give bytes above 0, or text such as '200M'")
    return size
