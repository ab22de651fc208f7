"""Packing: commands as the bytes that go to Redis. A client's own packing takes several times as long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from minirq.calls import Argument


def pack(commands: Iterable[Sequence[Argument]]) -> bytes:
    """Return the bytes of commands. Raises TypeError for an argument that is none."""
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            if isinstance(argument, str):
                argument = argument.encode()
            elif not isinstance(argument, bytes):
                argument = _number(argument)
            parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


def _number(argument: object) -> bytes:
    # a bool is an int, and what it would mean to Redis is anybody's guess
    if isinstance(argument, (int, float)) and not isinstance(argument, bool):
        return repr(argument).encode()
    raise TypeError(f"an argument of a command is text, bytes or a number, not {type(argument).__name__}")
