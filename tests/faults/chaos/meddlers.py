"""Who enqueues, and who has second thoughts: threads that talk to queues while everything else breaks."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from faults.chaos.calls import ACCEPTED, CALM, QUEUES, UNKNOWN, Application, Attempt, Call, RandomCalls
from faults.chaos.trace import job_of

from minirq import Queue
from minirq.command import send_stop_job_command
from minirq.exceptions import (
    InvalidJobOperation,
    JobCanceledError,
    JobFailedError,
    MinirqError,
    NoSuchJobError,
    ServerUnavailable,
)
from minirq.job import Job

#: what a meddler may be told: the job has gone on meanwhile, or the server is away
_EXPECTED = (
    InvalidJobOperation, JobCanceledError, JobFailedError, NoSuchJobError, ServerUnavailable, TimeoutError,
)  # fmt: skip


class Producer(threading.Thread):
    """Enqueues at most `rate` jobs a second. A call of which nothing is known is made again."""

    def __init__(
        self, number: int, application: Application, rate: float, again: float, over: threading.Event
    ) -> None:
        super().__init__(name=f"producer-{number}", daemon=True)
        self._dice = RandomCalls(random.Random(number), application.ledger, again)
        self._application = application
        self._rate = rate
        self._over = over

    def run(self) -> None:
        queues = [self._application.queue(name) for name in (CALM, *QUEUES * 3)]
        dice = self._dice.random
        while not self._over.is_set():
            queue = dice.choice(queues)
            call = self._dice.call(queue.name)
            while self._application.enqueue(queue, call).answer == UNKNOWN and not self._over.is_set():
                call = replace(call, token=self._application.ledger.token(*call.job))
            time.sleep(dice.expovariate(self._rate))


class Meddler(threading.Thread):
    """Does to jobs and queues what their owners may do, `rate` times a second."""

    def __init__(self, number: int, application: Application, rate: float, over: threading.Event) -> None:
        super().__init__(name=f"meddler-{number}", daemon=True)
        self._random = random.Random(100 + number)
        self._dice = RandomCalls(self._random, application.ledger, again=0.3)
        self._application = application
        self._ledger = application.ledger
        self._rate = rate
        self._over = over
        self._queues = {name: application.queue(name) for name in (CALM, *QUEUES)}
        self.acts: Counter[str] = Counter()
        #: what went otherwise than it may
        self.surprises: list[str] = []

    def run(self) -> None:
        acts: dict[Callable[[], None], float] = {
            self._cancel: 3, self._delete: 3, self._requeue: 3, self._stop_a_run: 3, self._replace: 4,
            self._pause: 0.5, self._wait: 3, self._wait_for_many: 1, self._as_completed: 1,
            self._enqueue_many: 1, self._look: 2,
        }  # fmt: skip
        while not self._over.is_set():
            time.sleep(self._random.expovariate(self._rate))
            [act] = self._random.choices(list(acts), list(acts.values()))
            name = act.__name__.strip("_").replace("_", " ")
            self.acts[name] += 1
            try:
                act()
            except _EXPECTED:
                pass
            except Exception as error:  # it is what the campaign looks for
                self.surprises.append(f"{name}: {type(error).__name__}: {error}")

    # --- jobs ---------------------------------------------------------------------------------

    def _any(self, *, calm: bool = False) -> tuple[Call, Job[Any]]:
        with self._ledger.lock:
            known = [one for one in self._ledger.recent if calm or one[0].job[0] != CALM]
        if not known:
            raise NoSuchJobError("nothing has been enqueued yet")
        # the latest may still wait or run; of those before them most have ended
        return self._random.choice(known[-5:] if self._random.random() < 0.6 else known)

    @contextmanager
    def _ending(self, call: Call) -> Iterator[None]:
        """Keep that this may have ended the job, also where nobody knows."""
        try:
            yield
        finally:
            with self._ledger.lock:
                self._ledger.ended[call.job].append(time.time())

    def _cancel(self) -> None:
        call, job = self._any()
        with self._ending(call):
            job.cancel()

    def _delete(self) -> None:
        call, job = self._any()
        with self._ending(call):
            job.delete()

    def _stop_a_run(self) -> None:
        call, _ = self._any()
        with self._ending(call):
            send_stop_job_command(self._application.url, call.job[1])

    def _requeue(self) -> None:
        call, job = self._any()
        with self._ledger.lock:
            self._ledger.requeued.add(call.job)
        job.requeue(at_front=self._random.random() < 0.3)

    def _replace(self) -> None:
        """End a job and enqueue its id again, as those do who want the last call to count."""
        call, job = self._any()
        queue, job_id = call.job
        with self._ending(call):
            self._random.choice([job.cancel, job.delete])()
        self._application.enqueue(
            self._queues[queue], replace(self._dice.call(queue), token=self._ledger.token(queue, job_id))
        )

    def _look(self) -> None:
        _, job = self._any(calm=True)
        job.refresh()
        job.get_position()
        assert job.errors is not None

    # --- queues -------------------------------------------------------------------------------

    def _pause(self) -> None:
        queue = self._queues[self._random.choice(QUEUES)]
        queue.pause(self._random.uniform(0.2, 1))
        if self._random.random() < 0.3:
            queue.resume()

    def _enqueue_many(self) -> None:
        """Many calls at once, all there or none."""
        queue = self._queues[self._random.choice(QUEUES)]
        calls = [
            replace(self._dice.call(queue.name), delay=0.0) for _ in range(self._random.randrange(2, 20))
        ]
        # one id twice in a batch is one job: which call it is does not matter here
        calls = list({call.job: call for call in calls}.values())
        began, jobs, answer = time.time(), [], ACCEPTED
        try:
            jobs = queue.enqueue_many(_prepared(self._application, call) for call in calls)
        except ServerUnavailable:
            answer = UNKNOWN
        except MinirqError:
            answer = UNKNOWN  # those before the refused batch may be there
        for at, call in enumerate(calls):
            self._ledger.note(Attempt(call, answer, began, time.time()), jobs[at] if jobs else None)

    # --- waiting ------------------------------------------------------------------------------

    def _wait(self) -> None:
        call, job = self._any(calm=True)
        self._check(call, job.wait(timeout=self._random.uniform(0.1, 2)))

    def _wait_for_many(self) -> None:
        several = [self._any(calm=True) for _ in range(5)]
        queue = self._of_one_queue(several)
        if queue is not None:
            results = queue.wait_many([job for _, job in several], timeout=1)
            for (call, _), result in zip(several, results, strict=True):
                self._check(call, result)

    def _as_completed(self) -> None:
        several = [self._any(calm=True) for _ in range(5)]
        queue = self._of_one_queue(several)
        if queue is not None:
            for job in queue.as_completed([job for _, job in several], timeout=1):
                if job.get_status(refresh=False) == "finished":
                    self._check(next(call for call, one in several if one.id == job.id), job.result)

    def _of_one_queue(self, several: list[tuple[Call, Job[Any]]]) -> Queue | None:
        """The queue, and only its jobs left in the list, each id once."""
        name = several[0][0].job[0]
        several[:] = {call.job: (call, job) for call, job in several if call.job[0] == name}.values()
        return self._queues[name]

    def _check(self, call: Call, result: Any) -> None:
        """A result is that of a call of the same job, or None where it is not kept."""
        if result is not None and job_of(result) != call.job:
            self.surprises.append(f"{call.token} was told the result of {result}")


def _prepared(application: Application, call: Call) -> Any:
    args, options = application.arguments(call)
    timeout = options.pop("job_timeout", None)
    return Queue.prepare_data(f"faults.chaos.jobs.{call.kind}", args, timeout=timeout, **options)
