"""The loop of one owner: claim, run, settle; wait when there is nothing. It runs jobs in this thread.

The same loop serves a child process of a supervised worker and a SimpleWorker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from minirq.calls import Argument
from minirq.current import Running, running
from minirq.protocol.operations import DELETED, FENCED, Claim, Claimed
from minirq.protocol.payload import MAX_ID_BYTES
from minirq.protocol.submission import decisive_fields
from minirq.text import safe_text
from minirq.worker.board import BUSY, WAITING, Board
from minirq.worker.executor import Executor, Task
from minirq.worker.link import Link
from minirq.worker.outcome import Failed, Finished, Outcome, Released, Retrying, settlement
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis

logger = logging.getLogger(__name__)

#: why a loop ended
STOPPED, DRAINED, QUOTA, LOST = "stopped", "drained", "quota", "lost"

#: while the lease has run out and the next beat has not come yet, seconds
_LATE_PAUSE = 0.1


class Loop:
    """Runs jobs until it is told to stop, the queues are empty (burst), or `quota` jobs have run."""

    def __init__(
        self,
        link: Link,
        executor: Executor,
        board: Board,
        settings: WorkerSettings,
        *,
        client: redis.Redis,
        is_stopping: Callable[[], bool],
        quota: int | None = None,
    ) -> None:
        self._link = link
        self._executor = executor
        self._board = board
        self._settings = settings
        self._client = client
        self._is_stopping = is_stopping
        self._quota = quota
        self._ran = 0

    def run(self) -> str:
        """Run jobs; return why it ended. What was claimed and not run has been given back by then."""
        claim = self._link.claim(1)
        while True:
            if claim.state == "lost":
                return LOST
            if self._is_done:
                self._give_back(claim.jobs)
                return QUOTA if self._quota == self._ran else STOPPED
            if claim.jobs:
                claim = self._run(claim.jobs[0], claim.jobs[1:])
            elif claim.state == "late":
                time.sleep(_LATE_PAUSE)
                claim = self._link.claim(1)
            elif claim.state == "ok" and self._settings.is_burst:
                return DRAINED
            else:
                claim = self._wait(claim)

    @property
    def _is_done(self) -> bool:
        return self._is_stopping() or self._quota == self._ran

    def _wait(self, claim: Claim) -> Claim:
        self._board.set_state(WAITING)
        if claim.state == "paused":
            self._link.wait_while_paused(claim.pause)
        elif claim.state == "ok":
            self._link.wait()
        claim = self._link.claim(1)
        self._board.set_state(BUSY)
        return claim

    def _run(self, claimed: Claimed, rest: list[Claimed]) -> Claim:
        """Run one job and settle it; the rest, which adoption may bring, stays in hand for the next turn."""
        outcome = self._outcome(claimed)
        self._ran += 1
        want = 0 if rest or self._is_done else 1
        settled = self._link.settle(
            [settlement(claimed, outcome)], want=want, in_hand=[job.id for job in rest] if want else ()
        )
        if settled.codes[0] == FENCED:
            logger.warning(
                "job %s run %d: the result was dropped, another run holds the job by now",
                safe_text(claimed.id), claimed.run,
            )  # fmt: skip
        elif settled.codes[0] == DELETED:
            logger.info("job %s was deleted while it ran", safe_text(claimed.id))
        return Claim(settled.claim.state, rest + settled.claim.jobs, settled.claim.pause)

    def _outcome(self, claimed: Claimed) -> Outcome:
        queue = self._settings.queues[claimed.queue]
        task = self._executor.prepare(claimed)
        if not claimed.has_record:
            self._introduce(claimed, task)
        name = task.envelope.function if isinstance(task, Task) else "?"
        started = time.monotonic()
        deadline = task.deadline(started) if isinstance(task, Task) else 0.0
        self._board.start(claimed.id, claimed.run, claimed.queue, started, deadline)
        is_told = logger.isEnabledFor(logging.INFO)
        if is_told:
            _log_start(self._facts(claimed, name, queue))
        outcome: Outcome = task if isinstance(task, Failed) else self._run_as_current(task, queue)
        self._board.clear(failed=not isinstance(outcome, Finished))
        if is_told or not isinstance(outcome, Finished):
            seconds = time.monotonic() - started
            _log_outcome(outcome, self._facts(claimed, name, queue) | {"seconds": round(seconds, 6)})
        return outcome

    def _facts(self, claimed: Claimed, name: str, queue: str) -> dict[str, Any]:
        """What a log line about a job says, for machines too."""
        return {
            "job_id": safe_text(claimed.id, MAX_ID_BYTES),
            "queue": safe_text(queue),
            "func": safe_text(name),
            "attempt": claimed.attempts + 1,
            "worker": self._settings.name,
        }

    def _run_as_current(self, task: Task, queue: str) -> Outcome:
        token = running.set(
            Running(
                id=task.claimed.id,
                queue=queue,
                run=task.claimed.run,
                payload=task.claimed.payload,
                connection=self._client,
                namespace=self._settings.namespace,
                serializer=task.serializer.name,
            )
        )
        try:
            return self._executor.run(task)
        finally:
            running.reset(token)

    def _introduce(self, claimed: Claimed, task: Task | Failed) -> None:
        """Write what a script may have to decide on into the record of a job that came without one."""
        if isinstance(task, Failed):
            return
        fields: dict[str, Argument] = {"func": task.envelope.function, **dict(decisive_fields(task.options))}
        if task.serializer.name != "msgpack":
            fields["serializer"] = task.serializer.name
        self._link.introduce(claimed.queue, claimed.id, claimed.run, fields)

    def _give_back(self, jobs: list[Claimed]) -> None:
        # the newest first, each to the front: they end up in their order
        back = [settlement(job, Released()) for job in reversed(jobs)]
        if back:
            self._link.settle(back, want=0)


def _log_start(facts: dict[str, Any]) -> None:
    logger.info(
        "job %s started: %s (queue %s, attempt %d)",
        facts["job_id"], facts["func"], facts["queue"], facts["attempt"], extra=facts,
    )  # fmt: skip


def _log_outcome(outcome: Outcome, facts: dict[str, Any]) -> None:
    job, shown, seconds = facts["job_id"], facts["func"], facts["seconds"]
    match outcome:
        case Finished():
            logger.info("job %s finished: %s in %.3f s", job, shown, seconds, extra=facts)
        case Failed(failure):
            why = safe_text(failure.summary)
            logger.error("job %s failed: %s after %.3f s: %s", job, shown, seconds, why, extra=facts)
        case Retrying(failure, delay):
            logger.warning(
                "job %s failed and is tried again in %.1f s: %s after %.3f s: %s",
                job, delay, shown, seconds, safe_text(failure.summary), extra=facts,
            )  # fmt: skip


def close_quietly(link: Link, executor: Executor) -> None:
    """Close both; what a loop of coroutines or a socket has to say about it is of no interest any more."""
    with suppress(Exception):
        executor.close()
    with suppress(Exception):
        link.close()
