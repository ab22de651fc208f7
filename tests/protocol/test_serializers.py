"""Each serializer gives back what it was given, or says that it cannot."""

from __future__ import annotations

import contextlib
import datetime
import enum
import json
import math
import pickle
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.timing import assert_harmless

from minirq.exceptions import DeserializationError, InvalidOption, SerializationError
from minirq.protocol import codec
from minirq.protocol.serializers import resolve_serializer

CALL = ("instance", "args", "kwargs")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


class Colour(enum.IntEnum):
    RED = 1


class Refuses:
    def __reduce__(self) -> Any:
        raise RuntimeError("not\nme")


def test_msgpack_is_the_default() -> None:
    assert resolve_serializer(None) is resolve_serializer("msgpack")
    assert resolve_serializer(None).name == "msgpack"


@pytest.mark.parametrize("name", ["yaml", "", "JSON", "x\x1b[31m", 3, []])
def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(name: Any) -> None:
    with pytest.raises(InvalidOption, match="'msgpack', 'json', 'pickle'") as caught:
        resolve_serializer(name)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["msgpack", "json", "pickle"])
def test_a_call_comes_back(name: str) -> None:
    serializer = resolve_serializer(name)
    blob = serializer.dumps((None, (1, "a"), {"k": [2.5, None]}), CALL)
    instance, args, kwargs = serializer.loads(blob)  # type: ignore[misc]
    assert (instance, tuple(args), kwargs) == (None, (1, "a"), {"k": [2.5, None]})


@given(json_values)
def test_json_gives_back_what_it_takes(value: object) -> None:
    serializer = resolve_serializer("json")
    blob = serializer.dumps(value, "value")
    back = serializer.loads(blob)
    assert repr(back) == repr(value)
    assert json.loads(blob) == value


@pytest.mark.parametrize(
    ("args", "path"),
    [
        (((1, 2),), "args[0] is a value of type tuple"),
        (([{"a": (1,)}],), "args[0][0]['a'] is a value of type tuple"),
        (({1: "a"},), "the key 1 of args[0] is a value of type int"),
        (({None: "a"},), "the key None of args[0]"),
        ((b"bytes",), "args[0] is a value of type bytes"),
        ((Colour.RED,), "args[0]"),
        ((OrderedDict(a=1),), "args[0]"),
        ((math.nan,), "args[0]"),
        ((-math.inf,), "args[0]"),
        (("\ud800",), "args[0]"),
        (({"\ud800": 1},), "args[0]"),
        ((10**5000,), "args[0]"),
        (({1, 2},), "args[0]"),
    ],
)
def test_json_refuses_what_it_would_change(args: tuple[Any, ...], path: str) -> None:
    with pytest.raises(SerializationError) as caught:
        resolve_serializer("json").dumps((None, args, {}), CALL)
    assert path in str(caught.value)
    assert "json" in str(caught.value)


def test_json_refuses_a_tuple_that_is_no_call() -> None:
    with pytest.raises(SerializationError, match="the result is a value of type tuple"):
        resolve_serializer("json").dumps((1, 2), "the result")


def test_json_refuses_cycles_and_depth() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for value in (cycle, deep):
        with pytest.raises(SerializationError):
            resolve_serializer("json").dumps(value, "value")


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"{",
        b"nope",
        b"NaN",
        b"[Infinity]",
        b"\xff",
        b"[" * 100_000,
        b"1" * 10_000,
        b"[" * 65 + b"]" * 65,
        b"1 2",
    ],
)
def test_broken_json_is_a_deserialization_error(blob: bytes) -> None:
    with pytest.raises(DeserializationError) as caught:
        resolve_serializer("json").loads(blob)
    assert "\n" not in str(caught.value)


def test_pickle_gives_back_objects() -> None:
    serializer = resolve_serializer("pickle")
    value = (Colour.RED, OrderedDict(a={1, 2}))
    back = serializer.loads(serializer.dumps(value, "value"))
    assert back == value
    assert type(back[1]) is OrderedDict  # type: ignore[index]


@pytest.mark.parametrize("value", [lambda: None, Refuses()])
def test_what_cannot_be_pickled_is_a_serialization_error(value: object) -> None:
    with pytest.raises(SerializationError, match=r"args.* cannot be pickled") as caught:
        resolve_serializer("pickle").dumps(value, "args")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "blob", [b"", b"garbage", b"\x80\x05", pickle.dumps(1)[:-1], b"cno_such_module\nf\n."]
)
def test_broken_pickle_is_a_deserialization_error(blob: bytes) -> None:
    with pytest.raises(DeserializationError, match="cannot be unpickled"):
        resolve_serializer("pickle").loads(blob)


def test_a_refusal_does_not_advise_the_serializer_that_refuses() -> None:
    with pytest.raises(SerializationError, match=r"pass its text$"):
        resolve_serializer("msgpack").dumps(datetime.UTC, "value")
    with pytest.raises(SerializationError, match=r"pass its text, or use serializer='msgpack'$"):
        resolve_serializer("json").dumps(datetime.UTC, "value")


HALF = 1 << 19


@pytest.mark.parametrize(
    "blob",
    [
        b"[" + b"{}," * (HALF // 3) + b"1]",
        b"[" + b"[]," * (HALF // 3) + b"1]",
        b"[" + b'{"":0},' * (HALF // 7) + b"1]",
        b"[" + b"0," * (HALF // 2) + b"1]",
        b"[" + b'"\xf0\x9f\x98\x80",' * (HALF // 7) + b"1]",
        b"[" * HALF,
        b'{"":' * 60 + b"[" + b"{}," * (HALF // 3) + b"1]" + b"}" * 60,
        b"[" + b"1" * HALF + b"]",
        b"[" + (b"1" * 4300 + b",") * (HALF // 4301) + b"1]",
        b"[1." + b"0" * HALF + b"1]",
        b"[1e" + b"9" * HALF + b"]",
        b'"' + b"\\u0000" * (HALF // 6) + b'"',
    ],
    ids=range(12),
)
def test_a_bomb_of_json_costs_little_memory_and_time(blob: bytes) -> None:
    def read() -> None:
        with contextlib.suppress(DeserializationError):
            resolve_serializer("json").loads(blob)

    assert_harmless(len(blob), read)


def test_json_is_read_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "DEFAULT", codec.Limits(size=10))
    assert resolve_serializer("json").loads(b"[1,2,3,44]") == [1, 2, 3, 44]
    with pytest.raises(DeserializationError, match="limit of 10"):
        resolve_serializer("json").loads(b"[1,2,3,444]")
