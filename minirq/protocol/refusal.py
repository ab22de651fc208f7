"""The fault in a value that a serializer cannot carry: where it is, what it is, what to do instead.

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
from minirq.text import safe_repr, safe_text

__all__ = ["Rules", "Where", "explain_refusal", "fits", "refusal"]

#: what a value is called in messages; a tuple names the items of a list or tuple
Where = str | tuple[str, ...]

_SEQUENCES = frozenset({list, tuple, set, frozenset})
_CONTAINERS = _SEQUENCES | {dict}


@dataclass(frozen=True, slots=True)
class Rules:
    """What a serializer carries. The checks say why a value or key of these types is refused all the same."""

    serializer: str
    types: frozenset[type]
    depth: int
    check: Callable[[object], str | None]
    check_key: Callable[[object], str | None] = lambda key: None


@dataclass(frozen=True, slots=True)
class _Fault:
    path: str
    value: object
    reason: str


def fits(value: object, types: frozenset[type], depth: int) -> bool:
    """Say whether `value` is made of exactly these types and nests at most `depth` containers.

    Works level by level and mostly in C: this is on the way of every value that is not small and plain.
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
    fault = _find(value, rules, where)
    if fault is None:
        return None
    return (
        f"{safe_text(fault.path, 300)} is {_kind(fault.value)}, which the {rules.serializer} serializer "
        f"does not carry unchanged: {fault.reason}"
    )


def refusal(value: object, rules: Rules, where: Where, error: Exception | None = None) -> SerializationError:
    """Return the error to raise for a value that was refused; `error` is what the encoder said."""
    name = where if isinstance(where, str) else ", ".join(where)
    return SerializationError(
        explain_refusal(value, rules, where)
        or f"{name} cannot be serialized ({safe_text(repr(error))}); was it changed meanwhile?"
    )


def _find(value: object, rules: Rules, where: Where) -> _Fault | None:
    if isinstance(where, str):
        return _search(value, where, rules, ())
    if isinstance(value, (list, tuple)) and len(value) == len(where):
        found = (_search(item, name, rules, (id(value),)) for item, name in zip(value, where, strict=True))
        return next((fault for fault in found if fault), None)
    return _search(value, "value", rules, ())


def _search(value: object, path: str, rules: Rules, above: tuple[int, ...]) -> _Fault | None:
    kind = type(value)
    if kind not in rules.types:
        return _Fault(path, value, _way_out(value, rules))
    if kind not in _CONTAINERS:
        reason = rules.check(value)
        return _Fault(path, value, reason) if reason else None
    if id(value) in above:
        return _Fault(path, value, "it contains itself")
    if len(above) >= rules.depth:
        return _Fault(path, value, f"it is nested deeper than {rules.depth} levels; flatten it")
    for item, name in _items(value, path, rules):
        fault = name if isinstance(name, _Fault) else _search(item, name, rules, (*above, id(value)))
        if fault:
            return fault
    return None


def _items(value: object, path: str, rules: Rules) -> Iterator[tuple[object, str | _Fault]]:
    if isinstance(value, dict):
        for key, item in value.items():
            shown = safe_repr(key) if type(key) in rules.types else f"<{type(key).__qualname__}>"
            reason = rules.check_key(key)
            yield (
                key,
                _Fault(f"the key {shown} of {path}", key, reason) if reason else f"the key {shown} of {path}",
            )
            yield item, f"{path}[{shown}]"
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield item, f"{path}[{index}]"
    elif isinstance(value, Iterable):
        for item in value:
            yield item, f"{path}{{element}}"


def _kind(value: object) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"a value of type {safe_text(name, 120)}"


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
