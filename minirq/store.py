"""A store: one Redis and one namespace in it, with the connections that the application's side needs.

Nothing connects before the first call, so a store (and a Queue) can be made at import time.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from minirq.connection.config import Config, load_config
from minirq.connection.connect import connect, derive
from minirq.connection.sender import Sender
from minirq.exceptions import DeserializationError
from minirq.protocol.keys import Keys
from minirq.protocol.serializers import Serializer, resolve_serializer

if TYPE_CHECKING:
    import redis

#: a waiter looks again at least this often, seconds
WAIT_BLOCK = 5.0


class Store:
    """Where queues live. `connection` is a redis.Redis, a URL, or None: the configuration decides."""

    def __init__(
        self,
        connection: redis.Redis | str | None = None,
        namespace: str | None = None,
        serializer: str | None = None,
    ) -> None:
        self.serializer = resolve_serializer(serializer)
        self._connection = connection
        self._lock = threading.Lock()
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

    @cached_property
    def config(self) -> Config:
        """The settings; read when something first depends on them."""
        return load_config(namespace=self._namespace, needs_url=self._connection is None)

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
        return Sender(self.client)

    @cached_property
    def blocking(self) -> Sender:
        """Sends calls that block for up to WAIT_BLOCK seconds, on its own connections, once."""
        return Sender(derive(self.client, socket_timeout=WAIT_BLOCK + 2), patience=0)
