"""How a process runs one job after another: claim, run, settle; wait when there is nothing to run.

Jobs run in the thread that calls `run`. The same runner serves a child of a supervised worker and a
SimpleWorker; a process that runs many jobs at once has another one (concurrent.py).
"""

from __future__ import annotations

import time
from contextlib import suppress
from contextvars import copy_context

from minirq.protocol.commands import Claim, Claimed
from minirq.protocol.defaults import JOB_TIMEOUT
from minirq.protocol.payload import DEFAULT_OPTIONS, Payload
from minirq.worker.cleanup import ProcessState
from minirq.worker.executor import Executor
from minirq.worker.fetcher import BATCH_SECONDS, LATE_PAUSE, Batch, BatchSize, Context, End
from minirq.worker.interrupts import SerialGuard
from minirq.worker.job_log import JobLog
from minirq.worker.link import boottime
from minirq.worker.outcome import FAILURES, Failed, Finished, Interrupted, Outcome, Task, settlement
from minirq.worker.scoreboard import BUSY, WAITING
from minirq.worker.settings import MOST_HELD


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
        self._size.ran(function, max(ended - started, BATCH_SECONDS if is_once else 0))
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
