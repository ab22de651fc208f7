"""The loop of one owner: claim, run, settle; wait when there is nothing. It runs jobs in this thread.

The same loop serves a child process of a supervised worker and a SimpleWorker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from minirq.current import Running, running
from minirq.protocol.commands import Claim, Claimed
from minirq.protocol.defaults import JOB_TIMEOUT
from minirq.protocol.payload import Payload
from minirq.worker.cleanup import ProcessState
from minirq.worker.executor import Executor
from minirq.worker.fetcher import BATCH_SECONDS, DRAINED, LOST, MOST, QUOTA, STOPPED, UNFIT, Batch, BatchSize
from minirq.worker.interrupts import Guard
from minirq.worker.job_log import JobLog
from minirq.worker.link import Link, boottime
from minirq.worker.outcome import Failed, Finished, FunctionUnknown, Interrupted, Outcome, Task, settlement
from minirq.worker.scoreboard import BUSY, WAITING, Scoreboard
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis


#: while the lease has run out and the next beat has not come yet, seconds
_LATE_PAUSE = 0.1


class CutOff(BaseException):
    """A guard gives the run up that is under way: who holds its job takes it back."""


class SerialRunner:
    """Runs jobs until it is told to stop, the queues are empty (burst), or `quota` jobs have run."""

    def __init__(
        self,
        link: Link,
        executor: Executor,
        board: Scoreboard,
        settings: WorkerSettings,
        *,
        client: redis.Redis,
        is_stopping: Callable[[], bool],
        quota: int | None = None,
        hygiene: ProcessState | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._link = link
        self._executor = executor
        self._board = board
        self._settings = settings
        self._client = client
        self._is_stopping = is_stopping
        self._quota = quota
        self._hygiene = hygiene
        self._run_job = executor.run if guard is None else partial(guard.run, executor.run)
        self._is_fit = True
        self._ran = 0
        self._journal = JobLog(settings)
        self._most_age = settings.most_age
        self._batch = Batch(link, self._journal)
        self._pace = BatchSize(MOST if settings.is_batching else 1)

    def run(self) -> str:
        """Run jobs; return why it ended. What was claimed and not run has been given back by then."""
        try:
            return self._run()
        except CutOff:
            self._batch.send(give_back=True)
            return STOPPED
        finally:
            self._batch.rest()

    def _run(self) -> str:
        claim = self._claim()
        while True:
            if claim.state == "lost":
                return LOST
            if self._is_done:
                self._batch.send(give_back=True)
                if not self._is_fit:
                    return UNFIT
                return QUOTA if self._quota == self._ran else STOPPED
            if len(self._batch):
                self._run_batch()
                claim = self._claim()
            elif claim.state == "late":
                time.sleep(_LATE_PAUSE)
                claim = self._claim()
            elif claim.state in ("ok", "paused") and self._settings.is_burst:
                return DRAINED
            else:
                claim = self._wait(claim)

    @property
    def _is_done(self) -> bool:
        return not self._is_fit or self._quota == self._ran or self._is_stopping()

    def _claim(self) -> Claim:
        """Send what is unsent and claim what is next, unless the end has come."""
        want = 0 if self._is_done else self._pace.want()
        if self._quota is not None:
            want = min(want, self._quota - self._ran)
        claim = self._batch.send(want=want)
        self._batch.add(claim.jobs)
        return claim

    def _wait(self, claim: Claim) -> Claim:
        self._batch.rest()
        self._board.set_state(WAITING)
        if claim.state == "paused":
            self._link.wait_while_paused(claim.pause)
        elif claim.state == "ok":
            self._link.wait()
        claim = self._claim()
        self._board.set_state(BUSY)
        return claim

    def _run_batch(self) -> None:
        while (claimed := self._batch.next()) is not None:
            age = boottime() - self._link.claimed_at
            if age > self._most_age:  # the host slept: another worker may have run it
                self._journal.outdated(claimed, age)
                self._batch.give_back(claimed)
                return
            started = time.monotonic()
            # reading it is on the job's account too: whoever can write to Redis chooses the bytes
            self._board.start(claimed.id, claimed.run, claimed.queue, started, started + JOB_TIMEOUT)
            envelope = self._executor.read(claimed)
            function = envelope.function if isinstance(envelope, Payload) else ""
            # what must not run again is settled alone and at once: no other's death may find it unsettled
            is_once = isinstance(envelope, Payload) and envelope.options.loss_limit == 0
            is_short = self._pace.is_short(function) and not is_once
            if not is_short:
                self._board.hold()  # to send what is unsent is neither its time nor its doing
            self._batch.starts(started, is_short=is_short)
            if not is_short:
                started = time.monotonic()
            outcome = self._run_one(claimed, envelope, function, started, is_short)
            ended = time.monotonic()
            self._batch.ended(settlement(claimed, outcome), ended)
            self._ran += 1
            self._pace.ran(function, max(ended - started, BATCH_SECONDS if is_once else 0))
            if is_once:
                self._batch.send()
            if self._is_done:
                return

    def _tidy(self, function: str, is_short: bool) -> None:
        if is_short and len(self._batch):
            return  # short jobs are looked after once a batch
        if self._hygiene is None:
            self._executor.put_back_alarm()
        else:
            with self._link.lock:  # the ticker may be sending
                self._is_fit = self._hygiene.tidy(function) and self._is_fit

    def _run_one(
        self, claimed: Claimed, envelope: Payload | Failed, function: str, started: float, is_short: bool
    ) -> Outcome:
        if self._hygiene is not None and not is_short:
            self._hygiene.look()
        # from here on the job may take the process down: preparing it may import its module
        timeout = envelope.options.timeout if isinstance(envelope, Payload) else JOB_TIMEOUT
        if not is_short or timeout != JOB_TIMEOUT:
            self._board.begin(started, 0.0 if timeout == -1 else started + timeout)
        task = self._executor.prepare(claimed, envelope) if isinstance(envelope, Payload) else envelope
        if self._journal.is_told and not isinstance(task, FunctionUnknown):
            self._journal.started(claimed, function)
        # in a context of its own: what a job sets there ends with it
        outcome = copy_context().run(self._run_task, task) if isinstance(task, Task) else task
        self._board.end(failed=not isinstance(outcome, (Finished, Interrupted, FunctionUnknown)))
        # before anything is sent or logged: the job may have closed what that goes over
        self._tidy(function, is_short)
        if self._journal.is_told or not isinstance(outcome, Finished):
            self._journal.ended(claimed, function, outcome, time.monotonic() - started)
        return outcome

    def _run_task(self, task: Task) -> Outcome:
        claimed = task.claimed
        if not claimed.has_record:
            self._link.introduce(claimed, task.envelope)
        running.set(
            Running(  # by position: keywords cost as much again
                claimed.id,
                self._settings.queues[claimed.queue],
                claimed.run,
                claimed.payload,
                self._client,
                self._settings.namespace,
                task.serializer.name,
            )
        )
        return self._run_job(task)


def close_quietly(link: Link, executor: Executor) -> None:
    """Close both; what a loop of coroutines or a socket has to say about it is of no interest any more."""
    with suppress(Exception):
        executor.close()
    with suppress(Exception):
        link.close()
