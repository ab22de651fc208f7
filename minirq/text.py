"""Text from elsewhere, made fit to be shown in a log or on a terminal."""

from __future__ import annotations

import re
import shlex

__all__ = ["counted", "safe_block", "safe_repr", "safe_text", "shell_word"]

# Characters that Unicode calls printable and nobody sees: joiners, fillers and variation selectors
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def safe_text(text: str, limit: int = 200) -> str:
    """Escape what could drive a terminal, forge a log line or hide, and cut to `limit` characters."""
    escaped = text[: limit + 1]
    # what is not printable drives terminals, splits lines, reorders what is read, or cannot be encoded
    if not escaped.isprintable():
        escaped = "".join(char if char.isprintable() else _escaped(char) for char in escaped)
    escaped = _UNSEEN.sub(lambda match: _escaped(match[0]), escaped)
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


def safe_block(text: str, limit: int = 500) -> str:
    """Escape text of several lines, such as a traceback; each line is cut to `limit` characters."""
    return "\n".join(safe_text(line, limit) for line in text.rstrip("\n").split("\n"))


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


def type_name(kind: type) -> str:
    """Return the qualified name of a type: with its module, unless that is builtins."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def counted(number: int, one: str, many: str) -> str:
    """Say how many: "1 job", "1,200 jobs"."""
    return f"{number:,} {one if number == 1 else many}"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
