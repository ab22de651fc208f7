"""The codec gives back exactly what it took, refuses the rest by name, and reads bytes with suspicion."""

from __future__ import annotations

import contextlib
import enum
import functools
import math
import pathlib
import random
import struct
import sys
import threading
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from datetime import time as clock
from decimal import Context, Decimal, localcontext
from typing import Any
from uuid import UUID, SafeUUID, uuid1
from zoneinfo import TZPATH, ZoneInfo

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.timing import assert_harmless, costs_at_most

from minirq.exceptions import DeserializationError, SerializationError
from minirq.protocol.codec import Limits, decode, encode

HALF = 1 << 19


def exact(value: Any) -> Any:
    """Return a form of `value` that is equal only if types, signs, zones and folds are."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [exact(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted(repr(exact(item)) for item in value)
    if kind is dict:
        return kind, [(exact(key), exact(item)) for key, item in value.items()]
    if kind is float:
        return kind, struct.pack(">d", value)
    if kind is Decimal:
        return kind, str(value)
    if kind in (datetime, clock):
        zone = value.tzinfo
        named = (type(zone), getattr(zone, "key", None) or repr(zone))
        return kind, value.replace(tzinfo=None).isoformat(), value.fold, named
    if kind is UUID:
        return kind, value, value.is_safe
    return kind, value


def deep(levels: int, wrap: Callable[[Any], Any] = lambda inner: [inner]) -> Any:
    value: Any = wrap(1) if levels else 1
    for _ in range(levels - 1):
        value = wrap(value)
    return value


zones: st.SearchStrategy[tzinfo | None] = (
    st.none()
    | st.sampled_from(
        [UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/Argentina/Ushuaia"), ZoneInfo("UTC")]
    )
    | st.builds(
        timezone,
        st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)),
    )
    | st.builds(timezone, st.just(timedelta(hours=1, seconds=7)), st.text(max_size=5))
)
folds = st.integers(0, 1)
datetimes = st.builds(lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold), st.datetimes(), zones, folds)
clocks = st.builds(lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold), st.times(), zones, folds)
hashable_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | datetimes
    | clocks
    | st.dates()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
scalars = st.deferred(lambda: hashable_scalars) | st.just(math.nan) | st.decimals(allow_nan=True)
hashables = st.deferred(lambda: _hashables)
_hashables = st.recursive(
    hashable_scalars,
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=6,
)
values = st.deferred(lambda: _values)
_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(hashables, inner, max_size=5)
        | st.dictionaries(st.text(max_size=3), inner, max_size=5)
        | st.sets(hashables, max_size=5)
        | st.frozensets(hashables, max_size=5)
    ),
    max_leaves=20,
)


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Let threads take turns at every chance."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# --- exact ------------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(values)
def test_what_is_taken_comes_back_unchanged(value: object) -> None:
    assert exact(decode(encode(value))) == exact(value)


@pytest.mark.parametrize(
    "value",
    [
        *(edge + step for edge in (-(2**64), -(2**63), 0, 2**63, 2**64, 2**100_000) for step in (-1, 0, 1)),
        *(-0.0, math.inf, -math.inf, 5e-324, sys.float_info.max, math.nan),
        *map(
            Decimal,
            ("-0", "0E+5", "1E+999999999", "-Infinity", "NaN", "-NaN123", "sNaN", "1.10", "1E-999999"),
        ),
        Decimal("9" * 5000),
        *("", "\0", "ä Ж 寸 👍", "x" * 70_000),
        *(b"", b"\xc7\xff", b"x" * 70_000),
        *((), [], {}, set(), frozenset(), ((),), [()], {(): ()}, {frozenset(): [set()]}, {frozenset({()})}),
        {1: "int", "1": "str", b"1": "bytes", 2.5: "float", None: "none", (1, ("a",)): "tuple"},
        {True: False},
        [True, 1, 1.0, "1", b"1", Decimal(1)],
        *(
            datetime.min,
            datetime.max,
            datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        ),
        datetime(1900, 1, 1, tzinfo=timezone(timedelta(hours=-1, minutes=-2, seconds=-3, microseconds=-4))),
        datetime(2020, 1, 1, tzinfo=timezone(timedelta(0), "UTC")),
        datetime(2020, 1, 1, 1, 1, 1, 999_999, tzinfo=UTC),
        *(
            clock(2, 30, fold=1),
            clock(23, 59, 59, 999_999, tzinfo=UTC),
            clock(1, tzinfo=ZoneInfo("Asia/Tokyo")),
        ),
        *(date.min, date.max, timedelta.min, timedelta.max, timedelta(-1, 86399, 999_999), timedelta(0)),
        UUID(int=0),
        UUID(int=5, is_safe=SafeUUID.safe),
        UUID(int=5, is_safe=SafeUUID.unsafe),
        uuid1(),
        list(range(100_000)),
        dict.fromkeys(range(50_000)),
        set(range(50_000)),
        [{"id": n, "tags": ("a", "b")} for n in range(1000)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_edges_come_back_unchanged(value: object) -> None:
    assert exact(decode(encode(value))) == exact(value)


def test_decimals_do_not_depend_on_the_context() -> None:
    with localcontext(Context(prec=3, Emax=5, Emin=-5, capitals=0, traps=[])):
        value = Decimal("1.23456789E+50")
        blob = encode(value)
        assert str(decode(blob)) == str(value)
        with pytest.raises(DeserializationError):
            decode(b"\xc7\x04\x05nope")


def test_plain_values_are_plain_msgpack() -> None:
    value = [None, [1, "a", b"b", 2.5, True], {"k": 2}]
    assert msgpack.unpackb(encode(value)) == value
    assert decode(msgpack.packb(value)) == value


def test_the_codes_on_the_wire_do_not_change() -> None:
    written = {
        encode((1, 2)): "93c700010102",
        encode({7}): "92c7000207",
        encode(frozenset()): "91c70003",
        encode(datetime(2020, 1, 2, 3, 4, 5, 6)): "c70b0407e4010203040500000006",
        encode(datetime(2020, 1, 2, tzinfo=ZoneInfo("Asia/Tokyo"))): "c7160407e40102000000000000005a4173"
        "69612f546f6b796f",
        encode(Decimal("1.5")): "c70305312e35",
        encode(UUID(int=1)): "d80600000000000000000000000000000001",
        encode(date(2020, 1, 2)): "d60707e40102",
        encode(clock(1, 2, 3, tzinfo=UTC)): "d808010203000000004f0000000000000000",
        encode(timedelta(1, 2, 3)): "c70c09000000010000000200000003",
        encode(2**64): "c7090a010000000000000000",
    }
    assert {blob.hex(): text for blob, text in written.items()} == {text: text for text in written.values()}


def test_a_timestamp_of_another_writer_comes_as_a_datetime() -> None:
    stamp = msgpack.Timestamp(1_600_000_000, 5_000)
    moment = datetime.fromtimestamp(1_600_000_000, UTC) + timedelta(microseconds=5)
    assert decode(msgpack.packb([stamp, {1: stamp}])) == [moment, {1: moment}]
    assert decode(msgpack.packb([stamp])) == [moment]


def test_threads_do_not_mix_their_values(eager_switches: None) -> None:
    found: list[bool] = []

    def work(number: int) -> None:
        for turn in range(500):
            value = [(number, turn), {number: {turn}}]
            found.append(decode(encode(value)) == value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 2000


# --- refused ----------------------------------------------------------------------------------


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    A = "a"


class Text(str):
    __slots__ = ()


class MyDict(dict[str, int]):
    pass


class Moment(datetime):
    pass


class OwnZone(tzinfo):
    pass


@dataclass
class Order:
    id: int


Point = namedtuple("Point", "x y")
cycle: list[Any] = []
cycle.append(cycle)
dict_cycle: dict[str, Any] = {}
dict_cycle["a"] = [dict_cycle]
tuple_cycle: Any = ([],)
tuple_cycle[0].append(tuple_cycle)


@pytest.mark.parametrize(
    ("value", "kind", "way_out"),
    [
        (Level.LOW, "Level", ".value"),
        (Name.A, "Name", ".value"),
        (Point(1, 2), "Point", "_asdict"),
        (Text("a"), "Text", "str(value)"),
        (MyDict(), "MyDict", "dict(value)"),
        (OrderedDict(), "collections.OrderedDict", "dict(value)"),
        (defaultdict(int), "collections.defaultdict", "dict(value)"),
        (Counter(), "collections.Counter", "dict(value)"),
        (pathlib.PurePosixPath("/a"), "PurePosixPath", "fspath"),
        (pathlib.Path("/a"), "PosixPath", "fspath"),
        (bytearray(b"a"), "bytearray", "bytes(value)"),
        (memoryview(b"a"), "memoryview", "bytes(value)"),
        (Moment(2020, 1, 1), "Moment", "datetime(value)"),
        (Order(1), "Order", "asdict"),
        (object(), "object", "pickle"),
        (lambda: None, "function", "pickle"),
        (int, "type", "pickle"),
        (1j, "complex", "pickle"),
        (range(3), "range", "pickle"),
        ({}.keys(), "dict_keys", "pickle"),
        (NotImplemented, "NotImplementedType", "pickle"),
        (msgpack.ExtType(5, b"1"), "ExtType", "_asdict"),
        (msgpack.Timestamp(1, 2), "Timestamp", "pickle"),
        ("\ud800", "str", "surrogates"),
        (datetime(2020, 1, 1, tzinfo=OwnZone()), "datetime", "zoneinfo"),
        (clock(1, tzinfo=OwnZone()), "time", "zoneinfo"),
        (cycle, "list", "itself"),
        (dict_cycle, "dict", "itself"),
        (tuple_cycle, "tuple", "itself"),
        (deep(65), "list", "deeper than 64"),
        (deep(65, lambda inner: (inner,)), "tuple", "deeper than 64"),
        (deep(65, lambda inner: {"k": inner}), "dict", "deeper than 64"),
        (deep(65, lambda inner: frozenset({inner})), "frozenset", "deeper than 64"),
        (deep(5000), "list", "deeper than 64"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() else type(value).__name__,
)
def test_what_would_change_is_refused_with_its_type_and_the_way_out(
    value: Any, kind: str, way_out: str
) -> None:
    with pytest.raises(SerializationError) as caught:
        encode(value, where="args")
    message = str(caught.value)
    assert message.startswith("args")
    assert kind in message
    assert way_out in message
    assert "\n" not in message
    assert len(message) < 700


def test_a_zone_that_was_read_from_a_file_is_refused() -> None:

    for root in TZPATH:
        file = pathlib.Path(root) / "Europe" / "Berlin"
        if file.exists():
            break
    else:
        pytest.skip("this host has no zone files")
    with file.open("rb") as opened:
        zone = ZoneInfo.from_file(opened, key="Europe/Berlin")
    with pytest.raises(SerializationError, match="read from a file"):
        encode([datetime(2020, 1, 1, tzinfo=zone)])


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([None, [1, {"x": bytearray()}], {}], "args[1]['x'] is"),
        ([None, [1], {"k": [(1, Level.LOW)]}], "kwargs['k'][0][1] is"),
        ([object(), [], {}], "instance is"),
        ([None, [{Level.LOW: 1}], {}], "the key <Level> of args[0] is"),
        ([None, [{(1, Level.LOW): 1}], {}], "the key (1, <Level.LOW: 1>) of args[0][1] is"),
        ([None, [{"a", Text("b")}], {}], "args[0]{element} is"),
        ([None, [{"a": "\udcff"}], {}], "args[0]['a'] is"),
        ([None, [{10**5000: object()}], {}], "args[0][<int>] is"),
        ([None, [{"\x1b[31m" * 999: object()}], {}], r"args[0]['\x1b[31m"),
        ([None, [[1] * 100 + [msgpack.ExtType(4, b"")]], {}], "args[0][100] is"),
        ([None, [b"\xc4", [bytearray(b"x" * 100_000)]], {}], "args[1][0] is"),
    ],
)
def test_a_refusal_names_the_path(value: Any, path: str) -> None:
    with pytest.raises(SerializationError) as caught:
        encode(value, where=("instance", "args", "kwargs"))
    assert str(caught.value).startswith(path)


def test_64_levels_are_carried() -> None:
    for wrap in (
        lambda v: [v],
        lambda v: (v,),
        lambda v: {"k": v},
        lambda v: {1: v},
        lambda v: frozenset({v}),
    ):
        value = deep(64, wrap)
        assert decode(encode(value)) == value


def test_the_codec_works_on_after_a_refusal() -> None:
    for bad in (object(), [1, "\ud800"], cycle):
        with pytest.raises(SerializationError):
            encode([1, "text", bad])
        assert decode(encode([1, "a"])) == [1, "a"]


# --- suspicion --------------------------------------------------------------------------------


def array(count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big")


def ext(code: int, data: bytes) -> bytes:
    return b"\xc9" + len(data).to_bytes(4, "big") + bytes([code]) + data


SET, TUPLE, FROZENSET = b"\xc7\x00\x02", b"\xc7\x00\x01", b"\xc7\x00\x03"
#: all hashes of numbers are modulo this
PRIME = (1 << 61) - 1


def marked(marker: bytes, items: Sequence[bytes]) -> bytes:
    return array(len(items) + 1) + marker + b"".join(items)


def whole(value: int) -> bytes:
    return ext(10, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def colliding_sets(level: int, width: int) -> list[bytes]:
    """Distinct frozensets of equal hash, whose elements are such frozensets, down to colliding numbers."""
    if level == 0:
        return [ext(10, (n * PRIME).to_bytes(16, "big")) for n in range(1, width + 1)]
    inner = colliding_sets(level - 1, width + 1)
    return [marked(FROZENSET, inner[:n] + inner[n + 1 :]) for n in range(width)]


def moments() -> list[bytes]:
    """One moment in every zone that this host knows: equal, and the zones are forgotten with all but one."""
    head = b"\x07\xe4\x01\x01\0\0\0\0\0\0\0Z"
    return [ext(4, head + zone.encode()) for zone in sorted(zoneinfo.available_timezones())]


def with_an_int_as_key(count: int, item: bytes) -> bytes:
    """Read twice: the first reader takes text and bytes as keys only, and finds out at the very end."""
    return array(count + 1) + item * count + b"\x81\x00\x00"


LONG_INT = whole(PRIME << HALF * 8)
COLLIDING = [ext(10, (n * ((1 << 61) - 1)).to_bytes(16, "big")) for n in range(1, HALF // 22)]
DEEP_MAPS = b"\x81\x00" * 60 + b"\x80"

BOMBS = {
    "empty maps": array(HALF) + b"\x80" * HALF,
    "empty lists": array(HALF) + b"\x90" * HALF,
    "maps of one text": array(HALF // 3) + b"\x81\xa0\x80" * (HALF // 3),
    "maps of one int": array(HALF // 3) + b"\x81\x00\x80" * (HALF // 3),
    "deep maps": array(HALF // 121) + DEEP_MAPS * (HALF // 121),
    "empty sets": array(HALF // 4) + b"\x91\xc7\x00\x02" * (HALF // 4),
    "small decimals": array(HALF // 3) + b"\xd4\x051" * (HALF // 3),
    "lists within lists": b"\x91" * HALF,
    "announced arrays": array(HALF) * 200 + b"\xc0" * HALF,
    "many announced arrays": array(HALF) * (HALF // 5),
    "announced short arrays": b"\xdc\xff\xff" * (HALF // 3),
    "announced map": b"\xdf\xff\xff\xff\xff" + b"\xc0" * HALF,
    "announced bytes": b"\xc6\xff\xff\xff\xff" + b"\xc0" * HALF,
    "colliding set": array(len(COLLIDING) + 1) + b"\xc7\x00\x02" + b"".join(COLLIDING),
    "colliding map": b"\xdf" + len(COLLIDING).to_bytes(4, "big") + b"\xc0".join(COLLIDING) + b"\xc0",
    "colliding small sets": array(200) + (array(201) + b"\xc7\x00\x02" + b"".join(COLLIDING[:200])) * 200,
    "colliding sets in sets": marked(SET, colliding_sets(1, 150)),
    "colliding sets in sets in sets": marked(SET, colliding_sets(2, 30)),
    "colliding sets, four levels": marked(SET, colliding_sets(3, 10)),
    "colliding sets, five levels": marked(SET, colliding_sets(4, 6)),
    "many sets that collide a little": array(5000) + marked(SET, COLLIDING[:5]) * 5000,
    "colliding tuples of a long prefix": marked(
        SET, [marked(TUPLE, [b"\x00"] * 2000 + [last]) for last in COLLIDING[:250]]
    ),
    "one element again and again": marked(SET, [b"\x00"] * (HALF // 4)),
    "one key again and again": b"\xdf" + (HALF // 8).to_bytes(4, "big") + b"\x00" * (HALF // 4),
    "a long int beside a decimal": marked(SET, [LONG_INT, ext(5, b"0")]),
    "a decimal beside a long int": marked(SET, [ext(5, b"0"), LONG_INT]),
    "a long int beside a decimal, in tuples": marked(
        SET, [marked(TUPLE, [LONG_INT]), marked(TUPLE, [ext(5, b"0")])]
    ),
    "decimals beside a long int": marked(
        SET, [*(ext(5, str(PRIME * n).encode()) for n in range(500)), whole(PRIME << 100_000)]
    ),
    "a set of tuples in tuples": marked(
        SET, [functools.reduce(lambda inner, _: marked(TUPLE, [inner]), range(50), b"\x00" * 1)] * 2000
    ),
    "every zone, forgotten each time": array(30) + marked(SET, moments()) * 30,
    "empty maps, read twice": with_an_int_as_key(HALF // 4, b"\x80"),
    "maps of one int, read twice": with_an_int_as_key(HALF // 12, b"\x81\x00\x00"),
    "empty sets, read twice": with_an_int_as_key(HALF // 16, b"\x91" + SET),
    "sets of one, read twice": with_an_int_as_key(HALF // 20, b"\x92" + SET + b"\x00"),
    "small decimals, read twice": with_an_int_as_key(HALF // 12, b"\xd4\x051"),
    "uuids, read twice": with_an_int_as_key(HALF // 72, b"\xd8\x06" + b"\1" * 16),
    "moments, read twice": with_an_int_as_key(HALF // 56, b"\xc7\x0b\x04\x07\xe4\x01\x01" + bytes(7)),
    "huge exponents": b"\x92\xc7\x00\x02" + ext(5, b"1E+999999999999") + b"\x00",
    "long decimal as a key": b"\x81" + ext(5, b"9" * HALF) + b"\x00",
    "long int as a key": b"\x81" + ext(10, b"\x79" * HALF) + b"\x00",
    "nested extensions": functools.reduce(lambda inner, _: ext(1, inner), range(1000), b"x" * 1000),
    "long zone": ext(4, bytes(11) + b"Z" + b"a/" * HALF),
    "markers": b"\xc7\x00\x01" * (HALF // 3),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little_memory_and_time(name: str) -> None:
    blob = BOMBS[name]

    def read() -> None:
        with contextlib.suppress(DeserializationError):
            decode(blob)

    assert_harmless(len(blob), read)


@pytest.mark.parametrize("name", ["colliding set", "colliding map", "colliding sets in sets in sets"])
def test_colliding_keys_are_refused(name: str) -> None:
    with pytest.raises(DeserializationError, match="collide"):
        decode(BOMBS[name])


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_mixture_of_colliding_values_takes_more_than_its_time(rng: random.Random) -> None:
    numbers = [*COLLIDING[:40], ext(5, b"0"), ext(5, str(PRIME).encode()), b"\xff", b"\xfe", b"\x00"]
    level: list[bytes] = numbers
    for _ in range(rng.randint(1, 4)):
        level = [
            marked(rng.choice([FROZENSET, TUPLE]), rng.sample(level, rng.randint(1, min(len(level), 40))))
            for _ in range(rng.randint(1, 40))
        ] + rng.sample(level, len(level) // 2)
        if sum(map(len, level)) > HALF:
            break
    wire = marked(SET, level)

    def read() -> None:
        with contextlib.suppress(DeserializationError):
            decode(wire)

    assert costs_at_most(0.1 + len(wire) / 2**20, read)


def test_honest_keys_of_equal_hashes_are_read() -> None:
    for value in (
        [{-1: "a", -2: "b"}] * 20_000,
        [{-1, -2, 3}] * 20_000,
        {(x, y) for x in (-1, -2) for y in range(20_000)},
        {(x, y, z): None for x in range(-8, 8) for y in range(-8, 8) for z in range(-8, 8)},
        {(-1, -2)[n % 2]: frozenset({(-1,), (-2,)}) for n in range(2)},
        {2**4000: 1, 2**4001: 2, -1: 3, -2: 4},
    ):
        assert exact(decode(encode(value))) == exact(value)


@pytest.mark.parametrize(
    "wire",
    [
        b"\x91" * 64 + b"\x90",
        b"\x81\xa1k" * 64 + b"\x80",
        b"\x81\x00" * 65 + b"\xc0",
        b"\x92\xc7\x00\x01" * 65 + b"\xc0",
    ],
)
def test_what_nests_too_deep_is_refused(wire: bytes) -> None:
    with pytest.raises(DeserializationError, match="deeper than 64"):
        decode(wire)


def test_limits_are_the_callers() -> None:
    assert decode(b"\x91\x91\x01", limits=Limits(depth=2)) == [[1]]
    with pytest.raises(DeserializationError, match="deeper than 1"):
        decode(b"\x91\x91\x01", limits=Limits(depth=1))
    with pytest.raises(DeserializationError, match="limit of 2"):
        decode(b"\x91\x91\x01", limits=Limits(size=2))


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\xc1",
        b"\x01\x02",
        b"\x91",
        b"\xa1\xff",
        b"\xd9\x05abc",
        b"\x81\x90\x00",
        b"\x92\xc7\x00\x02\x90",
        b"\xc7\x00\x01",
        b"\x92\x00\xc7\x00\x01",
        b"\x81\xa1a\xc7\x00\x01",
        b"\x81\xc7\x00\x01\x00",
        b"\x92\xc7\x00\x02\xc7\x00\x03",
        b"\xd4\x01x",
        b"\x92\xd4\x01x\x05",
        b"\xd4\x63x",
        b"\xd4\x80x",
        b"\xd6\xff\xff\xff\xff",
        ext(255, b"\xff" * 12),
        ext(4, b""),
        ext(4, bytes(11)),
        ext(4, b"\x07\xe4\x01\x01\0\0\0\0\0\0\0?"),
        ext(4, b"\x07\xe4\x01\x01\0\0\0\0\0\0\0Z../../etc/passwd"),
        ext(4, b"\x07\xe4\x01\x01\0\0\0\0\0\0\0ZEurope"),
        ext(4, b"\x07\xe4\x01\x01\0\0\0\0\0\0\0ZNo/Such"),
        ext(4, b"\x07\xe4\x01\x01\0\0\0\0\0\0\0Ztzdata.zi"),
        ext(4, b"\x07\xe4\x01\x01\0\0\0\0\0\0\0O"),
        ext(4, b"\x07\xe4\x01\x01\0\0\0\0\0\0\0O" + b"\x7f" * 8),
        ext(4, b"\x07\xe4\x01\x01\0\0\0\0\0\0\0N" + b"\0" * 8 + b"\xff"),
        ext(5, b""),
        ext(5, b"1,5"),
        ext(5, b"\xff"),
        ext(5, b"1E+99999999999999999999"),
        ext(6, b"short"),
        ext(6, bytes(16) + b"\x07"),
        ext(7, b"\0\0\0\0"),
        ext(8, b"\xff" * 7),
        ext(9, b"\x7f\xff\xff\xff" + b"\xff" * 8),
        b"\x92\xc7\x00\x02" + ext(5, b"sNaN"),
    ],
)
def test_broken_bytes_are_a_deserialization_error_of_one_line(wire: bytes) -> None:
    with pytest.raises(DeserializationError) as caught:
        decode(wire)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def value_or_refusal(wire: bytes) -> None:
    try:
        value = decode(wire)
    except DeserializationError:
        return
    # what was read can be written, unless it is an unusual zone or beyond what one process may hash
    assert exact(decode(encode(value))) == exact(value)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_deserialization_error(wire: bytes) -> None:
    value_or_refusal(wire)


@settings(max_examples=200, deadline=None)
@given(values, st.randoms(use_true_random=False))
def test_mutated_values_are_a_value_or_a_deserialization_error(value: object, rng: random.Random) -> None:
    wire = bytearray(encode(value))
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(wire) + 1)
        match rng.randrange(4):
            case 0:
                wire[place:place] = bytes([rng.choice([0x81, 0x91, 0xC7, 0xD4, 0xDD, 0xDF, 0xFF, 0x00])])
            case 1:
                del wire[place : place + rng.randint(1, 3)]
            case 2 if place < len(wire):
                wire[place] = rng.randrange(256)
            case _:
                wire[place:place] = wire[: rng.randint(0, 8)]
    value_or_refusal(bytes(wire))


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "/etc/passwd", "a/../b", "Europe//Berlin", "tz.zi", "a" * 999]
)
def test_the_key_of_a_zone_is_no_path(key: str) -> None:
    with pytest.raises(DeserializationError, match="no time zone has the key"):
        decode(ext(4, b"\x07\xe4\x01\x01\0\0\0\0\0\0\0Z" + key.encode()))


def test_decoding_imports_nothing() -> None:
    before = set(sys.modules)
    for wire in (
        encode(datetime(2020, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))),
        ext(4, bytes(11) + b"Zantigravity"),
    ):
        try:
            decode(wire)
        except DeserializationError:
            pass
    assert set(sys.modules) - before <= {"tzdata", "tzdata.zoneinfo", "tzdata.zoneinfo.Asia"}
