"""All that a process sends to Redis about jobs: claims, outcomes, waits. A link acts for one owner at a time.

While Redis is unreachable it sends again, and each call acts once. The reply of the blocking wait is not
trusted: the claim that follows every wait finds what BLMOVE brought, also to a connection that was cut.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, TypeVar

from minirq.backoff import Backoff
from minirq.connection.client import Sender
from minirq.connection.connect import derive, open_sockets
from minirq.exceptions import MinirqError, QueueFull, ServerFault, ServerUnavailable
from minirq.protocol import commands, queries
from minirq.protocol.commands import Call, Claim, Claimed, Settled, Settlement
from minirq.protocol.payload import Payload
from minirq.protocol.submission import record_fields
from minirq.worker.job_log import log_set_aside
from minirq.worker.scoreboard import Scoreboard
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis


logger = logging.getLogger(__name__)


class Outage:
    """Logs once that Redis is unreachable, and that it is back. With `is_quiet` somebody else does.

    After `limit` seconds it raises ServerUnavailable.
    """

    def __init__(self, *, is_quiet: bool = False, limit: float = inf) -> None:
        self._level = logging.DEBUG if is_quiet else logging.WARNING
        self._backoff = Backoff()
        self._is_fault_logged = False
        self._limit = limit

    def failed(self, error: MinirqError) -> float:
        """Note a failure; return the seconds until the next attempt. At the limit, raise it."""
        lasted = self._backoff.lasted
        if isinstance(error, ServerFault):
            if not self._is_fault_logged:  # only who sent this call knows of it
                self._is_fault_logged = True
                logger.error("%s; it is sent again until that is mended", error)
        elif lasted is None:
            logger.log(self._level, "%s; waiting for it", error)
        if (lasted or 0) >= self._limit and isinstance(error, ServerUnavailable):
            raise ServerUnavailable(f"{error}; a burst waits for {self._limit:g} s") from error
        return self._backoff.failed()

    def succeeded(self) -> bool:
        """Note that it works; return whether that ends an outage."""
        lasted = self._backoff.lasted
        if lasted is None:
            return False
        logger.log(self._level, "Redis is back after %.1f s", lasted)
        self._is_fault_logged = False
        self._backoff.succeeded()
        return True


T = TypeVar("T")

#: seconds on a clock that goes on while the host sleeps; Linux has one for that
boottime: Callable[[], float] = (
    partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    if hasattr(time, "clock_gettime")
    else time.monotonic
)

#: longest answer to a script, seconds; a blocking wait is given its own time on top
REPLY_TIMEOUT = 5.0
#: jobs that one promote moves
_MOST_AT_ONCE = 200
#: how long a worker waits before it asks a paused queue again, at most
_PAUSED_LOOK = 5.0


class Link:
    """An owner's way to Redis: `settle` jobs and claim the next ones, `wait` when there are none.

    Raises AccessDenied, and ServerUnavailable after `limit` seconds; it waits until any other error is over.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: WorkerSettings,
        owner: str,
        board: Scoreboard,
        *,
        limit: float = inf,
    ) -> None:
        self.owner = owner
        #: when the last claim was sent (`boottime`)
        self.claimed_at = self._sent_at = 0.0
        self._board = board
        self._settings = settings
        self._queues = settings.queue_keys
        self._sender = Sender(derive(client, socket_timeout=REPLY_TIMEOUT), patience=0)
        self._blocking = Sender(derive(client, socket_timeout=settings.block + 2), patience=0)
        self._outage = Outage(is_quiet=True, limit=limit)
        # of its own: a claim may succeed while every wait fails
        self._wait_outage = Outage(is_quiet=True, limit=limit)
        #: in a burst, by queue: ids that were parked for a worker that knows their function
        self._given_back: dict[int, list[str]] = {}
        #: held around every call: who decides from shared state what to send holds it from there on
        self.lock = threading.RLock()

    def settle(
        self,
        settlements: Sequence[Settlement],
        *,
        want: int,
        in_hand: Iterable[tuple[int, str]] = (),
        company: str = "",
    ) -> Settled:
        """Settle outcomes and claim up to `want` jobs, in one round trip. Sent until the answer is known."""
        call = commands.finish(
            self._queues, self.owner, settlements, want=want, in_hand=in_hand, company=company
        )
        with self.lock:
            settled = self._persist(call)
            if want:
                self.claimed_at = self._sent_at
        if settled.aside:
            log_set_aside(settled.aside)
        if self._settings.is_burst:
            for settlement in settlements:
                if settlement.verb == "miss":
                    self._given_back.setdefault(settlement.queue, []).append(settlement.id)
        return settled

    def introduce(self, job: Claimed, envelope: Payload) -> None:
        """Write what a script may have to decide on into the record of a job that came without one."""
        fields = record_fields(envelope.function, envelope.serializer, envelope.options)
        with self.lock:
            self._persist(commands.note(self._queues[job.queue], job.id, fields, run=job.run))

    def wait(self, claim: Claim) -> None:
        """Block after a claim that brought nothing, `block` seconds at most, until there may be a job.

        Claim afterwards in any case. A paused queue is never waited for on its list, but on its bell.
        """
        block = self._settings.block
        if claim.state == "paused":
            call = queries.wait_for_bell(self._queues, min(block, claim.pause or _PAUSED_LOOK, _PAUSED_LOOK))
        elif len(self._queues) == 1:
            call = queries.take_one(self._queues[0], self.owner, block)
            self._board.wait_begins()
        else:  # a bell moves no job
            call = queries.wait_for_bell(self._queues, block)
        try:
            self._blocking.send(call)
        except (ServerUnavailable, ServerFault, QueueFull) as error:
            self._board.wait_ends(self._settings.linger)
            time.sleep(self._wait_outage.failed(error))
        else:
            self._board.wait_ends()
            self._wait_outage.succeeded()

    def sockets(self) -> Iterator[socket.socket]:
        """The sockets that are open now."""
        for sender in (self._sender, self._blocking):
            yield from open_sockets(sender.client)

    def close(self) -> None:
        """Close the connections. A burst puts back into the queue what others may know how to run."""
        given_back, self._given_back = self._given_back, {}
        try:
            for queue, ids in given_back.items():
                for first in range(0, len(ids), _MOST_AT_ONCE):
                    part = ids[first : first + _MOST_AT_ONCE]
                    self._sender.send(commands.promote(self._queues[queue], missed=part))
        except MinirqError as error:  # they are due a few seconds later
            logger.debug("jobs were not put back early: %s", error)
        for sender in (self._sender, self._blocking):
            sender.client.close()

    def _persist(self, call: Call[T]) -> T:
        while True:
            self._sent_at = boottime()
            try:
                reply = self._sender.send(call)
            except (ServerUnavailable, ServerFault) as error:
                self._board.set_failing(isinstance(error, ServerFault))
                time.sleep(self._outage.failed(error))
            else:
                if self._outage.succeeded():
                    self._board.set_failing(False)
                return reply
