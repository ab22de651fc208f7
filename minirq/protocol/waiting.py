"""How to wait for the ends of many jobs: one waiter, and mailboxes into which every way to end puts the id.

A waiter yields what to send, to wait for and to report, and does none of it; whoever has a connection drives
it, blocking or asyncio. Mail may be lost and jobs may run again, so only the records count:
all jobs are looked at again every LOOK_EVERY seconds.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from math import inf
from typing import Any

from minirq.backoff import Backoff
from minirq.durations import parse_duration
from minirq.protocol import commands, queries
from minirq.protocol.commands import Call
from minirq.protocol.keys import Keys
from minirq.protocol.record import ENDED, JobStatus, Record
from minirq.text import safe_text, shell_word

#: a waiter looks again at least this often, seconds
LOOK_EVERY = 5.0
#: jobs that are asked about in one round trip
_CHUNK = 100

#: where a job is: the name of its queue, and its id
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Ended:
    """To be reported: a job has ended, and with which record; None if there is none (any more)."""

    place: Place
    record: Record | None


@dataclass(frozen=True, slots=True)
class BlockingPop:
    """To be sent over a connection that may block, once."""

    call: Call[str | None]


@dataclass(frozen=True, slots=True)
class Glance:
    """Calls to be sent; any error makes the reply None: the user may not be permitted to read this."""

    calls: list[Any]


@dataclass(frozen=True, slots=True)
class Pause:
    """To be slept."""

    seconds: float


class Waiter:
    """Waits for jobs, for `timeout` seconds at most; None waits for ever."""

    def __init__(self, keys: Keys, places: Iterable[Place], timeout: float | None) -> None:
        self._keys = keys
        self._pending = dict.fromkeys(places)
        self._all = len(self._pending)
        self._queues = {queue: keys.of(queue) for queue, _ in self._pending}
        self._waiter = secrets.token_hex(8)
        self._timeout = inf if timeout is None else parse_duration(timeout, what="timeout")
        self._deadline = time.monotonic() + self._timeout

    def steps(self) -> Generator[Any, Any, None]:
        """Yield the next thing to do, until all jobs have ended.

        That is a list of calls or a BlockingPop, whose replies must be sent back, or None if the server is
        unreachable; a Glance; a Pause; or an Ended, which the caller reports. Raises TimeoutError.
        """
        mail: list[Place] = []
        next_look = time.monotonic()
        backoff = Backoff()
        while self._pending:
            now = time.monotonic()
            if now >= min(next_look, self._deadline):
                mail, next_look = list(self._pending), now + LOOK_EVERY
            was_answered = True
            for chunk in _chunks(mail):
                was_answered = was_answered and (yield from self._look(chunk))
            if self._pending:
                left = min(self._deadline - time.monotonic(), LOOK_EVERY)
                if left <= 0:
                    raise TimeoutError((yield from self._complaint(is_unreachable=not was_answered)))
                if was_answered:
                    backoff.succeeded()
                    mail = yield from self._mail(left)
                else:
                    mail, next_look = [], now
                    yield Pause(min(backoff.failed(), left))

    def leaving(self) -> Iterator[list[Call[Any]]]:
        """What takes the waiter off all jobs and removes its mailboxes: lists of calls."""
        for chunk in _chunks(self._pending):
            yield [commands.wait(self._queues[q], job_id, self._waiter, here=False) for q, job_id in chunk]
        if self._queues:
            yield [queries.remove_mailbox(keys, self._waiter) for keys in self._queues.values()]

    def _look(self, places: list[Place]) -> Generator[Any, Any, bool]:
        """Register at these jobs, and report those that have ended; False if that has to be done again."""
        statuses = yield [commands.wait(self._queues[q], i, self._waiter, here=True) for q, i in places]
        if statuses is None:
            return False
        over = [p for p, status in zip(places, statuses, strict=True) if status in ENDED or not status]
        records = yield [queries.record(self._queues[queue], job_id) for queue, job_id in over]
        if records is None:
            return False
        for place, record in zip(over, records, strict=True):
            if record is None or record.has_ended:  # else it was requeued meanwhile
                del self._pending[place]
                yield Ended(place, record)
        return not any(place in self._pending for place in over)

    def _mail(self, seconds: float) -> Generator[Any, Any, list[Place]]:
        """Wait for mail; the jobs that it is about."""
        first = yield BlockingPop(queries.wait_for_mail([*self._queues.values()], self._waiter, seconds))
        if first is None:
            return []
        ids = [first]
        if len(self._pending) > 1:
            more = yield [queries.take_mail(keys, self._waiter) for keys in self._queues.values()]
            ids.extend(chain.from_iterable(more or ()))
        mail = [(queue, job_id) for job_id in dict.fromkeys(ids) for queue in self._queues]
        return [place for place in mail if place in self._pending]

    def _complaint(self, *, is_unreachable: bool) -> Generator[Any, Any, str]:
        """Say what has not ended, and what keeps one of the jobs from that, as far as this can be seen."""
        served = None if is_unreachable else (yield from self._served())
        first = next(iter(self._pending))
        unserved = None if served is None else next((p for p in self._pending if p[0] not in served), None)
        queue, job_id = unserved or first
        text, shown = f"not ended within {self._timeout:g} s", safe_text(job_id)
        if self._all == 1:
            text = f"job {shown} has {text}"
        else:
            text = f"{len(self._pending)} of {self._all} jobs have {text}, among them {shown}"
        records = None if is_unreachable else (yield Glance([queries.record(self._queues[queue], job_id)]))
        if not records or records[0] is None:
            return text
        status = records[0].status
        text += f": it is {safe_text(status)}"
        if unserved is None or status == JobStatus.STARTED:
            return text
        start = f"minirq worker {shell_word(queue, 'QUEUE')}"
        return f"{text}, and no worker serves the queue {safe_text(queue)}. Start one: {start}"

    def _served(self) -> Generator[Any, Any, set[str] | None]:
        """The queues that some worker serves; None if that cannot be seen."""
        workers = yield Glance([queries.worker_beats(self._keys)])
        if workers is None:
            return None
        served = yield Glance([queries.served_queues(self._keys, one) for one in workers[0]])
        return None if served is None else set(chain.from_iterable(served))


def _chunks(places: Iterable[Place]) -> Iterator[list[Place]]:
    them = iter(list(places))
    while chunk := list(islice(them, _CHUNK)):
        yield chunk
