"""The fleet: what all workers see to together, whichever queues they serve, each thing by one of them.

An index says from when on others may look after a queue; its own workers move that time on while they live.
So the work grows with the queues, and not with the workers. Two more entries are no queues: the list of
names, and the search for owners that no index knows.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Container
from math import inf
from typing import Any

from minirq.connection.client import Sender
from minirq.exceptions import QueueFull, ServerFault
from minirq.protocol import commands, queries
from minirq.protocol.keys import Keys
from minirq.text import safe_text
from minirq.worker.recovery import UnlistedOwners

logger = logging.getLogger(__name__)

#: queues without workers of their own are looked after at this pace, the list of names, and all keys; seconds
QUEUES_EVERY, NAMES_EVERY, SEARCH_EVERY = 20.0, 60.0, 300.0
#: queues that are taken over at a time, and looked after without a pause for what is more urgent
_TAKEN, _CHUNK = 1000, 50
#: pause before a queue is looked at again that was too much for one call, seconds
_MORE_PAUSE = 0.2
#: workers that vanished without a word leave the list after this, and are not counted after that; seconds
FORGET_AFTER, _COUNTED_FOR = 3600, 60
#: names of queues without workers and without keys are forgotten after this, seconds; those with keys are
#: looked at again after an hour, and those that were forgotten once more
FORGET_QUEUES_AFTER, _LOOK_AGAIN, _SECOND_LOOK = 86400, 3600, 90
#: names that one step looks at
_NAMES, _UNSERVED = 1000, 100
#: entries of the index that are no queues: a queue's name has no spaces
_LIST, _SEARCH = "list of names", "search of keys"
#: steps of a search after which it is claimed again
_STEPS = 100


class Fleet:
    """This worker's part. `look_after` is given names of queues, and returns those with more to do."""

    def __init__(
        self, sender: Sender, keys: Keys, lease: float, look_after: Callable[[list[str]], list[str]]
    ) -> None:
        self._sender = sender
        self._keys = keys
        self._look_after = look_after
        self._search = UnlistedOwners(sender, keys, lease)
        self._taken: deque[str] = deque()
        self._next_take = self._next_chunk = 0.0
        self._next_names = self._next_search = inf
        self._cursor = self._steps = 0
        self._is_unwell = False

    @property
    def next_turn(self) -> float:
        """When there is something to do (monotonic)."""
        next_chunk = self._next_chunk if self._taken else inf
        next_take = self._next_take if len(self._taken) < _CHUNK else inf
        return min(next_take, next_chunk, self._next_names, self._next_search)

    def turn(self, now: float, now_ms: int, owners: Container[str]) -> None:
        """Do what is due, in small steps; `owners` are those of this worker.

        Where an index is broken it is put off, so that the worker's own queues do not suffer. Raises
        ServerUnavailable and AccessDenied.
        """
        try:
            self._do(now, now_ms, owners)
        except (ServerFault, QueueFull) as error:
            if not self._is_unwell:
                logger.error("the queues of others are not looked after: %s", safe_text(str(error), 500))
            self._is_unwell = True
            self._next_take, self._next_names, self._next_search = now + QUEUES_EVERY, inf, inf

    def _do(self, now: float, now_ms: int, owners: Container[str]) -> None:
        if self._taken and now >= self._next_chunk:
            self._work_off(now)
        if now >= self._next_names:
            self._read_names(now, now_ms)
        if now >= self._next_search:
            self._search_on(now, now_ms, owners)
        if now >= self._next_take and len(self._taken) < _CHUNK:
            self._take(now, now_ms)

    def _take(self, now: float, now_ms: int) -> None:
        calls: list[Any] = [
            commands.maintain(self._keys, most=_TAKEN, pause=QUEUES_EVERY, also=(_LIST, _SEARCH)),
            queries.worker_count(self._keys, now_ms - _COUNTED_FOR * 1000),
        ]
        taken, workers = self._sender.send_all(calls)
        self._is_unwell = False
        # all workers together ask once a second, and none before there is something to take
        pause = max(1, workers) * random.uniform(0.5, 1.5)
        next_in = min(taken.next_in, QUEUES_EVERY) + random.random()
        self._next_take = now + max(pause, next_in)
        for name in taken.names:
            if name == _LIST:
                self._next_names = now
            elif name == _SEARCH:
                self._next_search = now
            elif queries.can_be_key(name):
                self._taken.append(name)

    def _work_off(self, now: float) -> None:
        chunk = [self._taken.popleft() for _ in range(min(len(self._taken), _CHUNK))]
        unfinished = self._look_after(chunk)
        self._next_chunk = now if len(self._taken) else now + _MORE_PAUSE
        self._taken.extend(unfinished)

    # --- names --------------------------------------------------------------------------------

    def _read_names(self, now: float, now_ms: int) -> None:
        """Go a step through the list of names: have new ones looked after; at its end, forget old ones."""
        self._cursor, names = self._sender.send(queries.scan_queue_names(self._keys, self._cursor, _NAMES))
        if names:
            self._sender.send_all(
                [
                    queries.maintain_from(self._keys, names, now_ms, is_new=True),
                    queries.note_served(self._keys, names, now_ms, is_new=True),
                ]
            )
        if self._cursor:
            return
        self._next_names = inf
        self._next_take = now
        self._forget_queues(now_ms)
        self._sender.send_all(
            [
                queries.forget_workers(self._keys, before_ms=now_ms - FORGET_AFTER * 1000),
                self._again(_LIST, now_ms, NAMES_EVERY),
            ]
        )

    def _forget_queues(self, now_ms: int) -> None:
        """Forget the queues that no worker has served for a day and of which no key is left.

        A producer adds a name with its first job and once a minute, so a job may come without its name just
        after that was removed: a second look, later than that minute, puts the name back.
        """
        before_ms = now_ms - FORGET_QUEUES_AFTER * 1000
        names = self._sender.send(queries.unserved(self._keys, before_ms, _UNSERVED))
        replies = self._sender.send_all([queries.has_any_key(self._keys.of(name)) for name in names])
        kept = [name for name, has_keys in zip(names, replies, strict=True) if has_keys]
        gone = [name for name, has_keys in zip(names, replies, strict=True) if not has_keys]
        were_listed = self._sender.send_all([queries.forget_queue(self._keys, name) for name in gone])
        again = [name for name, was_listed in zip(gone, were_listed, strict=True) if was_listed]
        done = [name for name, was_listed in zip(gone, were_listed, strict=True) if not was_listed]
        calls: list[Any] = []
        if gone:
            calls.append(queries.forget_maintenance(self._keys, gone))
        if kept:
            calls.append(queries.know_queues(self._keys, kept))
            calls.append(queries.note_served(self._keys, kept, before_ms + _LOOK_AGAIN * 1000))
        if again:
            calls.append(queries.note_served(self._keys, again, before_ms + _SECOND_LOOK * 1000))
        if done:
            calls.append(queries.forget_served(self._keys, done))
        self._sender.send_all(calls)

    # --- the search ---------------------------------------------------------------------------

    def _search_on(self, now: float, now_ms: int, owners: Container[str]) -> None:
        if self._steps % _STEPS == 0:  # nobody else searches meanwhile
            self._sender.send(self._again(_SEARCH, now_ms, SEARCH_EVERY))
        pause = self._search.step(owners, now_ms=now_ms)
        self._next_search = now + pause if pause else inf
        self._steps = self._steps + 1 if pause else 0

    def _again(self, entry: str, now_ms: int, seconds: float) -> Any:
        return queries.maintain_from(self._keys, [entry], int(now_ms + seconds * 1000))
