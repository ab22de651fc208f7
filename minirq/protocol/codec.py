"""Exact msgpack: a value comes back unchanged, its type included, or is refused by name.

Carried are None, bool, int of any size, float, str, bytes, list, tuple, dict with any of these as
keys, set, frozenset, datetime, date, time, timedelta, Decimal and UUID. A subclass of one of them,
an enum member, a named tuple, a path, a bytearray are refused: msgpack alone would quietly turn
them into something else.

What msgpack has no type for is carried in two forms. Containers are arrays whose first item is a marker, an
extension without data, so that their items are ordinary msgpack and nesting stays visible to whoever reads
the bytes:

    1 tuple   2 set   3 frozenset

Scalars are extensions with data, numbers big-endian:

    4 datetime   year u16, month, day, hour, minute, second u8, u32 (fold << 31 | microsecond), zone
    5 Decimal    its text in ASCII
    6 UUID       16 bytes; a 17th if `is_safe` is known: 0 safe, 255 unsafe
    7 date       year u16, month, day u8
    8 time       hour, minute, second u8, u32 (fold << 31 | microsecond), zone
    9 timedelta  days i32, seconds u32, microseconds u32
    10 int       beyond 64 bits: two's complement

A zone is nothing (naive), "Z" and the key of a ZoneInfo, "O" and an offset in microseconds i64, or
"N", the offset and the name of the `datetime.timezone`. A code is never given another meaning.

Bytes are read with suspicion. Nothing is imported, named or called on their behalf, and reading costs at most
128 bytes of memory per byte (the worst are maps of one item) and a second of CPU per MiB. What that takes:

- An array header may announce more items than follow, and the C decoder allocates for the
  announcement, at each of 1,024 levels. Blobs long enough for that to hurt are first read through
  without building anything.
- The depth cannot exceed the number of bytes that may be headers of containers. Only where that
  bound is not good enough is the decoded value walked; the C decoder itself does not recurse.
- Hashes of text and bytes are seeded, those of numbers, and of tuples and frozensets of them, can be
  made to collide. Where hashes are equal, sets and keys are filled in one by one, within a budget of
  CPU time that all of them share. An element costs at most what those before it have cost: comparing
  two sets takes about as long as filling one did, and that was paid for.
- Big integers are binary: parsing decimal digits takes quadratic time. So does comparing them with a
  Decimal, which only happens if their hashes are equal: then they are refused.
"""

from __future__ import annotations

import re
import struct
import time as clock
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, InvalidOperation
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID, SafeUUID

from msgpack import ExtType, Packer, Unpacker, unpackb

from minirq.exceptions import DeserializationError, SerializationError
from minirq.protocol.refusal import Rules, Where, fits, joined, one_line, refusal
from minirq.text import safe_repr

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


# --- packers ----------------------------------------------------------------------------------

#: a packer that has packed more than this keeps too large a buffer, bytes
_LARGE = 65536


class Packers:
    """Packs values with the same options of msgpack.

    A packer is kept for the next value: with its buffer at hand it takes a third of the time of `packb`. It
    is not reentrant, so nobody else gets it while a thread, or a signal handler, uses it.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._idle: list[Packer] = []

    def pack(self, value: object) -> bytes:
        """Return the bytes of a value. Raises what msgpack raises."""
        try:
            packer = self._idle.pop()
        except IndexError:
            packer = Packer(**self._options, buf_size=1024)
        packed: bytes = packer.pack(value)  # an error leaves the packer out: its buffer is not empty
        if len(packed) <= _LARGE:
            self._idle.append(packer)
        return packed


# --- values that msgpack has no type for ------------------------------------------------------

_DATETIME: Final = struct.Struct(">H5BI")
_DATE: Final = struct.Struct(">HBB")
_TIME: Final = struct.Struct(">3BI")
_TIMEDELTA: Final = struct.Struct(">iII")
_OFFSET: Final = struct.Struct(">q")
_MICROSECOND: Final = timedelta(microseconds=1)
# ZoneInfo turns the key into a path below its directories; this leaves it nothing to be clever with.
_ZONE_KEY: Final = re.compile(r"[A-Za-z0-9_+-]{1,64}(?:/[A-Za-z0-9_+-]{1,64}){0,4}")
# Read with the application's context, a bad text could become NaN instead of an error.
_EXACT: Final = Context(traps=[InvalidOperation])


class Unsupported(TypeError):
    """This one value of a supported type cannot be carried; the text is the reason and the way out."""


class Marker:
    """The type of which the items that follow it in an array are."""

    __slots__ = ("kind",)

    def __init__(self, kind: type[tuple[Any, ...]] | type[set[Any]] | type[frozenset[Any]]) -> None:
        self.kind = kind


_MARKERS: Final = {1: Marker(tuple), 2: Marker(set), 3: Marker(frozenset)}
_TUPLE, _SET, _FROZENSET = (ExtType(code, b"") for code in _MARKERS)


def to_extension(value: object) -> ExtType | list[Any]:
    """Return what msgpack can pack for a value that it cannot; raises Unsupported."""
    try:
        pack = _PACK[type(value)]
    except KeyError:
        raise Unsupported from None
    return pack(value)


def from_extension(code: int, data: bytes) -> object:
    """Return the value of an extension, or the Marker of the array that it begins."""
    if code in _MARKERS and not data:
        return _MARKERS[code]
    try:
        unpack = _UNPACK[code]
    except KeyError:
        raise ValueError(f"unknown extension type {code} with {len(data)} bytes") from None
    return unpack(data)


def _pack_zone(zone: tzinfo | None) -> bytes:
    if zone is None:
        return b""
    if type(zone) is timezone:
        # the offset alone, or the offset and the name that was given
        offset, *name = cast("Any", zone).__getinitargs__()
        packed: bytes = _OFFSET.pack(offset // _MICROSECOND)
        return b"N" + packed + name[0].encode() if name else b"O" + packed
    from zoneinfo import ZoneInfo  # with sysconfig 0.3 MiB, which a worker without zones does not pay

    if type(zone) is ZoneInfo:
        return b"Z" + _zone_key(zone)
    kind = type(zone)
    raise Unsupported(f"its tzinfo is a {kind.__module__}.{kind.__qualname__}; use zoneinfo.ZoneInfo")


def _zone_key(zone: ZoneInfo) -> bytes:
    from pickle import PicklingError  # as above

    try:
        zone.__reduce__()
    except PicklingError:
        raise Unsupported("its ZoneInfo was read from a file; use ZoneInfo(key)") from None
    if not _ZONE_KEY.fullmatch(zone.key):
        raise Unsupported(f"its zone is {safe_repr(zone.key)}; use one such as 'Europe/Paris'")
    return zone.key.encode()


def _unpack_zone(data: bytes) -> tzinfo | None:
    if not data:
        return None
    match data[:1]:
        case b"Z":
            return _find_zone(data[1:].decode("ascii"))
        case b"O":
            return timezone(_unpack_offset(data[1:]))
        case b"N":
            return timezone(_unpack_offset(data[1:9]), data[9:].decode())
    raise ValueError("unknown form of time zone")


# ZoneInfo keeps eight that nobody uses; to read all 600 again and again would take a second for 20 KiB
@lru_cache(maxsize=2048)
def _find_zone(key: str) -> ZoneInfo:
    if not _ZONE_KEY.fullmatch(key):
        raise ValueError(f"no time zone has the key {safe_repr(key)}")
    from zoneinfo import ZoneInfo  # as above

    try:
        return ZoneInfo(key)
    except (KeyError, ValueError, OSError, ImportError):
        raise ValueError(f"this host does not know the time zone {key!r}; install tzdata") from None


def _unpack_offset(data: bytes) -> timedelta:
    return timedelta(microseconds=_OFFSET.unpack(data)[0])


def _clock_of(value: datetime | time) -> tuple[int, ...]:
    return value.hour, value.minute, value.second, value.fold << 31 | value.microsecond


def _pack_datetime(value: datetime) -> ExtType:
    packed = _DATETIME.pack(value.year, value.month, value.day, *_clock_of(value))
    return ExtType(4, packed + _pack_zone(value.tzinfo))


def _unpack_datetime(data: bytes) -> datetime:
    year, month, day, hour, minute, second, fine = _DATETIME.unpack_from(data)
    zone = _unpack_zone(data[_DATETIME.size :])
    return datetime(year, month, day, hour, minute, second, fine & 0x7FFFFFFF, zone, fold=fine >> 31)


def _pack_time(value: time) -> ExtType:
    return ExtType(8, _TIME.pack(*_clock_of(value)) + _pack_zone(value.tzinfo))


def _unpack_time(data: bytes) -> time:
    hour, minute, second, fine = _TIME.unpack_from(data)
    zone = _unpack_zone(data[_TIME.size :])
    return time(hour, minute, second, fine & 0x7FFFFFFF, zone, fold=fine >> 31)


def _pack_uuid(value: UUID) -> ExtType:
    safety = {SafeUUID.safe: b"\0", SafeUUID.unsafe: b"\xff"}.get(value.is_safe, b"")
    return ExtType(6, value.bytes + safety)


def _unpack_uuid(data: bytes) -> UUID:
    safety = {b"": SafeUUID.unknown, b"\0": SafeUUID.safe, b"\xff": SafeUUID.unsafe}[data[16:]]
    return UUID(bytes=data[:16], is_safe=safety)


_PACK: Final[dict[type, Callable[[Any], ExtType | list[Any]]]] = {
    tuple: lambda value: [_TUPLE, *value],
    set: lambda value: [_SET, *value],
    frozenset: lambda value: [_FROZENSET, *value],
    datetime: _pack_datetime,
    Decimal: lambda value: ExtType(5, str(value).encode()),
    UUID: _pack_uuid,
    date: lambda value: ExtType(7, _DATE.pack(value.year, value.month, value.day)),
    time: _pack_time,
    timedelta: lambda value: ExtType(9, _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)),
    # to_bytes wants room for the sign
    int: lambda value: ExtType(10, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)),
}
_UNPACK: Final[dict[int, Callable[[bytes], object]]] = {
    4: _unpack_datetime,
    5: lambda data: Decimal(data.decode("ascii"), _EXACT),
    6: _unpack_uuid,
    7: lambda data: date(*_DATE.unpack(data)),
    8: _unpack_time,
    9: lambda data: timedelta(*_TIMEDELTA.unpack(data)),
    10: lambda data: int.from_bytes(data, "big", signed=True),
}

#: the types that `to_extension` turns into an extension with data
SCALARS: Final = frozenset(_PACK) - {tuple, set, frozenset}


# --- whole values -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """What is read at most: levels of containers, and bytes in all, which bound every length."""

    depth: int = 64
    size: int = 64 * 1024 * 1024


DEFAULT: Final = Limits()

_TYPES: Final = SCALARS | {type(None), bool, float, str, bytes, list, tuple, dict, set, frozenset}

# Headers that matter here, by their first byte: containers, byte strings, extensions. Deleting all
# other bytes leaves the headers and whatever looks like one, so what is counted is an upper bound.
_IS_CONTAINER, _IS_BYTES, _IS_EXTENSION = 0, 1, 2
_MARKS: Final = {
    **dict.fromkeys([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF], _IS_CONTAINER),
    **dict.fromkeys([0xC4, 0xC5, 0xC6], _IS_BYTES),
    **dict.fromkeys([0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8], _IS_EXTENSION),
}
_TO_MARKS: Final = bytes(_MARKS.get(byte, 0) for byte in range(256))
_NO_MARKS: Final = bytes(byte for byte in range(256) if byte not in _MARKS)

# Below this even 1,024 arrays that each announce as many items as there are bytes cost little.
_HARMLESS: Final = 4096

# Less than half of what reading may take in all; few honest keys have equal hashes, such as -1 and -2.
_LEAST_SECONDS: Final = 0.005
_SECONDS_PER_BYTE: Final = 0.4 / (1024 * 1024)
_LONG_INT_BITS: Final = 1024
# Headers of such ints, or of other things: where there are none, no int has to be looked at.
_LONG_INT: Final = re.compile(rb"\xc7[\x80-\xff]\n|\xc8..\n|\xc9....\n", re.DOTALL)

_packers: Final = Packers(strict_types=True, default=to_extension)


def encode(value: object, where: Where = "value") -> bytes:
    """Return the bytes of `value`, which `where` names in errors.

    A tuple as `where` names the items of `value`. Raises SerializationError, which says
    the path to the fault, its type and the way out.
    """
    try:
        blob = _packers.pack(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise refusal(value, _RULES, where, error) from None
    if len(blob) > DEFAULT.size:
        raise SerializationError(
            f"{joined(where)}: {len(blob):,} bytes are more than the {DEFAULT.size:,} that a job carries;"
            " store the data and pass where it is"
        )
    marks = blob.translate(_TO_MARKS, _NO_MARKS)
    # msgpack packs a bytearray as bytes and an ExtType as itself even when told to be strict.
    unsure = len(marks) > DEFAULT.depth or _IS_BYTES in marks or _IS_EXTENSION in marks
    if unsure and not fits(value, _TYPES, DEFAULT.depth):
        raise refusal(value, _RULES, where)
    return blob


def decode(blob: bytes, *, limits: Limits = DEFAULT) -> object:
    """Return the value of the bytes that `encode`, or any msgpack writer, wrote.

    A timestamp of msgpack comes as a datetime of UTC, cut to microseconds. Raises
    DeserializationError for everything that is not one complete value within the limits.
    """
    if len(blob) > limits.size:
        raise DeserializationError(f"{len(blob):,} bytes are more than the limit of {limits.size:,}")
    marks = blob.translate(_TO_MARKS, _NO_MARKS)
    try:
        if len(blob) > _HARMLESS:
            _check_complete(blob)
        value = _unpack(blob, _IS_EXTENSION in marks)
    except Exception as error:  # the C decoder raises eight types, and extensions their own
        raise DeserializationError(f"not a value of minirq's msgpack: {one_line(error)}") from error
    if (len(marks) > limits.depth or _IS_EXTENSION in marks) and not fits(value, _TYPES, limits.depth):
        raise DeserializationError(f"nested deeper than {limits.depth} levels, or a marker out of its place")
    return value


def _unpack(blob: bytes, extended: bool) -> object:
    reader = None
    try:
        if not extended:
            return unpackb(blob)
        reader = _Reader(blob)
        return unpackb(blob, ext_hook=from_extension, list_hook=reader.revive, timestamp=3)
    except ValueError:  # broken, or a map with keys that are neither text nor bytes
        reader = reader or _Reader(blob)
        return unpackb(
            blob,
            ext_hook=from_extension,
            list_hook=reader.revive,
            object_pairs_hook=reader.make_map,
            strict_map_key=False,
            timestamp=3,
        )


def _check_complete(blob: bytes) -> None:
    unpacker = Unpacker(None, max_buffer_size=len(blob))
    unpacker.feed(blob)
    unpacker.skip()


class _Collision(Exception):
    """Keys that somebody has made to collide."""


class _Reader:
    """Makes tuples, sets and maps of what was read, within the time that so many bytes may take."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self._seconds_spent = 0.0

    def revive(self, items: list[Any]) -> object:
        """Make the container that a marker in front names; without one, a list."""
        if not items or type(items[0]) is not Marker:
            return items
        kind = items.pop(0).kind
        if kind is tuple:
            return tuple(items)
        filled: set[Any] = set()
        if len(items) < 2:
            filled.update(items)
        else:
            self._fill(filled.update, items, items)
        return filled if kind is set else frozenset(filled)

    def make_map(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """Make a dict."""
        if len(pairs) < 2:
            return dict(pairs)
        filled: dict[Any, Any] = {}
        self._fill(filled.update, pairs, [key for key, _ in pairs])
        return filled

    def _fill(self, update: Callable[[Iterable[Any]], None], items: list[Any], keys: list[Any]) -> None:
        collisions = len(keys) - len(set(map(hash, keys)))
        # without any, no key is compared with another; -1 and -2 have the same hash
        if not collisions or (collisions == 1 and -1 in keys and -2 in keys):
            return update(items)
        counts = Counter(map(hash, keys))
        seconds_left = _LEAST_SECONDS + len(self._blob) * _SECONDS_PER_BYTE - self._seconds_spent
        start = clock.thread_time()
        for item, key in zip(items, keys, strict=True):
            count = counts[hash(key)]
            if count > 1 and self._may_hold_long_ints and _holds_long_int(key):
                raise _Collision("a long int and another number are made to collide")
            update((item,))
            # two of a kind cost twice what was paid for making them: that is looked at in the end
            if count > 2 and clock.thread_time() - start > seconds_left:
                break
        seconds = clock.thread_time() - start
        self._seconds_spent += seconds
        if seconds > seconds_left:
            raise _Collision("keys made to collide")
        return None

    @cached_property
    def _may_hold_long_ints(self) -> bool:
        return _LONG_INT.search(self._blob) is not None


def _holds_long_int(key: object) -> bool:
    inside = [key]
    while inside:
        item = inside.pop()
        if type(item) is int and item.bit_length() > _LONG_INT_BITS:
            return True
        if isinstance(item, (tuple, frozenset)):
            inside.extend(item)
    return False


def _check(value: object) -> str | None:
    """Say why this scalar of a carried type cannot be carried."""
    try:
        if type(value) is str:
            value.encode()
        elif type(value) in SCALARS and type(value) is not int:
            to_extension(value)
    except UnicodeEncodeError:
        return "it holds lone surrogates; encode it to bytes yourself"
    except Unsupported as error:
        return str(error)
    return None


_RULES: Final = Rules("msgpack", _TYPES, DEFAULT.depth, _check)
