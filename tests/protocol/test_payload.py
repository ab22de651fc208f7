"""The payload: written once, read by scripts and by Python alike, and read with suspicion."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgpack
import pytest
import redis as redis_py
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stage import payload

from minirq.exceptions import DeserializationError
from minirq.protocol.commands import _piece
from minirq.protocol.payload import JobOptions, Payload, decode, id_of
from minirq.retry import Retry

ID_OF = f"""
{_piece("ids")}
local ids = {{}}
for i, payload in ipairs(ARGV) do ids[i] = id_of(payload) end
return ids
"""

# one bytes object of each kind that has fooled a reader of ids, or could
HOSTILE = [
    b"",
    b"\x91",
    b"\x91\xa1",
    b"\x91\xa1x",
    b"\x91\xa0",
    b"\x90\xa1x",
    b"\x9f\xa1x",
    b"\xa0\xa1x",
    b"\xdc\x00\x06\xa1x",
    b"\x96\xd9",
    b"\x96\xd9\x00",
    b"\x96\xd9\x01",
    b"\x96\xd9\x01x",
    b"\x96\xd9\xff" + b"x" * 254,
    b"\x96\xd9\xff" + b"x" * 255,
    b"\x96\xda",
    b"\x96\xda\x00",
    b"\x96\xda\x00\x01",
    b"\x96\xda\x00\x01x",
    b"\x96\xda\x00\xffx" + b"x" * 254,
    b"\x96\xda\x01\x00" + b"x" * 256,
    b"\x96\xda\xff\xff" + b"x" * 300,
    b"\x96\xdb\x00\x00\x00\x01x",
    b"\x96\xc4\x01x",
    b"\x96\x01\xa1x",
    b"\x96\xbf" + b"x" * 30,
    b"\x96\xbf" + b"x" * 31,
    b"\x96\xa3a\x00b",
    b"\x96\xa2\xff\xfe",
    b"\x96\xa3\xed\xa0\x80",
    b"\r\n\x00\xff" * 10,
]

headers = st.tuples(
    st.integers(0x8F, 0xA1) | st.integers(0, 255),
    st.sampled_from([0xA0, 0xA1, 0xA5, 0xBF, 0xC0, 0xD9, 0xDA, 0xDB]) | st.integers(0, 255),
).map(bytes)
looks_like_a_payload = st.builds(
    lambda head, length, rest: head + length + rest, headers, st.binary(max_size=2), st.binary(max_size=300)
)
job_ids = st.text(min_size=1, max_size=80).filter(lambda text: len(text.encode("utf-8", "ignore")) > 0)


def lua_ids(redis: redis_py.Redis, raws: list[bytes]) -> list[str]:
    return [raw.decode("utf-8", "surrogateescape") for raw in redis.eval(ID_OF, 0, *raws)]


def test_python_and_lua_read_the_same_ids_from_hostile_bytes(redis: redis_py.Redis) -> None:
    assert lua_ids(redis, HOSTILE) == [id_of(raw) for raw in HOSTILE]


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=300) | looks_like_a_payload, min_size=1, max_size=40))
def test_python_and_lua_read_the_same_ids_from_any_bytes(redis: redis_py.Redis, raws: list[bytes]) -> None:
    assert lua_ids(redis, raws) == [id_of(raw) for raw in raws]


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(job_ids, min_size=1, max_size=40))
def test_python_and_lua_read_the_id_that_was_written(redis: redis_py.Redis, names: list[str]) -> None:
    raws = [payload(name) for name in names if len(name.encode("utf-8", "surrogatepass")) <= 255]
    assert lua_ids(redis, raws) == [id_of(raw) for raw in raws]
    assert [decode(raw).id for raw in raws] == [id_of(raw) for raw in raws]


def test_bytes_without_an_id_are_known_by_their_digest() -> None:
    for raw in (b"", b"garbage", payload("x" * 256)):
        assert id_of(raw) == hashlib.sha1(raw).hexdigest()


def test_the_longest_id_is_255_bytes() -> None:
    assert id_of(payload("x" * 255)) == "x" * 255
    assert id_of(payload("é" * 127)) == "é" * 127


options = st.builds(
    JobOptions,
    timeout=st.floats(0.1, 1e6) | st.just(-1),
    result_ttl=st.integers(-1, 10**9),
    failure_ttl=st.integers(-1, 10**9),
    description=st.none() | st.text(),
    retry=st.none() | st.builds(Retry, max=st.integers(1, 50)),
    loss_limit=st.integers(0, 100),
)


@settings(database=None)
@given(job_ids, st.text(), st.binary(), options)
def test_what_was_encoded_comes_back(job_id: str, function: str, blob: bytes, options: JobOptions) -> None:
    written = Payload(job_id, function, "msgpack", blob, options)
    assert decode(written.encode()) == written


def test_defaults_take_no_room() -> None:
    plain = Payload("x", "f", "msgpack", b"")
    assert len(plain.encode()) == len(b"\x96\xa1x\x01\xa1f\xa7msgpack\xc4\x00\x80")
    assert len(replace(plain, options=JobOptions(timeout=1)).encode()) > len(plain.encode())


wire = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=10,
)
nearly_options = st.dictionaries(
    st.sampled_from([*JobOptions().__dataclass_fields__, "unknown"]),
    wire | st.lists(wire, max_size=4),
    max_size=4,
)
nearly_payloads = st.tuples(
    st.text(max_size=5) | wire, st.just(1) | wire, st.text(max_size=5) | wire, st.just("msgpack") | wire,
    st.binary(max_size=5) | wire, nearly_options | wire,
).map(lambda items: msgpack.packb(list(items)))  # fmt: skip


@settings(max_examples=500, database=None)
@given(st.binary(max_size=200) | looks_like_a_payload | wire.map(msgpack.packb) | nearly_payloads)
@example(b"")
@example(b"\xc1")
@example(b"\x91" * 2000)
@example(b"\xdd\xff\xff\xff\xff" * 100)
@example(b"\xc6\xff\xff\xff\xff")
def test_garbage_raises_a_deserialization_error_and_nothing_else(raw: bytes) -> None:
    with suppress(DeserializationError):
        assert isinstance(decode(raw), Payload)


@settings(max_examples=300, database=None)
@given(st.data())
def test_a_damaged_payload_raises_a_deserialization_error_and_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(
        Payload("x", "app.f", "msgpack", b"blob", JobOptions(timeout=5, retry=Retry(max=3))).encode()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DeserializationError):
        assert isinstance(decode(bytes(raw[: data.draw(st.integers(0, len(raw)))])), Payload)


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (["x", 2, "f", "msgpack", b"", {}], "version 2"),
        (["x", True, "f", "msgpack", b"", {}], "version"),
        (["x", 0, "f", "msgpack", b"", {}], "version"),
        (["x", 1, "f", "msgpack", b""], "not a list"),
        ({"id": "x"}, "not a list"),
        ([1, 1, "f", "msgpack", b"", {}], "id"),
        (["x", 1, "f", "msgpack", "text", {}], "blob"),
        (["x", 1, "f", "msgpack", b"", [1]], "options"),
        (["x", 1, "f", "msgpack", b"", {"timeout": "soon"}], "timeout"),
        (["x", 1, "f", "msgpack", b"", {"timeout": float("nan")}], "timeout"),
        (["x", 1, "f", "msgpack", b"", {"loss_limit": 2.5}], "loss_limit"),
        (["x", 1, "f", "msgpack", b"", {"loss_limit": True}], "loss_limit"),
    ],
)
def test_what_is_wrong_with_a_payload_is_said(items: Any, says: str) -> None:
    with pytest.raises(DeserializationError, match=says):
        decode(msgpack.packb(items))


def test_what_a_newer_version_adds_is_left_alone() -> None:
    raw = msgpack.packb(["x", 1, "f", "msgpack", b"", {"colour": "blue"}, b"signature"])
    assert decode(raw) == Payload("x", "f", "msgpack", b"")
