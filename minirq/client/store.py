"""A store: one Redis and one namespace in it, how values are written there, and the connections to it.

Nothing connects before the first call, so a store (and a Queue) can be made at import time.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from minirq.connection.client import Sender
from minirq.connection.config import Config, load_config
from minirq.connection.connect import connect, derive
from minirq.durations import Duration, parse_duration
from minirq.exceptions import DeserializationError, MinirqError, SerializationError
from minirq.protocol.keys import Keys
from minirq.protocol.serializers import Serializer, resolve_serializer
from minirq.protocol.waiting import LOOK_EVERY

if TYPE_CHECKING:
    import redis


#: smaller values are never refused, so that a job that reads its meta need not read the configuration, bytes
_SMALL = 4096


class BaseStore:
    """What both stores share; `is_given` says that the application passed a connection or a URL."""

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
        """For how long calls are tried again while Redis is unreachable, seconds; None for the default."""
        return self.config.patience if self._patience is None else self._patience

    def loads(self, serializer: str, blob: bytes, what: str) -> object:
        """Read a value, called `what` in errors. Raises DeserializationError, also beyond `max_payload`."""
        self._check_size(blob, what, "read", DeserializationError)
        return self.serializer_named(serializer).loads(blob)

    def dumps(self, serializer: str, value: object, what: str) -> bytes:
        """Write a value, called `what` in errors. Raises SerializationError, also beyond `max_payload`."""
        blob = self.serializer_named(serializer).dumps(value, what)
        self._check_size(blob, what, "written", SerializationError)
        return blob

    def _check_size(self, blob: bytes, what: str, done: str, error: type[MinirqError]) -> None:
        if len(blob) > _SMALL and len(blob) > self.config.max_payload:
            raise error(
                f"{what}: {len(blob):,} bytes, and {self.config.max_payload:,} are {done} at most:"
                " set MINIRQ_MAX_PAYLOAD if it has to be more"
            )

    @cached_property
    def config(self) -> Config:
        """The settings; read when something first depends on them."""
        return load_config(namespace=self._namespace, needs_url=not self._is_given)


class Store(BaseStore):
    """A store for blocking applications.

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

    @cached_property
    def client(self) -> redis.Redis:
        """The client that calls are sent over."""
        return connect(self._connection, self.config if self._connection is None else None)

    @cached_property
    def sender(self) -> Sender:
        """Sends calls, and sends them again."""
        return Sender(self.client, patience=self.patience)

    @cached_property
    def blocking(self) -> Sender:
        """Sends calls that block for up to LOOK_EVERY seconds, on its own connections, once."""
        return Sender(derive(self.client, socket_timeout=LOOK_EVERY + 2), patience=0)
