"""What all workers do together for all queues, whichever they serve, each thing by one of them.

An index holds the time from which others may look after a queue; its own workers postpone it while they run.
So the work grows with the queues, and not with the workers. Two more entries of the index are no queues: the
list of names, and the search for owners that hold jobs although no index names them. The search goes through
all keys, and gives each owner that it finds a lease: a live one renews it, a sweep takes back the jobs of
others.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Container, Sequence
from math import inf
from typing import Any

from minirq.protocol import commands, queries
from minirq.protocol.commands import Call
from minirq.text import safe_text
from minirq.worker.job_log import log_set_aside
from minirq.worker.recovery import QueueCalls, Recovery
from minirq.worker.settings import WorkerSettings
from minirq.worker.tasks import Task

logger = logging.getLogger(__name__)

#: queues without workers of their own are looked after at this pace, the list of names, and all keys; seconds
QUEUES_EVERY, NAMES_EVERY, SEARCH_EVERY = 20.0, 60.0, 300.0
#: queues that are taken over at a time, and looked after without a pause for what is more urgent
_TAKEN, _CHUNK = 1000, 50
#: pause before a queue is looked at again that was too much for one call, seconds
_MORE_PAUSE = 0.2
#: workers without a heartbeat leave the list after this, and are not counted after that; seconds
FORGET_AFTER, _COUNTED_FOR = 3600, 60
#: names of queues without workers and without keys are forgotten after this, seconds; those with keys are
#: looked at again after an hour, and those that were forgotten once more
FORGET_QUEUES_AFTER, _LOOK_AGAIN, _SECOND_LOOK = 86400, 3600, 90
#: names that one step looks at
_NAMES, _UNSERVED = 1000, 100
#: entries of the index that are no queues: a queue's name has no spaces
_LIST, _SEARCH = "list of names", "search of keys"
#: keys that one step of a search looks at, which takes the server 2 ms; the pause before the next step,
#: seconds; and steps after which the search is claimed again
_KEYS, _STEP_PAUSE, _STEPS = 2000, 0.5, 100


class Fleet:
    """This worker's part, in four tasks. `owners` are those of this worker."""

    def __init__(
        self, calls: QueueCalls, recovery: Recovery, settings: WorkerSettings, owners: Container[str]
    ) -> None:
        self._sender = calls.sender
        self._calls = calls
        self._recovery = recovery
        self._clock = recovery.clock
        self._settings = settings
        self._keys = settings.keys
        self._owners = owners
        self._taken: deque[str] = deque()
        self._names_cursor = self._keys_cursor = self._steps = 0
        self.take = Task(self._take, for_others=True)
        self.look_after = Task(self._look_after, due=inf, for_others=True)
        self.read_names = Task(self._read_names, due=inf, for_others=True)
        self.search = Task(self._search, due=inf, for_others=True)
        self.tasks = [self.look_after, self.read_names, self.search, self.take]

    def _take(self) -> float:
        """Take over queues that nobody has looked after."""
        if len(self._taken) >= _CHUNK:
            return _MORE_PAUSE
        calls: list[Any] = [
            commands.maintain(self._keys, most=_TAKEN, pause=QUEUES_EVERY, also=(_LIST, _SEARCH)),
            queries.worker_count(self._keys, self._clock.now_ms - _COUNTED_FOR * 1000),
        ]
        taken, workers = self._sender.send_all(calls)
        special = {_LIST: self.read_names, _SEARCH: self.search}
        for name in taken.names:
            if name in special:
                special[name].due = 0.0
            else:
                self._taken.append(name)
                self.look_after.due = 0.0
        # all workers together ask once a second, and none before there is something to take
        pause = max(1, workers) * random.uniform(0.5, 1.5)
        next_in = min(taken.next_in, QUEUES_EVERY) + random.random()
        return float(max(pause, next_in))

    def _look_after(self) -> float:
        """Promote, trim and sweep some of the queues that were taken over."""
        names = [self._taken.popleft() for _ in range(min(len(self._taken), _CHUNK))]
        calls = [commands.promote(self._keys.of(name), trim=True) for name in names]
        promoted = dict(self._calls.send("promote", names, calls))
        for reply in promoted.values():
            log_set_aside(reply.aside)
        unfinished = self._recovery.sweep(name for name, reply in promoted.items() if reply.is_sweep_due)
        unfinished += [name for name, reply in promoted.items() if reply.is_more or reply.next_in == 0]
        pause = 0.0 if self._taken else _MORE_PAUSE if unfinished else inf
        self._taken.extend(unfinished)
        return pause

    # --- names --------------------------------------------------------------------------------

    def _read_names(self) -> float:
        """Go a step through the list of names: have new ones looked after; at its end, forget old ones."""
        keys, now_ms = self._keys, self._clock.now_ms
        scan = queries.scan_queue_names(keys, self._names_cursor, _NAMES)
        self._names_cursor, names = self._sender.send(scan)
        if names:
            self._sender.send(queries.maintain_from(keys, names, now_ms, is_new=True))
            self._sender.send(queries.note_served(keys, names, now_ms, is_new=True))
        if self._names_cursor:
            return 0.0
        self._forget_queues(now_ms)
        self._sender.send(queries.forget_workers(keys, before_ms=now_ms - FORGET_AFTER * 1000))
        self._sender.send(self._again(_LIST, NAMES_EVERY))
        self.take.due = 0.0
        return inf

    def _forget_queues(self, now_ms: int) -> None:
        """Forget the queues that no worker has served for a day and of which no key is left.

        A producer adds a name with its first job and once a minute, so a job may come without its name just
        after that was removed: a second look, later than that minute, puts the name back.
        """
        keys, before_ms = self._keys, now_ms - FORGET_QUEUES_AFTER * 1000
        names = self._sender.send(queries.unserved(keys, before_ms, _UNSERVED))
        kept, gone = self._split(names, [queries.has_any_key(keys.of(name)) for name in names])
        again, done = self._split(gone, [queries.forget_queue(keys, name) for name in gone])
        calls = [
            (gone, queries.forget_maintenance(keys, gone)),
            (kept, queries.know_queues(keys, kept)),
            (kept, queries.note_served(keys, kept, before_ms + _LOOK_AGAIN * 1000)),
            (again, queries.note_served(keys, again, before_ms + _SECOND_LOOK * 1000)),
            (done, queries.forget_served(keys, done)),
        ]
        self._sender.send_all([call for names, call in calls if names])

    def _split(self, names: list[str], calls: Sequence[Call[Any]]) -> tuple[list[str], list[str]]:
        """Send a call for each name; return the names whose reply is true, and the others."""
        replies = dict(zip(names, self._sender.send_all(calls), strict=True))
        return [name for name in names if replies[name]], [name for name in names if not replies[name]]

    # --- the search ---------------------------------------------------------------------------

    def _search(self) -> float:
        """Look for processing lists among the next keys, and put their owners into the index."""
        if self._steps % _STEPS == 0:  # nobody else searches meanwhile
            self._sender.send(self._again(_SEARCH, SEARCH_EVERY))
        scan = queries.scan_owners(self._keys, self._keys_cursor, _KEYS)
        self._keys_cursor, found = self._sender.send(scan)
        now_ms = self._clock.now_ms
        lease_end_ms = int(now_ms + self._settings.lease * 1000)
        places = [(queue, owner) for queue, owner in found if owner not in self._owners]
        calls: list[Any] = [
            queries.list_owner(self._keys.of(queue), owner, lease_end_ms) for queue, owner in places
        ]
        for (queue, owner), reply in zip(places, self._sender.send_each(calls), strict=True):
            if reply == 1:
                logger.warning(
                    "queue %s: %s holds jobs and was not known", safe_text(queue), safe_text(owner)
                )
                self._sender.send(queries.know_queues(self._keys, [queue]))
                self._sender.send(queries.maintain_from(self._keys, [queue], now_ms, is_new=True))
        self._steps = self._steps + 1 if self._keys_cursor else 0
        return _STEP_PAUSE if self._keys_cursor else inf

    def _again(self, entry: str, seconds: float) -> Any:
        return queries.maintain_from(self._keys, [entry], int(self._clock.now_ms + seconds * 1000))
