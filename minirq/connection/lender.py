"""A lender: hands out the connections of a pool, and keeps one at hand.

A pool looks at a connection and keeps books each time one is taken or given back, which takes about as long
as packing what is to be said. Kept is one connection at most, of pools that have plenty and outside TLS; it
is looked at too before it is used again.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from functools import cache
from inspect import Parameter, signature
from typing import Any

import redis

from minirq.connection.persistence import note_connection, nothing_sent

#: a pool with fewer connections may need each of them for somebody else
_PLENTY = 50


@cache
def purpose(pool: Any) -> tuple[str, ...]:
    """What `get_connection` of this kind of pool, blocking or asyncio, has to be given."""
    # redis-py before 5.3 wants to know what a connection is for, and later ones warn about it
    is_wanted = signature(pool.get_connection).parameters["command_name"].default is Parameter.empty
    return ("EVALSHA",) if is_wanted else ()


class Lender:
    """Lends connections of one pool. Thread-safe: a connection is lent to one at a time."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        self._purpose = purpose(type(pool))
        has_plenty = type(pool) is redis.ConnectionPool and pool.max_connections >= _PLENTY
        self._may_keep = has_plenty and hasattr(select, "poll")
        self._kept: list[Any] = []
        self._pid = os.getpid()

    def lend(self) -> Any:
        """Return a connection. Raises redis-py's errors."""
        try:
            connection = self._kept.pop()
        except IndexError:
            return self._open()
        if self._pid != os.getpid():  # it belongs to the process that this one was forked from
            return self._open()
        if not _is_silent(connection):  # the server has closed it
            self.take_back_after_fault(connection)
            return self._open()
        return connection

    def _open(self) -> Any:
        self._pid = os.getpid()  # what is kept from here on is this process's
        with nothing_sent():
            connection = self._pool.get_connection(*self._purpose)
        note_connection()
        return connection

    def take_back(self, connection: Any) -> None:
        """Take a connection back after an exchange that went well."""
        if self._may_keep and not self._kept and self._pid == os.getpid():
            self._kept.append(connection)
        else:
            self._pool.release(connection)

    def take_back_after_fault(self, connection: Any) -> None:
        """Take a connection back of which nobody knows what is still under way on it: it is cut."""
        connection.disconnect()
        self._pool.release(connection)

    def __del__(self) -> None:
        # queues come and go, and the pool stays
        with suppress(Exception):
            for connection in self._kept:
                self._pool.release(connection)


def _is_silent(connection: Any) -> bool:
    """Whether a connection is as it was left: nothing has come, not even its end."""
    sock = connection._sock
    if type(sock) is not socket.socket:  # closed, which is as good; or TLS, where messages of its own come
        return sock is None
    if sock.fileno() < 0:  # it was taken off: a job had closed its descriptor
        return False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)
