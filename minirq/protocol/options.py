"""What a job carries about how it is to be run: everything that differs from the defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from minirq.exceptions import DeserializationError
from minirq.protocol import defaults
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
        wire = {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }
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
