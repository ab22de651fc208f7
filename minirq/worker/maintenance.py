"""The sign at the door: what people get to see of a worker. Nothing decides on it.

The chores: beats, delayed jobs, and the jobs of the dead. `tick()` does what is due.

Chores know time and Redis, and nothing of processes. They never raise for a server that is away: what
could not be said is said at a later tick. Only AccessDenied is fatal.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from minirq.connection.client import Sender
from minirq.connection.connect import derive, open_sockets
from minirq.exceptions import MinirqError, QueueFull, ServerFault, ServerUnavailable
from minirq.protocol import commands, queries
from minirq.protocol.defaults import MANY_FAILED
from minirq.text import safe_text, shell_word
from minirq.worker import process
from minirq.worker.cancellation import StopRequests, Subscription
from minirq.worker.fleet import QUEUES_EVERY, Fleet
from minirq.worker.job_log import log_set_aside
from minirq.worker.link import Outage
from minirq.worker.recovery import DeadOwner, GivenUp, QueueCalls, Recovery, log_taken_back
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis


logger = logging.getLogger(__name__)

#: beats after which all of it is said again though nothing has changed
_AGAIN_AFTER = 2.5
#: which queues there are and are served is said at this pace, seconds
_NAMES_EVERY = 30.0


class WorkerStatus:
    """What a worker says about itself with its beats."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._started = time.time()
        self._shown: dict[str, str | int | float] = {}
        self._next = self._next_names = 0.0

    def calls(self, report: dict[str, Any], now: float, server_ms: float) -> list[Any]:
        """What is to be said now, `server_ms`: all of it when something has changed, or some beats later."""
        portrait = self._portrait(report)
        if portrait == self._shown and now < self._next:
            return []
        settings = self._settings
        self._shown = portrait
        self._next = now + _AGAIN_AFTER * settings.beat
        ttl = settings.lease * 2
        # workers of other queues need not look after these as long as this one does
        others_from_ms = int(server_ms + max(QUEUES_EVERY, settings.lease) * 1000)
        calls = [
            *queries.show_worker(settings.keys, settings.id, portrait, now_ms=int(server_ms), ttl=ttl),
            queries.maintain_from(settings.keys, settings.queues, others_from_ms),
        ]
        if now >= self._next_names:
            self._next_names = now + _NAMES_EVERY
            calls.append(queries.know_queues(settings.keys, settings.queues))
            calls.append(queries.note_served(settings.keys, settings.queues, int(server_ms)))
        return calls

    def _portrait(self, report: dict[str, Any]) -> dict[str, str | int | float]:
        return {
            "name": self._settings.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": json.dumps(list(self._settings.queues)),
            "started": self._started,
            **{name: json.dumps(value) for name, value in report.items()},
        }


#: longest that one request of the chores may take; their process has others to look after, seconds
REPLY_TIMEOUT = 2.0
#: the indexes of ended jobs are trimmed at this pace, seconds
TRIM_EVERY = 60.0
#: a lease is looked at so long after its end, so that the look does not come too early, seconds
_SWEEP_SLACK = 0.05
#: pause between the calls of what is too much for one, seconds
_MORE_PAUSE = 0.05
#: the portrait is drawn again so long after a process was registered, seconds
_FIRST_LOOK = 0.2


class Maintenance:
    """The chores of one worker. `owners` are kept alive; add with `register`, end with `bury`."""

    def __init__(self, client: redis.Redis, settings: WorkerSettings) -> None:
        self._settings = settings
        self._keys = settings.keys
        self._queues = settings.queue_keys
        self._sender = Sender(derive(client, socket_timeout=REPLY_TIMEOUT), patience=0)
        self._ears_client = derive(client, socket_timeout=REPLY_TIMEOUT)
        self._ears = Subscription(self._ears_client, self._keys.chores, self._keys.stops)
        self.stops = StopRequests(self._sender, settings)
        self._outage = Outage(limit=settings.patience)
        self._owners: set[str] = set()
        self._new: set[str] = set()
        self._rounds = QueueCalls(self._sender)
        self._burials = Recovery(self._sender, self._rounds, settings)
        self._fleet = Fleet(self._sender, self._keys, settings.lease, self._look_after)
        #: when delayed jobs have to be promoted, in the queues in which this worker does that
        self._due: dict[str, float] = {}
        #: when their indexes of ended jobs are trimmed
        self._trims = dict.fromkeys(settings.queues, 0.0)
        self._next_beat = 0.0
        self._next_sweep = inf
        self._crowded: set[str] = set()
        self._sign = WorkerStatus(settings)
        self._retry_at = 0.0
        self._last_beat = 0.0
        #: which owners have held something at each beat, and since when
        self._held_since: dict[str, float] = {}
        self._clock: tuple[float, float] | None = None
        self._steady_since: float | None = None
        #: what people shall see of this worker: drawn at each beat
        self.report: Callable[[], dict[str, Any]] = dict

    # --- owners -------------------------------------------------------------------------------

    def register(self, *owners: str) -> bool:
        """Register owners at once, so that they may claim. False: Redis is away, try again later."""
        self._new.update(owners)
        self._next_beat = 0.0
        is_registered = self._guarded(self._beat) and self._owners.issuperset(owners)
        # people see a new process soon
        self._next_beat = min(self._next_beat, time.monotonic() + _FIRST_LOOK)
        return is_registered

    def bury(self, burial: DeadOwner) -> None:
        """Take back what dead owners hold, now or as soon as Redis can be reached."""
        self._owners.difference_update(burial.owners)
        self._new.difference_update(burial.owners)
        self._burials.add(burial)
        self._retry_at = 0.0

    def judge(self, verdict: GivenUp) -> None:
        """Settle a run that was given up, now or as soon as Redis can be reached; before what follows."""
        self._burials.add(verdict)
        self._retry_at = 0.0

    @property
    def has_burials(self) -> bool:
        """Whether something has not been settled or taken back yet."""
        return len(self._burials) > 0

    def show_soon(self) -> None:
        """Have people see at once what has changed. Callable from any thread."""
        self._next_beat = 0.0

    def held_for(self, owners: Iterable[str]) -> float:
        """For how long one of these owners has held something at each beat."""
        since = min((self._held_since.get(owner, inf) for owner in owners), default=inf)
        return self._last_beat - since

    # --- time ---------------------------------------------------------------------------------

    def tick(self) -> tuple[float, set[str]]:
        """Do what is due. Return the seconds until the next tick, and the owners that were lost."""
        now = time.monotonic()
        lost: set[str] = set()
        if now >= self._retry_at:
            self._guarded(lambda: self._all_due(lost))
        now = time.monotonic()
        times = [self._next_beat, self._sweep_at, self._fleet_at, self.stops.next_look]
        times += (min(due, self._trims[name]) for name, due in self._due.items())
        soonest = max(min(times), self._retry_at)
        return max(soonest - now, 0.0), lost

    def hurry(self) -> None:
        """Hear what was published: delayed jobs that became the earliest, runs that are asked to stop.

        For when `fileno` is readable.
        """
        for channel, message in self._ears.heard():
            if channel == self._keys.stops:
                self.stops.hear(message)
            elif (name := message.decode("utf-8", "replace")) in self._due:
                self._due[name] = 0.0

    def fileno(self) -> int | None:
        """The descriptor that becomes readable when `hurry` should be called; None while there is none."""
        return self._ears.fileno()

    def _guarded(self, chore: Any) -> bool:
        try:
            chore()
        except (ServerUnavailable, ServerFault, QueueFull) as error:
            self._steady_since = None
            self._held_since = {}
            self._ears.close()
            self._retry_at = time.monotonic() + self._outage.failed(error)
            return False
        self._outage.succeeded()
        return True

    def _all_due(self, lost: set[str]) -> None:
        now = time.monotonic()
        self._burials.hold()
        if now >= self._next_beat:
            lost |= self._beat()
        if self._ears.open():
            self._due.update(dict.fromkeys(self._due, 0.0))
            self.stops.next_look = 0.0
        if now >= self.stops.next_look:
            self.stops.look()
        if now >= self._sweep_at:
            self._next_sweep = inf
            if self._sweep(self._settings.queues):
                self._next_sweep = now + _MORE_PAUSE
        self._promote(now)
        if now >= self._fleet_at:
            now = time.monotonic()
            self._fleet.turn(now, int(self._server_now(now) or 0), self._owners)

    # --- the chores themselves ----------------------------------------------------------------

    def _beat(self) -> set[str]:
        """Renew the leases, and say who is here. Returns the owners that were lost meanwhile."""
        now = time.monotonic()
        settings = self._settings
        owners, new = sorted(self._owners), sorted(self._new)
        beat: Any = commands.beat(self._queues, owners, lease=settings.lease, worker=settings.id, new=new)
        now_ms = self._server_now(now)
        if now_ms is None:  # who is shown without a time looks long gone
            now_ms = self._sender.send(queries.server_time())
        shown = self._sign.calls(self.report(), now, now_ms)
        # what people see can wait, for memory too
        reply, shutdown, *_ = self._sender.send_each(
            [beat, queries.shutdown_asked(self._keys, settings.id), *shown]
        )
        if isinstance(reply, MinirqError):
            raise reply
        if not isinstance(shutdown, MinirqError):
            self.stops.shutdown = shutdown or self.stops.shutdown
        self._note_time(reply.now_ms, now)
        self._next_beat = now + settings.beat
        if reply.sweep_in is not None:
            self._next_sweep = min(self._next_sweep, now + reply.sweep_in + _SWEEP_SLACK)
        self._held_since = {owner: self._held_since.get(owner, now) for owner in reply.holding}
        now = time.monotonic()
        self._due = {
            name: now + wait
            for name, wait in zip(settings.queues, reply.promote_in, strict=True)
            if wait is not None
        }
        self._owners |= self._new
        self._new.clear()
        self._owners -= reply.lost
        return set(reply.lost)

    def _note_time(self, now_ms: float, now: float) -> None:
        """Note since when every beat has come on time and agreed with the server's clock."""
        expected = self._server_now(now)
        late = now - self._last_beat > 2 * self._settings.beat
        jumped = expected is not None and abs(expected - now_ms) > self._settings.beat * 1000
        if self._steady_since is None or late or jumped:
            self._steady_since = now
        self._last_beat = now
        self._clock = (now_ms, now)

    def _server_now(self, now: float) -> float | None:
        return None if self._clock is None else self._clock[0] + (now - self._clock[1]) * 1000

    @property
    def _steady_at(self) -> float:
        # after an outage or a stall everybody's lease has run out: first let everybody beat again
        since = self._steady_since
        return inf if since is None else since + 2 * self._settings.beat

    @property
    def _is_steady(self) -> bool:
        return time.monotonic() >= self._steady_at

    @property
    def _sweep_at(self) -> float:
        return max(self._next_sweep, self._steady_at)

    @property
    def _fleet_at(self) -> float:
        return max(self._fleet.next_turn, self._steady_at)

    def _sweep(self, names: Any) -> list[str]:
        """Take back the jobs of the dead. Returns the queues in which there is more to do."""
        now_ms = self._server_now(time.monotonic())
        assert now_ms is not None
        silence = process.of_silence()
        proof = silence.encode()
        calls = [
            commands.sweep(
                self._keys.of(name),
                now_ms=now_ms,
                tolerance=self._settings.beat,
                evidence=proof,
                lease=self._settings.lease,
                pause=self._settings.loss_pause,
                linger=self._settings.linger,
            )
            for name in names
        ]
        unfinished = []
        for name, swept in self._rounds.make("sweep", names, calls):
            if swept.is_refused:
                logger.info(
                    "queue %s: leases prove nothing right now, the server's clock or answer was off", name
                )
                self._steady_since = None
            log_taken_back(name, swept.taken, silence)
            if swept.is_more:
                unfinished.append(name)
        return unfinished

    def _promote(self, now: float) -> None:
        """Promote what is due, and now and then trim the indexes of ended jobs."""
        names = [name for name, due in self._due.items() if now >= min(due, self._trims[name])]
        trimmed = {name for name in names if now >= self._trims[name]}
        self._due.update(dict.fromkeys(names, inf))
        self._trims.update(dict.fromkeys(trimmed, now + TRIM_EVERY))
        calls = [commands.promote(self._keys.of(name), trim=name in trimmed) for name in names]
        for name, promoted in self._rounds.make("promote", names, calls):
            log_set_aside(promoted.aside)
            if promoted.is_more:
                self._trims[name] = now + _MORE_PAUSE
            if promoted.failed is not None:
                self._count_failed(name, promoted.failed)
            if promoted.next_in is not None:
                self._due[name] = time.monotonic() + promoted.next_in

    def _look_after(self, names: list[str]) -> list[str]:
        """Do for queues of others what is due there. Returns those in which there is more to do."""
        calls = [commands.promote(self._keys.of(name), trim=True) for name in names]
        promoted = dict(self._rounds.make("promote", names, calls))
        for reply in promoted.values():
            log_set_aside(reply.aside)
        due = [name for name, reply in promoted.items() if reply.is_sweep_due]
        unfinished = self._sweep(due) if due else []
        return unfinished + [name for name, reply in promoted.items() if reply.is_more or reply.next_in == 0]

    def _count_failed(self, queue: str, count: int) -> None:
        """Complain once when a queue has very many failed jobs."""
        if count < MANY_FAILED:
            self._crowded.discard(queue)
        elif queue not in self._crowded:
            self._crowded.add(queue)
            logger.error(
                "queue %s has %s failed jobs, which are kept until their failure_ttl is over:"
                " run them again with `minirq requeue`, or delete them with `minirq empty %s --failed`",
                safe_text(queue), f"{count:,}", shell_word(queue, "QUEUE"),
            )  # fmt: skip

    def held_by(self, owner: str, queue: int, job_id: str) -> tuple[bytes | None, int, int]:
        """Return the payload of a job that an owner holds, its attempts and losses. Raises MinirqError."""
        keys = self._queues[queue]
        record = self._sender.send(queries.record(keys, job_id))
        raw = self._sender.run(queries.find_held(keys, job_id, owner))
        return raw, record.attempts if record else 0, record.lost if record else 0

    def farewell(self) -> None:
        """Say goodbye: what is left to bury, then the worker leaves the list. One attempt."""
        with suppress(MinirqError):
            self._burials.hold()
            promoted = [queries.no_promoter(self._keys.of(name)) for name in self._due]
            self._sender.send_all([*queries.hide_worker(self._keys, self._settings.id), *promoted])

    def close(self) -> None:
        """Close the connections."""
        self._ears.close()
        self._sender.client.close()
        self._ears_client.close()

    def abandon(self) -> None:
        """In a forked process: close the copies of the connections."""
        for client in (self._sender.client, self._ears_client):
            for sock in open_sockets(client):
                sock.close()
