"""Ears: a subscription on which delayed jobs that became the earliest, and requests to stop, are published.

It saves looking. What is missed, because it could not be set up or was cut, is found by the next look.

Stops: which of a worker's running jobs are asked to stop, or the worker itself, as far as Redis says.

Requests are heard where they are published, and looked for once in a while in the records of what runs: a
publication may get lost. It knows no processes; whoever has them takes the requests.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from minirq.connection.client import Sender
from minirq.protocol import commands, queries
from minirq.protocol.commands import StopRequest
from minirq.protocol.queries import Shutdown
from minirq.text import counted
from minirq.worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


class Subscription:
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


#: records that are looked at in one round trip
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class RunUnderWay:
    """A run that is under way since `started` (monotonic)."""

    owner: str
    queue: int
    id: str
    run: int
    started: float


class StopRequests:
    """Collects stop requests of the runs that `running` names. A look comes with every beat."""

    def __init__(self, sender: Sender, settings: WorkerSettings) -> None:
        self._sender = sender
        self._settings = settings
        self._pause = settings.beat
        self._shutdowns: dict[bytes, Shutdown] = {
            queries.shutdown_message(settings.id, how): how for how in ("warm", "now")
        }
        self._came: list[StopRequest] = []
        self.next_look = 0.0
        #: what runs: whoever knows sets it
        self.running: Callable[[], list[RunUnderWay]] = list
        #: how the worker is asked to stop, None if it is not
        self.shutdown: Shutdown | None = None

    def hear(self, message: bytes) -> None:
        """Take what was published."""
        if message in self._shutdowns:
            self.shutdown = self._shutdowns[message]
            return
        request = commands.read_stop_request(message)
        if request is not None:
            self._came.append(request)

    def look(self) -> None:
        """Look at the records of what has run for a while: what came later was heard or is found next time.

        Raises ServerUnavailable, ServerFault, AccessDenied.
        """
        now = time.monotonic()
        self.next_look = now + self._pause
        held = [one for one in self.running() if now - one.started >= self._pause / 2]
        for at in range(0, len(held), _CHUNK):
            chunk = held[at : at + _CHUNK]
            queues = self._settings.queue_keys
            calls: list[Any] = [queries.is_asked_to_stop(queues[one.queue], one.id, one.run) for one in chunk]
            for one, is_asked in zip(chunk, self._sender.send_each(calls), strict=True):
                if is_asked is True:
                    queue = self._settings.queues[one.queue]
                    self._came.append(StopRequest(one.owner, queue, one.id, one.run))

    def taken(self) -> list[StopRequest]:
        """Return the requests that came since the last call; the same one may come again."""
        came, self._came = self._came, []
        return came


def log_stopping(settings: WorkerSettings) -> None:
    """Say that a worker stops, and how long its jobs may go on."""
    seconds = settings.stop_seconds
    logger.info(
        "stopping: no new jobs are started, running ones %s",
        "may end" if seconds == math.inf else f"have {seconds:g} s to end",
    )


def log_stopped(settings: WorkerSettings, done: int, failed: int) -> None:
    """Say that a worker has stopped, how many runs have ended in it, and how many of them failed."""
    logger.info("worker %s stopped: %s, %d failed", settings.name, counted(done, "run", "runs"), failed)
