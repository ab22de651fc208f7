"""How a process runs one job after another: claim, run, settle; wait when there is nothing to run.

Jobs run in the thread that calls `run`. The same runner serves a child of a supervised worker and a
SimpleWorker; a process that runs many jobs at once has another one (concurrent.py).

Short jobs are claimed in a `Batch`, and outcomes travel with the next claim, so many tiny jobs cost one round
trip. But neither a result nor a job that has not started may wait while another one runs for long:

    a job is  kept in           until
    claimed   `_todo`           it starts, or is given back: before the start of a job that is not known to be
                                short, and when the running one has turned out long (5 ms)
    running   `_running_since`  it ends
    ended     `_unsent`         the next claim, or the start of a job not known to be short; 5 ms at most

A ticker thread keeps the 5 ms; it exists only while a batch of short jobs is under way. Jobs and outcomes are
in deques whose single operations are atomic: whichever thread takes one has it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from contextvars import copy_context

from minirq.protocol.commands import Claim, Claimed, Settlement
from minirq.protocol.defaults import JOB_TIMEOUT
from minirq.protocol.payload import DEFAULT_OPTIONS, Payload
from minirq.worker.cleanup import ProcessState
from minirq.worker.executor import Executor
from minirq.worker.fetcher import LATE_PAUSE, Context, End
from minirq.worker.interrupts import SerialGuard
from minirq.worker.job_log import JobLog
from minirq.worker.link import Link, boottime
from minirq.worker.outcome import FAILURES, Failed, Finished, Interrupted, Outcome, Released, Task, settlement
from minirq.worker.scoreboard import BUSY, WAITING
from minirq.worker.settings import MOST_HELD

#: a batch is meant to hold this much work, seconds: it ends just before a result would be sent by itself
_BATCH_SECONDS = 0.0049
#: a function that takes less on average may run with unsent results behind it, seconds
_SHORT_SECONDS = 0.002
#: what takes longer counts as this much, seconds: all of it is long, and one such run says little of the next
_LONG_SECONDS = 0.005
#: how much the newest measurement counts
_WEIGHT = 0.2
#: functions that are remembered; beyond that all are measured again
_MOST_FUNCTIONS = 1000


class BatchSize:
    """How many jobs to claim at once, by the moving averages of run times. `most` 1 turns batches off."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self._most = most
        self._by_function: dict[str, float] = {}
        self._average = _BATCH_SECONDS
        self._want = 1

    def ran(self, function: str, seconds: float) -> None:
        """Note how long a run took. A rare long one weighs little: the ticker frees the jobs behind it."""
        seconds = min(seconds, _LONG_SECONDS)
        known = self._by_function.get(function)
        if known is None:
            if len(self._by_function) >= _MOST_FUNCTIONS:
                self._by_function.clear()
            self._by_function[function] = seconds
        else:
            self._by_function[function] = known + (seconds - known) * _WEIGHT
        self._average += (seconds - self._average) * _WEIGHT

    def is_short(self, function: str) -> bool:
        """Whether this function was measured short. One that was never measured is not."""
        return self._by_function.get(function, 1.0) < _SHORT_SECONDS

    def want(self) -> int:
        """How many jobs to claim: it doubles at most from one batch to the next."""
        fitting = int(_BATCH_SECONDS / max(self._average, 1e-6))
        self._want = max(1, min(self._want * 2, fitting, self._most))
        return self._want


#: how long a result may wait, and how long a job may run before those behind it are given back, seconds
_TICK = 0.005


class Batch:
    """Jobs that were claimed together, and the outcomes of those that have run and are not sent yet."""

    def __init__(self, link: Link, log: JobLog) -> None:
        self._link = link
        self._log = log
        self._todo: deque[Claimed] = deque()
        self._unsent: deque[Settlement] = deque()
        self._unsent_since = 0.0
        self._running_since = 0.0
        self._ticker: threading.Thread | None = None
        self._over = threading.Event()
        self._fault: Exception | None = None

    def __len__(self) -> int:
        return len(self._todo)

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
            self._over = threading.Event()
            self._ticker = threading.Thread(
                target=self._tick, args=(self._over,), name="minirq-tick", daemon=True
            )
            self._ticker.start()
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
            claim = self._send(give_back, want)
        self._todo.extend(claim.jobs)
        return claim

    def rest(self) -> None:
        """End the ticker: from here on nothing could wait for it."""
        if self._ticker is not None:
            self._over.set()
            self._ticker.join()
            self._ticker = None

    def _send(self, give_back: bool, want: int) -> Claim:
        outcomes = []
        while self._unsent:
            outcomes.append(self._unsent.popleft())
        # the newest first, each to the front: they keep their order
        while give_back and (claimed := self._newest()) is not None:
            outcomes.append(settlement(claimed, Released()))
        if not outcomes and not want:
            return Claim("ok", [])
        in_hand = [(job.queue, job.id) for job in self._todo] if want else ()
        settled = self._link.settle(outcomes, want=want, in_hand=in_hand)
        self._log.answered(outcomes, settled.codes)
        return settled.claim

    def _newest(self) -> Claimed | None:
        try:
            return self._todo.pop()
        except IndexError:
            return None

    def _tick(self, over: threading.Event) -> None:
        pause = _TICK
        while not over.wait(pause):
            now = time.monotonic()
            running_since = self._running_since
            is_long = bool(running_since) and now - running_since >= _TICK
            waited = now - self._unsent_since if self._unsent else 0.0
            pause = _TICK
            if waited >= _TICK or (is_long and self._todo):
                try:
                    with self._link.lock:
                        self._send(give_back=is_long, want=0)
                except Exception as fault:  # the main thread raises it where it can be acted upon
                    self._fault = fault
                    return
            elif waited:
                pause = _TICK - waited


class SerialRunner:
    """Runs jobs until it is told to stop, the queues are empty (burst), or its quota of jobs has run.

    `state` puts back what a job has changed about a process that is the worker's own.
    """

    def __init__(
        self, context: Context, executor: Executor, guard: SerialGuard, state: ProcessState | None = None
    ) -> None:
        settings = context.settings
        self._context = context
        self._settings = settings
        self._link = context.links[0]
        self._board = context.board
        self._executor = executor
        self._guard = guard
        self._state = state
        self._is_fit = True
        self._ran = 0
        self._log = JobLog(settings)
        self._most_age = settings.most_age
        self._batch = Batch(self._link, self._log)
        self._size = BatchSize(MOST_HELD if settings.is_batching else 1)

    def run(self) -> End:
        """Run jobs; return why it ended. What was claimed and not run has been given back by then."""
        try:
            return self._run()
        finally:
            self._batch.rest()

    def close(self) -> None:
        """Close the connections and the event loop, whatever jobs have done to them."""
        for part in (self._guard, self._executor, self._link):
            with suppress(Exception):
                part.close()

    def _run(self) -> End:
        claim = self._claim()
        while True:
            if claim.state == "lost":
                return End.LOST
            if self._is_done:
                self._batch.send(give_back=True)
                if not self._is_fit:
                    return End.UNFIT
                return End.QUOTA if self._context.quota == self._ran else End.STOPPED
            if len(self._batch):
                self._run_batch()
                claim = self._claim()
            elif claim.state == "late":
                time.sleep(LATE_PAUSE)
                claim = self._claim()
            elif claim.state in ("ok", "paused") and self._settings.is_burst:
                return End.DRAINED
            else:
                claim = self._wait(claim)

    @property
    def _is_done(self) -> bool:
        return not self._is_fit or self._context.quota == self._ran or self._context.is_stopping()

    def _claim(self) -> Claim:
        """Send what is unsent, and claim the next jobs unless the end has come."""
        want = 0 if self._is_done else self._size.want()
        if self._context.quota is not None:
            want = min(want, self._context.quota - self._ran)
        return self._batch.send(want=want)

    def _wait(self, claim: Claim) -> Claim:
        self._batch.rest()
        self._board.set_state(WAITING)
        if claim.state in ("ok", "paused"):  # else there was too much to look at for one call
            self._link.wait(claim)
        claim = self._claim()
        self._board.set_state(BUSY)
        return claim

    def _run_batch(self) -> None:
        while (claimed := self._batch.next()) is not None:
            age = boottime() - self._link.claimed_at
            if age > self._most_age:  # the host slept: another worker may have run it
                self._log.outdated(claimed, age)
                self._batch.give_back(claimed)
                return
            self._run_one(claimed)
            if self._is_done:
                return

    def _run_one(self, claimed: Claimed) -> None:
        started = time.monotonic()
        # reading it is on the job's account too: whoever can write to Redis chooses the bytes
        self._board.start(claimed.id, claimed.run, claimed.queue, started, started + JOB_TIMEOUT)
        envelope = self._executor.read(claimed)
        function, options = "", DEFAULT_OPTIONS
        if isinstance(envelope, Payload):
            function, options = envelope.function, envelope.options
        # a job that must not run again is settled alone and at once: no other's death may find it unsettled
        is_once = options.loss_limit == 0
        is_short = self._size.is_short(function) and not is_once
        if is_short:
            self._batch.starts(started, is_short=True)
        else:
            self._board.hold()  # to send what is unsent is neither its time nor its doing
            self._batch.starts(started, is_short=False)
            if self._state is not None:
                self._state.remember()
            started = time.monotonic()
        # from here on the job may take the process down: preparing it may import its module
        if not is_short or options.timeout != JOB_TIMEOUT:
            self._board.begin(started, 0.0 if options.timeout == -1 else started + options.timeout)
        outcome = self._outcome(claimed, envelope)
        if self._guard.is_cut_off and isinstance(outcome, Interrupted):
            return
        self._board.end(failed=isinstance(outcome, FAILURES))
        # before anything is sent or logged: the job may have closed what that goes over
        self._clean_up(function, is_short)
        ended = time.monotonic()
        if self._log.is_verbose or not isinstance(outcome, Finished):
            self._log.ended(claimed, function, outcome, ended - started)
        self._batch.ended(settlement(claimed, outcome), ended)
        self._ran += 1
        self._size.ran(function, max(ended - started, _BATCH_SECONDS if is_once else 0))
        if is_once:
            self._batch.send()

    def _outcome(self, claimed: Claimed, envelope: Payload | Failed) -> Outcome:
        if not isinstance(envelope, Payload):
            return envelope
        task = self._executor.prepare(claimed, envelope)
        if not isinstance(task, Task):
            return task
        if self._log.is_verbose:
            self._log.started(claimed, envelope.function)
        if not claimed.has_record:
            self._link.introduce(claimed, envelope)
        # in a context of its own: what a job sets there ends with it
        return copy_context().run(self._call, task)

    def _call(self, task: Task) -> Outcome:
        self._context.enter(task)
        return self._executor.run(task, self._guard)

    def _clean_up(self, function: str, is_short: bool) -> None:
        if is_short and len(self._batch):
            return  # once a batch for short jobs
        if self._state is None:
            self._guard.put_back_alarm()
        else:
            with self._link.lock:  # the ticker may be sending
                self._is_fit = self._state.restore(function) and self._is_fit
