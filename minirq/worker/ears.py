"""Ears: a subscription on which producers say that a delayed job has become the earliest.

It saves looking. What is missed, because it could not be set up or was cut, is found by the next look.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any


class Ears:
    """Names of queues, as they are published on a channel. It never raises."""

    def __init__(self, client: Any, channel: str) -> None:
        self._client = client
        self._channel = channel
        self._pubsub: Any = None

    def open(self) -> bool:
        """Subscribe; True if that was not done yet: what was published before has to be looked for."""
        if self._pubsub is not None:
            return False
        with suppress(Exception):
            # the confirmation is a message too: ignored, it would look like the end of what has come
            pubsub = self._client.pubsub(ignore_subscribe_messages=False)
            pubsub.subscribe(self._channel)
            self._pubsub = pubsub
            return True
        return False

    def heard(self) -> list[str]:
        """Return the names that came since the last call; the ears are closed if the subscription was cut."""
        names: list[str] = []
        if self._pubsub is None:
            return names
        try:
            while message := self._pubsub.get_message(timeout=0):
                if message["type"] == "message":
                    names.append(message["data"].decode("utf-8", "replace"))
        except Exception:  # redis-py's errors and those of a socket that is gone
            self.close()
        return names

    def fileno(self) -> int | None:
        """The descriptor that becomes readable when there is something to hear; None while closed."""
        sock = getattr(getattr(self._pubsub, "connection", None), "_sock", None)
        return None if sock is None else int(sock.fileno())

    def close(self) -> None:
        """Unsubscribe; `open` subscribes anew."""
        if self._pubsub is not None:
            with suppress(Exception):
                self._pubsub.close()
            self._pubsub = None
