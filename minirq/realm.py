"""A realm: one namespace in one Redis, and how values are written there, whichever way it is spoken to."""

from __future__ import annotations

from functools import cached_property

from minirq.connection.config import Config, load_config
from minirq.durations import Duration, parse_duration
from minirq.exceptions import DeserializationError, SerializationError
from minirq.protocol.keys import Keys
from minirq.protocol.serializers import Serializer, resolve_serializer

#: nobody sets a lower limit, and jobs that read their meta need not read the configuration for it, bytes
_SMALL = 4096


class Realm:
    """What stores have in common; `is_given` says that the connection or its URL was given to it."""

    def __init__(
        self, is_given: bool, namespace: str | None, serializer: str | None, patience: Duration | None
    ) -> None:
        self._patience = None if patience is None else parse_duration(patience, what="patience")
        self.serializer = resolve_serializer(serializer)
        self._is_given = is_given
        self._namespace = namespace
        self.keys = Keys(self.config.namespace if namespace is None else namespace)

    def serializer_named(self, name: str) -> Serializer:
        """The serializer that a job names. Pickle runs code when it is read: it must be asked for here too.

        Raises DeserializationError.
        """
        if name == "pickle" and self.serializer.name != "pickle":
            raise DeserializationError(
                "this was written with pickle, which can run code when it is read:"
                " pass serializer='pickle' here too if you trust everybody who writes to this Redis"
            )
        return resolve_serializer(name)

    @property
    def patience(self) -> float | None:
        """For how long a server that is away is waited for, seconds; None for the default."""
        return self.config.patience if self._patience is None else self._patience

    def loads(self, serializer: str, blob: bytes, what: str) -> object:
        """Read a value, called `what` in errors. Raises DeserializationError, also beyond `max_payload`."""
        if self._is_too_large(blob):
            raise DeserializationError(self._complaint(blob, what, "read"))
        return self.serializer_named(serializer).loads(blob)

    def dumps(self, serializer: str, value: object, what: str) -> bytes:
        """Write a value, called `what` in errors. Raises SerializationError, also beyond `max_payload`."""
        blob = self.serializer_named(serializer).dumps(value, what)
        if self._is_too_large(blob):
            raise SerializationError(self._complaint(blob, what, "written"))
        return blob

    def _is_too_large(self, blob: bytes) -> bool:
        return len(blob) > _SMALL and len(blob) > self.config.max_payload

    def _complaint(self, blob: bytes, what: str, done: str) -> str:
        return (
            f"{what}: {len(blob):,} bytes, and {self.config.max_payload:,} are {done} at most:"
            " set MINIRQ_MAX_PAYLOAD if it has to be more"
        )

    @cached_property
    def config(self) -> Config:
        """The settings; read when something first depends on them."""
        return load_config(namespace=self._namespace, needs_url=not self._is_given)
