"""Text from elsewhere, made fit to be shown in a log or on a terminal."""

from __future__ import annotations

import re
import shlex

__all__ = ["counted", "safe_repr", "safe_text", "shell_word"]

# C0, DEL and C1 drive terminals and split log lines; the rest moves, hides or reorders what is
# read (line and paragraph separators, bidi controls, zero width, tags), or cannot be printed at
# all (lone surrogates).
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)


def safe_text(text: str, limit: int = 200) -> str:
    """Escape what could drive a terminal or forge a log line, and cut to `limit` characters."""
    escaped = _UNSAFE.sub(_escape, text[: limit + 1])
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


def safe_repr(value: object, limit: int = 60) -> str:
    """Show `value` in a message: its repr made safe and cut, or its type if it has no repr."""
    try:
        return safe_text(repr(value), limit)
    except Exception:
        return f"<{safe_text(type(value).__qualname__, limit)}>"


def shell_word(name: str, otherwise: str) -> str:
    """Quote `name` for a line that is to be typed; `otherwise` where a terminal might take it amiss.

    One that begins with a dash comes behind "--", so options go before it.
    """
    if safe_text(name, 1000) != name:
        return otherwise
    return ("-- " if name.startswith("-") else "") + shlex.quote(name)


def counted(number: int, one: str, many: str) -> str:
    """Say how many: "1 job", "1,200 jobs"."""
    return f"{number:,} {one if number == 1 else many}"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
