"""The payload: the bytes of a job, which are written once and move through the lists.

It is a msgpack array `[id, version, function, serializer, blob, options]`. The id comes first, so that a
script reads it without unpacking anything. The array is always msgpack; the serializer that it
names is that of the blob, which is `(instance or None, args, kwargs)`. docs/protocol.md is normative.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any

import msgpack

from minirq.exceptions import DeserializationError
from minirq.protocol import defaults
from minirq.protocol.codec import Packers
from minirq.protocol.defaults import MAX_ID_BYTES
from minirq.protocol.refusal import one_line
from minirq.retry import Retry


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options inside a payload; seconds. -1 is "no limit" for `timeout`, "for ever" for the TTLs."""

    timeout: float = defaults.JOB_TIMEOUT
    result_ttl: float = defaults.RESULT_TTL
    failure_ttl: float = defaults.FAILURE_TTL
    description: str | None = None
    retry: Retry | None = None
    loss_limit: int = defaults.LOSS_LIMIT

    def to_wire(self) -> dict[str, Any]:
        """Return the map that goes into the payload: only what differs from the defaults."""
        if self is DEFAULT_OPTIONS:
            return {}
        values = [(field, getattr(self, field.name)) for field in fields(self)]
        wire = {field.name: value for field, value in values if value != field.default}
        if self.retry is not None:
            wire["retry"] = self.retry.to_wire()
        return wire

    @classmethod
    def from_wire(cls, wire: object) -> JobOptions:
        """Read the map of a payload. Keys that are not known are left for newer versions.

        Raises DeserializationError for a value of the wrong type.
        """
        if not wire:
            return DEFAULT_OPTIONS
        if not isinstance(wire, dict):
            raise DeserializationError("the options of the payload are not a map")
        known: dict[str, Any] = {}
        for name, kind in _KINDS.items():
            value = wire.get(name)
            if value is None:
                continue
            if not isinstance(value, kind) or isinstance(value, bool):
                raise DeserializationError(f"option {name!r} of the payload is a {type(value).__name__}")
            if isinstance(value, (int, float)) and not -1 <= value < 1e12:
                raise DeserializationError(f"option {name!r} of the payload is out of range: {value}")
            known[name] = value
        if "retry" in known:
            known["retry"] = Retry.from_wire(known["retry"])
        return cls(**known)


DEFAULT_OPTIONS = JobOptions()

_NUMBER = (int, float)
_KINDS: dict[str, type | tuple[type, ...]] = {
    "timeout": _NUMBER,
    "result_ttl": _NUMBER,
    "failure_ttl": _NUMBER,
    "description": str,
    "retry": list,
    "loss_limit": int,
}


VERSION = 1
#: nothing but the blob and the options nests, and the blob stays bytes here
_ITEMS = 6
_TYPES = (str, int, str, str, bytes)
_NAMES = ("id", "version", "function", "serializer", "blob")
#: characters that take no more bytes than an id may
_SURELY_SHORT = MAX_ID_BYTES // 4
#: even empty maps all through take no more than 70 times this
_HARMLESS = 64 * 1024
_CONTAINERS = (0xDC, 0xDD, 0xDE, 0xDF)

_packers = Packers()


@dataclass(slots=True)  # not frozen: made for every job
class Payload:
    """A payload in parts. `blob` is still serialized: the serializer reads it, not this module."""

    id: str
    function: str
    serializer: str
    blob: bytes
    options: JobOptions = DEFAULT_OPTIONS

    def encode(self) -> bytes:
        """Return the bytes that go into the list."""
        options = self.options.to_wire()
        return _packers.pack([self.id, VERSION, self.function, self.serializer, self.blob, options])


def decode(raw: bytes, max_bytes: int | None = None) -> Payload:
    """Read a payload; the blob stays bytes.

    Raises DeserializationError for anything but a payload of this version of at most `max_bytes`. Apart
    from a copy of the blob this takes some MiB at most, whatever the bytes are.
    """
    if max_bytes is not None and len(raw) > max_bytes:
        raise DeserializationError(f"the payload takes {len(raw):,} bytes; {max_bytes:,} are read at most")
    try:
        items = _unpack(raw) if len(raw) <= _HARMLESS else _unpack_warily(raw)
    except DeserializationError:
        raise
    except Exception as error:  # msgpack raises a dozen types for broken input
        raise DeserializationError(f"the payload is not msgpack: {one_line(error)}") from None
    if type(items) is list and len(items) == _ITEMS:  # as minirq writes it: all items are checked at once
        job_id, version, function, serializer, blob, options = items
        kinds = (type(job_id), type(version), type(function), type(serializer), type(blob))
        if kinds == _TYPES and version == VERSION and 1 <= len(job_id) <= _SURELY_SHORT:
            carried = JobOptions.from_wire(options) if options else DEFAULT_OPTIONS
            return Payload(job_id, function, serializer, blob, carried)
    return _check(items)


def _check(items: Any) -> Payload:
    """Make a payload of the items, or say what is wrong with them."""
    if not isinstance(items, list) or len(items) < _ITEMS:
        raise DeserializationError(
            "the payload is not a list [id, version, function, serializer, blob, options]"
        )
    job_id, version, function, serializer, blob, options = items[:_ITEMS]
    if type(version) is int and version > VERSION:
        raise DeserializationError(
            f"the payload has format version {version}, and this worker reads up to {VERSION}: upgrade it"
        )
    if version != VERSION or type(version) is not int:
        raise DeserializationError("the payload has no readable format version")
    for value, kind, name in zip(items, _TYPES, _NAMES, strict=False):
        if not isinstance(value, kind):
            raise DeserializationError(f"the {name} of the payload is a {type(value).__name__}")
    if not 1 <= len(job_id.encode()) <= MAX_ID_BYTES:
        raise DeserializationError(f"the id of the payload is not 1 to {MAX_ID_BYTES} bytes long")
    return Payload(job_id, function, serializer, blob, JobOptions.from_wire(options))


def _unpack(raw: bytes) -> Any:
    return msgpack.unpackb(
        raw, raw=False, strict_map_key=True, max_array_len=4096, max_map_len=256, max_ext_len=0
    )


def _unpack_warily(raw: bytes) -> list[Any]:
    """Read a long payload item by item: nested containers in place of the scalars would fill the memory."""
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=len(raw))
    unpacker.feed(raw)
    items: list[Any] = []
    if unpacker.read_array_header() < _ITEMS:
        return items
    for _ in range(_ITEMS - 1):
        header = raw[unpacker.tell()]
        if 0x80 <= header <= 0x9F or header in _CONTAINERS:
            raise DeserializationError("the payload has a list or map where text, bytes or a number belongs")
        items.append(unpacker.unpack())
    options = raw[unpacker.tell() :]
    if len(options) > _HARMLESS:
        raise DeserializationError(f"the options of the payload take {len(options):,} bytes")
    rest = msgpack.Unpacker(raw=False, max_ext_len=0)
    rest.feed(options)
    return [*items, rest.unpack()]


def id_of(raw: bytes) -> str:
    """Return the id by which the scripts know this payload: its first item, or the SHA-1 of its bytes.

    It must agree with `id_of` in lua/lib/ids.lua. Bytes that are not UTF-8 survive as surrogates.
    """
    found = _readable_id(raw)
    return hashlib.sha1(raw, usedforsecurity=False).hexdigest() if found is None else found


def _readable_id(raw: bytes) -> str | None:
    if len(raw) < 3 or not 0x91 <= raw[0] <= 0x9F:
        return None
    match raw[1]:
        case head if 0xA1 <= head <= 0xBF:
            start, length = 2, head - 0xA0
        case 0xD9:
            start, length = 3, raw[2]
        case 0xDA if len(raw) >= 4:
            start, length = 4, raw[2] * 256 + raw[3]
        case _:
            return None
    if not 1 <= length <= MAX_ID_BYTES or len(raw) < start + length:
        return None
    return raw[start : start + length].decode("utf-8", "surrogateescape")
