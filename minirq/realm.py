"""A realm: one namespace in one Redis, and how values are written there, whichever way it is spoken to."""

from __future__ import annotations

from functools import cached_property

from minirq.connection.config import Config, load_config
from minirq.durations import Duration, parse_duration
from minirq.exceptions import DeserializationError
from minirq.protocol.keys import Keys
from minirq.protocol.serializers import Serializer, resolve_serializer


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

    @cached_property
    def config(self) -> Config:
        """The settings; read when something first depends on them."""
        return load_config(namespace=self._namespace, needs_url=not self._is_given)
