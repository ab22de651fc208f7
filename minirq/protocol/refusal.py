"""Why a serializer refuses a value: where in it the fault is, what it is, and what to do instead.

It knows how to walk plain containers; what is allowed comes from the serializer as `Rules`.
"""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from minirq.exceptions import SerializationError
from minirq.text import safe_repr, safe_text, type_name

#: what a value is called in messages; a tuple names the items of a list or tuple
Where = str | tuple[str, ...]

_SEQUENCES = frozenset({list, tuple, set, frozenset})
_CONTAINERS = _SEQUENCES | {dict}


@dataclass(frozen=True, slots=True)
class Rules:
    """What a serializer carries. The checks return why a value or key of these types is still refused."""

    serializer: str
    types: frozenset[type]
    depth: int
    check: Callable[[object], str | None]
    check_key: Callable[[object], str | None] = lambda key: None


def fits(value: object, types: frozenset[type], depth: int) -> bool:
    """Whether `value` is made of exactly these types and nests at most `depth` containers.

    Works level by level and mostly in C: every value that is not small and plain goes through here.
    """
    if type(value) not in types:
        return False
    level: list[Any] = [value] if type(value) in _CONTAINERS else []
    for _ in range(depth):
        inside: list[object] = list(chain.from_iterable(level))
        for container in level:
            if type(container) is dict:
                inside.extend(container.values())
        kinds = set(map(type, inside))
        if not kinds <= types:
            return False
        if kinds.isdisjoint(_CONTAINERS):
            return True
        level = [item for item in inside if type(item) in _CONTAINERS]
    return not level


def explain_refusal(value: object, rules: Rules, where: Where) -> str | None:
    """Return where `value` breaks the rules, how, and the way out; None if it does not."""
    if isinstance(where, str):
        return _explain(value, where, rules, ())
    if isinstance(value, (list, tuple)) and len(value) == len(where):
        parts = zip(value, where, strict=True)
        return next(filter(None, (_explain(part, name, rules, (id(value),)) for part, name in parts)), None)
    return _explain(value, "value", rules, ())


def refusal(value: object, rules: Rules, where: Where, error: Exception | None = None) -> SerializationError:
    """Return the error to raise for a value that was refused; `error` is the encoder's."""
    return SerializationError(
        explain_refusal(value, rules, where)
        or f"{joined(where)} cannot be serialized ({safe_text(repr(error))}); was it changed meanwhile?"
    )


def joined(where: Where) -> str:
    """Return what a value is called in messages, as one text."""
    return where if isinstance(where, str) else ", ".join(where)


def one_line(error: Exception) -> str:
    """Return an error for a message of one line."""
    text = safe_text(str(error).strip())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _explain(value: object, path: str, rules: Rules, above: tuple[int, ...]) -> str | None:
    """Search depth first; `above` are the containers around the value, by their identity."""
    kind = type(value)
    reason: str | None = None
    if kind not in rules.types:
        reason = _way_out(value, rules)
    elif kind not in _CONTAINERS:
        reason = rules.check(value)
    elif id(value) in above:
        reason = "it contains itself"
    elif len(above) >= rules.depth:
        reason = f"it is nested deeper than {rules.depth} levels; flatten it"
    else:
        above = (*above, id(value))
        for item, name, fault in _items(value, path, rules):
            found = _complaint(item, name, rules, fault) if fault else _explain(item, name, rules, above)
            if found:
                return found
    return _complaint(value, path, rules, reason) if reason else None


def _items(value: object, path: str, rules: Rules) -> Iterator[tuple[object, str, str | None]]:
    if isinstance(value, dict):
        for key, item in value.items():
            shown = safe_repr(key) if type(key) in rules.types else f"<{type(key).__qualname__}>"
            yield key, f"the key {shown} of {path}", rules.check_key(key)
            yield item, f"{path}[{shown}]", None
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield item, f"{path}[{index}]", None
    elif isinstance(value, Iterable):
        for item in value:
            yield item, f"{path}{{element}}", None


def _complaint(value: object, path: str, rules: Rules, reason: str) -> str:
    name = safe_text(type_name(type(value)), 120)
    return (
        f"{safe_text(path, 300)} is a value of type {name}, which the {rules.serializer}"
        f" serializer does not carry unchanged: {reason}"
    )


def _way_out(value: object, rules: Rules) -> str:
    if isinstance(value, enum.Enum):
        return "pass its .value or its .name"
    if isinstance(value, os.PathLike):
        return "pass os.fspath(path)"
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return "pass value._asdict() or list(value)"
    if isinstance(value, (bytearray, memoryview)) and bytes in rules.types:
        return "pass bytes(value)"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "pass dataclasses.asdict(value)"
    for base in type(value).__mro__[1:]:
        if base in rules.types:
            return f"it is a subclass; pass {base.__name__}(value)"
    if isinstance(value, (tuple, set, frozenset)):
        return "pass a list, or use serializer='msgpack'"
    if type(value).__module__ in ("datetime", "decimal", "uuid") or isinstance(value, bytes):
        return "pass its text" + ("" if rules.serializer == "msgpack" else ", or use serializer='msgpack'")
    return "pass plain data, such as an id to load it by, or use serializer='pickle'"
