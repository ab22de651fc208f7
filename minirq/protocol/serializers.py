"""The serializers that a queue may choose from, by name. None of them changes a value quietly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from minirq.exceptions import DeserializationError, InvalidOption, SerializationError
from minirq.protocol import codec
from minirq.protocol.refusal import Rules, Where, explain_refusal, fits, joined, one_line
from minirq.text import safe_repr

DEFAULT_SERIALIZER: Final = "msgpack"


@dataclass(frozen=True, slots=True)
class Serializer:
    """Values to bytes and back. `dumps` raises SerializationError, `loads` DeserializationError.

    The second argument of `dumps` names the value in errors. A tuple of names says that the value is
    a call and names its parts, such as ("instance", "args", "kwargs"); JSON makes lists of a call and
    of its parts if they are tuples, and refuses tuples anywhere else. Lists cost least with msgpack.
    """

    name: str
    dumps: Callable[[object, Where], bytes]
    loads: Callable[[bytes], object]


def resolve_serializer(name: str | None) -> Serializer:
    """Return the serializer of this name, msgpack for None. Raises InvalidOption."""
    try:
        return _SERIALIZERS[DEFAULT_SERIALIZER if name is None else name]
    except (KeyError, TypeError):
        known = ", ".join(repr(known) for known in _SERIALIZERS)
        raise InvalidOption(f"unknown serializer {safe_repr(name)}; minirq has {known}") from None


def _check_json(value: object) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "JSON has no NaN and no infinity; pass None or text"
    try:
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, int):
            str(value)
    except UnicodeEncodeError:
        return "it holds lone surrogates, which are not text"
    except ValueError:
        return "it has more digits than Python reads; pass text, or use serializer='msgpack'"
    return None


def _check_json_key(key: object) -> str | None:
    return None if type(key) is str else "JSON has str keys only; pass str(key), or use serializer='msgpack'"


_JSON_TYPES: Final = frozenset({type(None), bool, int, float, str, list, dict})
_JSON_RULES: Final = Rules("json", _JSON_TYPES, codec.DEFAULT.depth, _check_json, _check_json_key)


def _json_dumps(value: object, where: Where) -> bytes:
    if not isinstance(where, str) and isinstance(value, (list, tuple)):
        # a call and its arguments are known to be tuples: lists are made of them, and of nothing else
        value = [list(part) if type(part) is tuple else part for part in value]
    if fault := explain_refusal(value, _JSON_RULES, where):
        raise SerializationError(fault)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _json_loads(blob: bytes) -> object:
    if len(blob) > codec.DEFAULT.size:
        raise DeserializationError(f"{len(blob):,} bytes are more than the limit of {codec.DEFAULT.size:,}")
    try:
        value: object = json.loads(blob.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DeserializationError(f"not JSON: {one_line(error)}") from error
    if not fits(value, _JSON_TYPES, codec.DEFAULT.depth):
        raise DeserializationError(f"not JSON of minirq's: nested deeper than {codec.DEFAULT.depth} levels")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _pickle_dumps(value: object, where: Where) -> bytes:
    import pickle  # 0.3 MiB, for those who ask for it only

    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:  # whatever the __reduce__ of the application's objects raises
        raise SerializationError(f"{joined(where)} cannot be pickled: {one_line(error)}") from error


def _pickle_loads(blob: bytes) -> object:
    import pickle  # as above

    try:
        return pickle.loads(blob)
    except Exception as error:  # imports and runs the application's code
        raise DeserializationError(f"cannot be unpickled: {one_line(error)}") from error


_SERIALIZERS: Final = {
    serializer.name: serializer
    for serializer in (
        Serializer(DEFAULT_SERIALIZER, codec.encode, codec.decode),
        Serializer("json", _json_dumps, _json_loads),
        Serializer("pickle", _pickle_dumps, _pickle_loads),
    )
}
