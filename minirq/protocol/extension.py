"""The values that msgpack has no type for, as extension types of msgpack.

Two forms. Containers are arrays whose first item is a marker, an extension without data, so that
their items are ordinary msgpack and nesting stays visible to whoever reads the bytes:

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
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID, SafeUUID

from msgpack import ExtType

from minirq.text import safe_repr

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

__all__ = ["SCALARS", "Marker", "Unsupported", "from_extension", "to_extension"]

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
    """This one value of a supported type cannot be carried; the text says why and what to do."""


class Marker:
    """What the first item of an array says about the rest of it."""

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


def _pack_datetime(value: datetime) -> ExtType:
    v = value
    head = (v.year, v.month, v.day, v.hour, v.minute, v.second, v.fold << 31 | v.microsecond)
    return ExtType(4, _DATETIME.pack(*head) + _pack_zone(v.tzinfo))


def _unpack_datetime(data: bytes) -> datetime:
    year, month, day, *clock, fine = _DATETIME.unpack_from(data)
    zone = _unpack_zone(data[_DATETIME.size :])
    hour, minute, second = clock
    micro, fold = fine & 0x7FFFFFFF, fine >> 31
    return datetime(year, month, day, hour, minute, second, micro, zone, fold=fold)


def _pack_time(value: time) -> ExtType:
    fine = value.fold << 31 | value.microsecond
    return ExtType(8, _TIME.pack(value.hour, value.minute, value.second, fine) + _pack_zone(value.tzinfo))


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


def _pack_int(value: int) -> ExtType:
    return ExtType(10, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


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
    int: _pack_int,
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
