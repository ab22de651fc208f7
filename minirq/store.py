"""A store: one Redis and one namespace in it, with the connections that the application's side needs.

Nothing connects before the first call, so a store (and a Queue) can be made at import time.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from minirq.connection.connect import connect, derive
from minirq.connection.sender import Sender
from minirq.durations import Duration
from minirq.protocol.watch import LOOK_EVERY
from minirq.realm import Realm

if TYPE_CHECKING:
    import redis


class Store(Realm):
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
