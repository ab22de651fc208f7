"""The batch: jobs claimed together, and the outcomes of those that have run and are not sent yet.

Outcomes travel with the next claim, so a batch of tiny jobs costs one round trip. What must not
happen is that a result waits, or a job that was claimed and not started, while another one runs for
long. So a ticker thread looks every 5 ms: it sends what is unsent, and if the running job has turned
out long it gives the unstarted ones back. It exists only while a batch of short jobs is under way.

Jobs and outcomes are in deques whose single operations are atomic: whichever thread takes one has it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

from minirq.protocol.operations import Claim, Claimed, Settlement
from minirq.worker.journal import Journal
from minirq.worker.link import Link
from minirq.worker.outcome import Released, settlement

#: how long a result may wait, and how long a job may run before those behind it are given back, seconds
TICK = 0.005


class Batch:
    """What an owner holds: at most one job runs, the others wait here or have left their outcome here."""

    def __init__(self, link: Link, journal: Journal) -> None:
        self._link = link
        self._journal = journal
        self._todo: deque[Claimed] = deque()
        self._unsent: deque[Settlement] = deque()
        self._unsent_since = 0.0
        self._running_since = 0.0
        self._ticker: threading.Thread | None = None
        self._over = threading.Event()
        self._fault: Exception | None = None

    def __len__(self) -> int:
        return len(self._todo)

    def add(self, jobs: Iterable[Claimed]) -> None:
        """Take jobs into the batch."""
        self._todo.extend(jobs)

    def next(self) -> Claimed | None:
        """Take the next job out, None if there is none (any more)."""
        try:
            return self._todo.popleft()
        except IndexError:
            return None

    def give_back(self, claimed: Claimed) -> None:
        """Give back a job that was taken out and not started, and those behind it."""
        self._todo.appendleft(claimed)
        self.send(give_back=True)

    def starts(self, now: float, *, is_short: bool) -> None:
        """A job starts. Unless it is known to be short, neither a result nor a job may wait for its end."""
        if not is_short:
            self.rest()
            self.send(give_back=True)
        elif self._ticker is None and (self._todo or self._unsent):
            self._tick_from_now_on()
        self._running_since = now

    def ended(self, outcome: Settlement, now: float) -> None:
        """A job has ended."""
        if not self._unsent:
            self._unsent_since = now
        self._unsent.append(outcome)
        self._running_since = 0.0

    def send(self, *, give_back: bool = False, want: int = 0) -> Claim:
        """Send all outcomes, and claim. With `give_back` unstarted jobs return to the front, in order."""
        if self._fault is not None:
            raise self._fault
        with self._link.lock:
            return self._send(give_back, want)

    def rest(self) -> None:
        """End the ticker: from here on there is nothing that could wait."""
        if self._ticker is not None:
            self._over.set()
            self._ticker.join()
            self._ticker = None

    def _send(self, give_back: bool, want: int) -> Claim:
        outcomes = []
        while self._unsent:
            outcomes.append(self._unsent.popleft())
        if give_back:
            while self._todo:  # the newest first, each to the front: they end up in their order
                try:
                    outcomes.append(settlement(self._todo.pop(), Released()))
                except IndexError:
                    break
        if not outcomes and not want:
            return Claim("ok", [])
        settled = self._link.settle(
            outcomes, want=want, in_hand=[(job.queue, job.id) for job in self._todo] if want else ()
        )
        self._journal.answered(outcomes, settled.codes)
        return settled.claim

    # --- the ticker ---------------------------------------------------------------------------

    def _tick_from_now_on(self) -> None:
        self._over = threading.Event()
        self._ticker = threading.Thread(
            target=self._tick, args=(self._over,), name="minirq-tick", daemon=True
        )
        self._ticker.start()

    def _tick(self, over: threading.Event) -> None:
        pause = TICK
        while not over.wait(pause):
            now = time.monotonic()
            running_since = self._running_since
            is_long = bool(running_since) and now - running_since >= TICK
            waited = now - self._unsent_since if self._unsent else 0.0
            pause = TICK
            if waited >= TICK or (is_long and self._todo):
                try:
                    with self._link.lock:
                        self._send(give_back=is_long, want=0)
                except Exception as fault:  # the main thread raises it where it can be acted upon
                    self._fault = fault
                    return
            elif waited:
                pause = TICK - waited
