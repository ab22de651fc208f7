"""Ears: a subscription on which delayed jobs that became the earliest, and requests to stop, are published.

It saves looking. What is missed, because it could not be set up or was cut, is found by the next look.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any


class Ears:
    """What is published on some channels. It never raises."""

    def __init__(self, client: Any, *channels: str) -> None:
        self._client = client
        self._channels = channels
        self._pubsub: Any = None

    def open(self) -> bool:
        """Subscribe; True if that was not done yet: what was published before has to be looked for."""
        if self._pubsub is not None:
            return False
        with suppress(Exception):
            # the confirmation is a message too: ignored, it would look like the end of what has come
            pubsub = self._client.pubsub(ignore_subscribe_messages=False)
            pubsub.subscribe(*self._channels)
            self._pubsub = pubsub
            return True
        return False

    def heard(self) -> list[tuple[str, bytes]]:
        """Return channels and messages that came since the last call. If the subscription was cut, close."""
        came: list[tuple[str, bytes]] = []
        if self._pubsub is None:
            return came
        try:
            while message := self._pubsub.get_message(timeout=0):
                if message["type"] == "message":
                    came.append((message["channel"].decode("utf-8", "replace"), message["data"]))
        except Exception:  # redis-py's errors and those of a socket that is gone
            self.close()
        return came

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
