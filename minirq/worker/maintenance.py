"""What a worker does beside running jobs: a list of tasks, each of which returns when its next turn is.

    task            does                                                            next turn
    recover         settles and takes back what ended badly in this worker          when something is reported
    heartbeat       renews leases, registers owners, shows the worker to people     a beat later
    subscribe       opens the subscription to stop requests and delayed jobs        when it was cut
    look up         looks whether running jobs are asked to stop                    a beat later
    promote         moves due jobs into the queues in which this worker does that   when the next job is due
    trim            trims the indexes of ended jobs of these queues                 a minute later
    sweep           takes back the jobs of owners whose lease has run out           when a heartbeat finds one
    fleet's tasks   the same for queues without workers of their own                see fleet.py

`Maintenance.tick` does what is due. It knows time and Redis, and nothing of processes. While Redis is
unreachable or answers with errors, it tries again later; it raises only AccessDenied and, in a burst,
ServerUnavailable.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from minirq.connection.client import Sender
from minirq.connection.connect import derive, open_sockets
from minirq.exceptions import MinirqError, QueueFull, ServerFault, ServerUnavailable
from minirq.protocol import commands, queries
from minirq.protocol.defaults import MANY_FAILED
from minirq.text import safe_text, shell_word
from minirq.worker.cancellation import StopRequests, Subscription
from minirq.worker.fleet import QUEUES_EVERY, Fleet
from minirq.worker.job_log import log_set_aside
from minirq.worker.link import Outage
from minirq.worker.recovery import AbandonedRun, DeadProcess, QueueCalls, Recovery
from minirq.worker.scoreboard import Scoreboard, Slot, busiest
from minirq.worker.settings import WorkerSettings
from minirq.worker.tasks import ServerClock, Task

if TYPE_CHECKING:
    import redis

logger = logging.getLogger(__name__)

#: longest that one request may take: the process has children to look after, seconds
REPLY_TIMEOUT = 2.0
#: the indexes of ended jobs are trimmed at this pace, seconds
TRIM_EVERY = 60.0
#: a lease is looked at this long after its end, so that the look does not come too early, seconds
_SWEEP_SLACK = 0.05
#: pause between the calls of what is too much for one, seconds
_MORE_PAUSE = 0.05
#: people see a new process this long after it was registered, seconds
_FIRST_LOOK = 0.2
#: beats after which the worker's status is written again though nothing has changed
_AGAIN_AFTER = 2.5
#: the names of the worker's queues are written at this pace, seconds
_NAMES_EVERY = 30.0

Status = dict[str, Any]


class Maintenance:
    """The tasks of one worker. `register` owners, and their leases are renewed until they are reported dead.

    `status` returns what people see of the worker (`worker_status`), `running` owners and slots of its runs.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: WorkerSettings,
        status: Callable[[], Status] = dict,
        running: Callable[[], Iterable[tuple[str, Slot]]] = list,
    ) -> None:
        self._settings = settings
        self._keys = settings.keys
        self._sender = Sender(derive(client, socket_timeout=REPLY_TIMEOUT), patience=0)
        self._subscriber = derive(client, socket_timeout=REPLY_TIMEOUT)
        self._subscription = Subscription(self._subscriber, self._keys.chores, self._keys.stops)
        self.stops = StopRequests(self._sender, settings, running)
        self._status = _ShownStatus(settings, status)
        self._outage = Outage(limit=settings.patience)
        self._clock = ServerClock(settings.beat)
        self._calls = QueueCalls(self._sender)
        self._recovery = Recovery(self._calls, self._clock, settings)
        self._owners: set[str] = set()
        self._new: set[str] = set()
        self._lost: set[str] = set()
        #: which owners have held something at each beat, and since when
        self._held_since: dict[str, float] = {}
        #: when delayed jobs have to be promoted, in the queues in which this worker does that
        self._due: dict[str, float] = {}
        self._untrimmed: list[str] = []
        self._crowded: set[str] = set()
        self._retry_at = 0.0

        self._recover = Task(self._recovery.run)
        self._heartbeat = Task(self._beat)
        self._subscribe = Task(self._open_subscription)
        self._look_up = Task(self.stops.look_up)
        self._promotion = Task(self._promote)
        self._trimming = Task(self._trim)
        self._sweep = Task(self._sweep_own, due=inf, for_others=True)
        self._fleet = Fleet(self._calls, self._recovery, settings, self._owners)
        self._tasks = [
            self._recover, self._heartbeat, self._subscribe, self._look_up, self._promotion, self._trimming,
            self._sweep, *self._fleet.tasks,
        ]  # fmt: skip

    # --- the list -----------------------------------------------------------------------------

    def tick(self) -> tuple[float, set[str]]:
        """Do what is due. Return the seconds until the next tick, and the owners whose lease was lost."""
        if time.monotonic() >= self._retry_at:
            self._guarded(self._do_what_is_due)
        lost, self._lost = self._lost, set()
        soonest = max(min(map(self._turn_at, self._tasks)), self._retry_at)
        return max(soonest - time.monotonic(), 0.0), lost

    def _do_what_is_due(self) -> None:
        for task in self._tasks:
            if time.monotonic() >= self._turn_at(task):
                task.turn()

    def _turn_at(self, task: Task) -> float:
        return max(task.due, self._clock.steady_at) if task.for_others else task.due

    def _guarded(self, act: Callable[[], None]) -> bool:
        """Act; False if Redis is unreachable or answers with an error: then all tasks have a pause."""
        try:
            act()
        except (ServerUnavailable, ServerFault, QueueFull) as error:
            self._clock.distrust()
            self._held_since = {}
            self._close_subscription()
            self._retry_at = time.monotonic() + self._outage.failed(error)
            return False
        self._outage.succeeded()
        self._retry_at = 0.0  # a new owner must not wait for its next beat until the pause is over
        return True

    # --- what the worker asks for -------------------------------------------------------------

    def register(self, *owners: str) -> bool:
        """Register owners at once, so that they may claim. False: Redis is unreachable, try again later."""
        self._new.update(owners)
        is_registered = self._guarded(self._heartbeat.turn) and self._owners.issuperset(owners)
        # people see a new process soon
        self._heartbeat.due = min(self._heartbeat.due, time.monotonic() + _FIRST_LOOK)
        return is_registered

    def recover(self, report: DeadProcess | AbandonedRun) -> None:
        """Settle a run or take back the jobs of a dead process, as soon as Redis can be reached."""
        if isinstance(report, DeadProcess):
            self._owners.difference_update(report.owners)
            self._new.difference_update(report.owners)
        self._recovery.add(report)
        self._recover.due = self._retry_at = 0.0

    @property
    def is_recovering(self) -> bool:
        """Whether something has not been settled or taken back yet."""
        return len(self._recovery) > 0

    def beat_soon(self) -> None:
        """Have the next heartbeat now, to show people what has changed. Callable from any thread."""
        self._heartbeat.due = 0.0

    def held_for(self, owners: Iterable[str]) -> float:
        """For how long one of these owners has held something at each beat."""
        since = min((self._held_since.get(owner, inf) for owner in owners), default=inf)
        return (self._clock.noted_at or 0.0) - since

    def fileno(self) -> int | None:
        """The descriptor that becomes readable when `receive` should be called; None while there is none."""
        return self._subscription.fileno()

    def receive(self) -> None:
        """Read what was published: delayed jobs that became the earliest, requests to stop."""
        for channel, message in self._subscription.received():
            if channel == self._keys.stops:
                self.stops.receive(message)
            elif (name := message.decode("utf-8", "replace")) in self._due:
                self._due[name] = self._promotion.due = 0.0
        if self._subscription.fileno() is None:
            self._subscribe.due = 0.0

    # --- heartbeat ----------------------------------------------------------------------------

    def _beat(self) -> float:
        """Renew the leases, and show people the worker."""
        now, settings = time.monotonic(), self._settings
        beat: Any = commands.beat(
            settings.queue_keys, sorted(self._owners), lease=settings.lease, worker=settings.id,
            new=sorted(self._new),
        )  # fmt: skip
        if self._clock.noted_at is None:  # a worker that is shown without a time looks long gone
            now_ms: float = self._sender.send(queries.server_time())
        else:
            now_ms = self._clock.at(now)
        # what people see can wait, for memory too
        reply, shutdown, *_ = self._sender.send_each(
            [beat, queries.shutdown_asked(self._keys, settings.id), *self._status.calls(now, int(now_ms))]
        )
        if isinstance(reply, MinirqError):
            raise reply
        if not isinstance(shutdown, MinirqError):
            self.stops.shutdown = shutdown or self.stops.shutdown
        self._clock.note(reply.now_ms, now)
        self._held_since = {owner: self._held_since.get(owner, now) for owner in reply.holding}
        self._owners |= self._new
        self._new.clear()
        self._owners -= reply.lost
        self._lost |= reply.lost
        if reply.sweep_in is not None:
            self._sweep.due = min(self._sweep.due, now + reply.sweep_in + _SWEEP_SLACK)
        answered = time.monotonic()
        looked_after = self._due
        self._due = {
            name: answered + wait
            for name, wait in zip(settings.queues, reply.promote_in, strict=True)
            if wait is not None
        }
        if self._due.keys() - looked_after.keys():  # another worker trimmed these until now
            self._trimming.due = 0.0
        self._promotion.due = self._next_due
        return now + settings.beat - answered

    # --- stop requests ------------------------------------------------------------------------

    def _open_subscription(self) -> float:
        if self._subscription.open():  # what was published before has to be looked up
            self._due = dict.fromkeys(self._due, 0.0)
            self._promotion.due = self._look_up.due = 0.0
            return inf
        return self._settings.beat

    def _close_subscription(self) -> None:
        self._subscription.close()
        self._subscribe.due = 0.0

    # --- delayed and ended jobs ---------------------------------------------------------------

    def _promote(self) -> float:
        now = time.monotonic()
        self._promote_in([name for name, due in self._due.items() if now >= due])
        return self._next_due - time.monotonic()

    def _trim(self) -> float:
        self._untrimmed = self._promote_in(self._untrimmed or list(self._due), trim=True)
        self._promotion.due = self._next_due
        return _MORE_PAUSE if self._untrimmed else TRIM_EVERY

    @property
    def _next_due(self) -> float:
        return min(self._due.values(), default=inf)

    def _promote_in(self, names: Sequence[str], *, trim: bool = False) -> list[str]:
        """Promote what is due in these queues. Returns those in which there is more to trim."""
        self._due.update(dict.fromkeys(names, inf))
        calls = [commands.promote(self._keys.of(name), trim=trim) for name in names]
        untrimmed = []
        for name, promoted in self._calls.send("promote", names, calls):
            log_set_aside(promoted.aside)
            if promoted.failed is not None:
                self._count_failed(name, promoted.failed)
            if promoted.next_in is not None:
                self._due[name] = time.monotonic() + promoted.next_in
            if promoted.is_more:
                untrimmed.append(name)
        return untrimmed

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

    def _sweep_own(self) -> float:
        return _MORE_PAUSE if self._recovery.sweep(self._settings.queues) else inf

    # --- the end ------------------------------------------------------------------------------

    def farewell(self) -> None:
        """Recover what is left, then leave the list of workers. One attempt."""
        with suppress(MinirqError):
            self._recovery.run()
            promoted = [queries.no_promoter(self._keys.of(name)) for name in self._due]
            self._sender.send_all([*queries.hide_worker(self._keys, self._settings.id), *promoted])

    def close(self) -> None:
        """Close the connections."""
        self._subscription.close()
        self._sender.client.close()
        self._subscriber.close()

    def abandon(self) -> None:
        """In a forked process: close the copies of the connections."""
        for client in (self._sender.client, self._subscriber):
            for sock in open_sockets(client):
                sock.close()


# --- what people see --------------------------------------------------------------------------


def worker_status(
    settings: WorkerSettings, boards: Mapping[int, Scoreboard], counts: tuple[int, int], stopping_since: float
) -> Status:
    """Return what people see of a worker with these processes, from their boards by pid."""
    slots = [slot for board in boards.values() for slot in board.running()]
    return {
        "processes": list(boards),
        "concurrency": settings.concurrency,
        "running": len(slots),
        "busy": busiest(slots, settings.queues),
        "done": counts[0],
        "failed": counts[1],
        "failing": sum(board.is_failing for board in boards.values()),
        "stopping": stopping_since,
    }


class _ShownStatus:
    """The worker's public status, written with its heartbeats. For display only."""

    def __init__(self, settings: WorkerSettings, status: Callable[[], Status]) -> None:
        self._settings = settings
        self._status = status
        self._constant: dict[str, str | int | float] = {
            "name": settings.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": json.dumps(list(settings.queues)),
            "started": time.time(),
        }
        self._shown: dict[str, str | int | float] = {}
        self._written_at = self._names_at = -inf

    def calls(self, now: float, server_ms: int) -> list[Any]:
        """What to write now: all of it when something has changed, or some beats later."""
        settings = self._settings
        fields = self._constant | {name: json.dumps(value) for name, value in self._status().items()}
        if fields == self._shown and now < self._written_at + _AGAIN_AFTER * settings.beat:
            return []
        self._shown, self._written_at = fields, now
        # workers of other queues need not look after these as long as this one does
        others_from_ms = int(server_ms + max(QUEUES_EVERY, settings.lease) * 1000)
        calls = [
            *queries.show_worker(
                settings.keys, settings.id, fields, now_ms=server_ms, ttl=settings.lease * 2
            ),
            queries.maintain_from(settings.keys, settings.queues, others_from_ms),
        ]
        if now >= self._names_at + _NAMES_EVERY:
            self._names_at = now
            calls.append(queries.know_queues(settings.keys, settings.queues))
            calls.append(queries.note_served(settings.keys, settings.queues, server_ms))
        return calls
