"""A realm: one namespace in one Redis, and how values are written there, whichever way it is spoken to.

A store: one Redis and one namespace in it, with the connections that the application's side needs.

Nothing connects before the first call, so a store (and a Queue) can be made at import time.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from minirq.connection.client import Sender
from minirq.connection.config import Config, load_config
from minirq.connection.connect import connect, derive
from minirq.durations import Duration, parse_duration
from minirq.exceptions import DeserializationError, SerializationError
from minirq.protocol.keys import Keys
from minirq.protocol.serializers import Serializer, resolve_serializer
from minirq.protocol.waiting import LOOK_EVERY

if TYPE_CHECKING:
    import redis


#: nobody sets a lower limit, and jobs that read their meta need not read the configuration for it, bytes
_SMALL = 4096


class BaseStore:
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


class Store(BaseStore):
    """Where queues live, spoken to in the blocking way.

    `connection` is a redis.Redis, a URL, or None: the configuration decides.
    """

    def __init__(
        self,
        connection: redis.Redis | str | None = None,
        namespace: str | None = None,
        serializer: str | None = None,
        patience: Duration | None = None,
    ) -> None:
        super().__init__(connection is not None, namespace, serializer, patience)
        self._connection = connection
        self._lock = threading.Lock()

    @cached_property
    def client(self) -> redis.Redis:
        """The client that calls are sent over."""
        with self._lock:
            if isinstance(self._connection, str) or self._connection is None:
                return connect(self._connection, self.config)
            return connect(self._connection)

    @cached_property
    def sender(self) -> Sender:
        """Sends calls."""
        return Sender(self.client, patience=self.patience)

    @cached_property
    def blocking(self) -> Sender:
        """Sends calls that block for up to LOOK_EVERY seconds, on its own connections, once."""
        return Sender(derive(self.client, socket_timeout=LOOK_EVERY + 2), patience=0)
