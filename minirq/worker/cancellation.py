"""How a running job, or a whole worker, is asked to stop.

1. Requests to stop are published, and the subscription receives them (and the names of queues in which a
   delayed job has become the earliest).
2. A publication may get lost, so the records of running jobs are looked up as well, once a beat.
3. A request is delivered to the process that has the run, which interrupts it (`Process.ask_to_stop`). If
   that does not help, the supervisor kills the process.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from minirq.connection.client import Sender
from minirq.protocol import commands, queries
from minirq.protocol.commands import StopRequest
from minirq.protocol.queries import Shutdown
from minirq.text import counted
from minirq.worker.scoreboard import Slot
from minirq.worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

#: records that are looked up in one round trip
_CHUNK = 500


class Subscription:
    """What is published on some channels. It never raises: what it misses is found by the next look-up."""

    def __init__(self, client: Any, *channels: str) -> None:
        self._client = client
        self._channels = channels
        self._pubsub: Any = None

    def open(self) -> bool:
        """Subscribe; True if that was not done yet: what was published before has to be looked up."""
        if self._pubsub is not None:
            return False
        with suppress(Exception):
            # the confirmation is a message too: ignored, it would look like the end of what has come
            pubsub = self._client.pubsub(ignore_subscribe_messages=False)
            pubsub.subscribe(*self._channels)
            self._pubsub = pubsub
            return True
        return False

    def received(self) -> list[tuple[str, bytes]]:
        """Return channels and messages that came since the last call. If the subscription was cut, close."""
        came: list[tuple[str, bytes]] = []
        try:
            while self._pubsub is not None and (message := self._pubsub.get_message(timeout=0)):
                if message["type"] == "message":
                    came.append((message["channel"].decode("utf-8", "replace"), message["data"]))
        except Exception:  # redis-py's errors and those of a socket that is gone
            self.close()
        return came

    def fileno(self) -> int | None:
        """The descriptor that becomes readable when there is a message; None while closed."""
        sock = getattr(getattr(self._pubsub, "connection", None), "_sock", None)
        return None if sock is None else int(sock.fileno())

    def close(self) -> None:
        """Unsubscribe; `open` subscribes again."""
        if self._pubsub is not None:
            with suppress(Exception):
                self._pubsub.close()
            self._pubsub = None


class StopRequests:
    """The requests to stop that concern one worker. `running` tells owners and slots of what runs in it."""

    def __init__(
        self, sender: Sender, settings: WorkerSettings, running: Callable[[], Iterable[tuple[str, Slot]]]
    ) -> None:
        self._sender = sender
        self._settings = settings
        self._running = running
        self._shutdowns: dict[bytes, Shutdown] = {
            queries.shutdown_message(settings.id, how): how for how in ("warm", "now")
        }
        self._pending: dict[StopRequest, float] = {}
        #: how the worker is asked to stop, None if it is not
        self.shutdown: Shutdown | None = None

    def receive(self, message: bytes) -> None:
        """Note what was published."""
        if message in self._shutdowns:
            self.shutdown = self._shutdowns[message]
        elif (request := commands.read_stop_request(message)) is not None:
            self._add(request)

    def look_up(self) -> float:
        """Look at the records of what has run for a while, younger runs are looked up next time: a task.

        Raises ServerUnavailable, ServerFault, AccessDenied.
        """
        settings, pause = self._settings, self._settings.beat
        latest = time.monotonic() - pause / 2
        runs = [(owner, slot) for owner, slot in self._running() if slot.started <= latest]
        for at in range(0, len(runs), _CHUNK):
            chunk = runs[at : at + _CHUNK]
            calls: list[Any] = [
                queries.is_asked_to_stop(settings.queue_keys[slot.queue], slot.id, slot.run)
                for _, slot in chunk
            ]
            for (owner, slot), is_asked in zip(chunk, self._sender.send_each(calls), strict=True):
                if is_asked is True:
                    self._add(StopRequest(owner, settings.queues[slot.queue], slot.id, slot.run))
        return pause

    def deliver(self, ask: Callable[[StopRequest], bool]) -> None:
        """Pass the requests on: `ask` asks the process that has the run to stop it, False if none has it.

        The run may be about to start, so the request is kept for a beat then. The same one may come again.
        """
        for request, until in list(self._pending.items()):
            if ask(request) or time.monotonic() >= until:
                del self._pending[request]

    @property
    def has_pending(self) -> bool:
        """Whether there are requests that no process could be asked for yet."""
        return bool(self._pending)

    def _add(self, request: StopRequest) -> None:
        self._pending.setdefault(request, time.monotonic() + self._settings.beat)


def log_stopping(settings: WorkerSettings) -> None:
    """Log that a worker stops, and how long its jobs may go on."""
    seconds = settings.stop_seconds
    logger.info(
        "stopping: no new jobs are started, running ones %s",
        "may end" if seconds == math.inf else f"have {seconds:g} s to end",
    )


def log_stopped(settings: WorkerSettings, done: int, failed: int) -> None:
    """Log that a worker has stopped, how many runs have ended in it, and how many of them failed."""
    logger.info("worker %s stopped: %s, %d failed", settings.name, counted(done, "run", "runs"), failed)
