"""The workbench: an executor for jobs beside each other, in threads and on an event loop.

Timeouts come from elsewhere: a timer of its own for each of many jobs would cost more than most jobs.

The lookout: a thread that sees to the time of runs, to requests to stop them, and to a blocked event loop.

It looks when the next deadline has come, when it is woken, and from time to time while anything runs. What
does not heed an interruption is not its concern.

Clockwork: an event loop whose timers are exact to a tenth of a millisecond.

asyncio's own rounds up to whole milliseconds, as epoll counts, so a job that sleeps for 10 ms takes 11, and
all that sleep at the same time wake up together. Here select(), which counts microseconds, waits for epoll.

A pool of threads, made as they are needed and kept. It knows no jobs.

A crew: a process that runs many jobs at once, coroutines on its event loop and functions in its threads.

The main thread has the event loop. The porter, in a thread of its own, brings jobs and carries outcomes
away; the lookout, in another, interrupts what is over its time. Here is what happens to a job in between.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from minirq.current import Running, running
from minirq.exceptions import JobTimeoutException
from minirq.protocol.commands import Claimed
from minirq.protocol.defaults import JOB_TIMEOUT
from minirq.protocol.payload import Payload
from minirq.text import safe_text
from minirq.worker.cleanup import ProcessState
from minirq.worker.executor import Executor, cancel_leftovers
from minirq.worker.fetcher import Fetcher
from minirq.worker.interrupts import SIGNAL, STOP, TIMEOUT, BaseDeathPenalty, RunningJob, current_job
from minirq.worker.job_log import JobLog
from minirq.worker.link import Link, boottime
from minirq.worker.outcome import (
    Finished,
    FunctionUnknown,
    Interrupted,
    Outcome,
    Released,
    Task,
    describe,
    settlement,
)
from minirq.worker.scoreboard import Scoreboard
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import redis


logger = logging.getLogger(__name__)

#: a thread that waits for a coroutine looks for an interruption this often, seconds
_LOOK_EVERY = 0.2


class _NoPenalty(BaseDeathPenalty):
    def setup_death_penalty(self) -> None:
        """Nothing to set up."""

    def cancel_death_penalty(self) -> None:
        """Nothing to cancel."""


class ConcurrentExecutor(Executor):
    """Runs jobs in whichever thread asks, and coroutines on `loop`."""

    def __init__(self, settings: WorkerSettings, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(settings, _NoPenalty)
        self._loop = loop

    def is_coroutine(self, function: str) -> bool | None:
        """Whether a function makes coroutines; None while nobody has looked."""
        known = self._functions.get(function)
        return None if known is None else known[1]

    async def attend(self, run: RunningJob, task: Task) -> Outcome:
        """Await a job's coroutine. It raises nothing."""
        try:
            result = await task.function(*task.args, **task.kwargs)
            if os.getpid() != self._pid:
                os._exit(0)  # the job has forked, and its copy must not go on as a worker
            return run.ends_as(self._finished(task, result))
        except BaseException as error:
            if os.getpid() != self._pid:
                os._exit(1)
            if isinstance(error, asyncio.CancelledError) and run.cause is TIMEOUT:
                error = JobTimeoutException(run.reason).with_traceback(error.__traceback__)
            return run.ends_as(run.failed(error, describe(error, self._worker)))

    def _call(self, task: Task) -> Any:
        result = task.function(*task.args, **task.kwargs)
        if type(result) is not CoroutineType:
            return result
        future = asyncio.run_coroutine_threadsafe(result, self._loop)  # a function that hands out a coroutine
        try:
            while True:
                try:
                    return future.result(_LOOK_EVERY)
                except TimeoutError:
                    if future.done():
                        raise
        except BaseException:
            future.cancel()
            raise


#: while anything runs it looks this often, and never more often than that, seconds
_WATCH_EVERY = 0.25
_LEAST_PAUSE = 0.01
#: an event loop that does nothing for so long is worth a line in the log, seconds
BLOCKED_AFTER = 1.0


class Watchdog:
    """Watches the runs in `runs`, one for each slot of the board."""

    def __init__(
        self, runs: list[RunningJob | None], board: Scoreboard, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._runs = runs
        self._board = board
        self._loop = loop
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._next = 0.0
        self._pinged: float | None = None

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._watch, name="minirq-lookout", daemon=True).start()

    def wake(self) -> None:
        """Have it look now. From any thread, and from a signal handler."""
        self._bell.put(None)

    def expect(self, deadline: float) -> None:
        """A run has started: see to it that its deadline is looked at."""
        if (deadline or time.monotonic() + _WATCH_EVERY) < self._next:
            self._next = 0.0
            self.wake()

    def _watch(self) -> None:
        while True:
            soonest = self._look(time.monotonic())
            self._next = soonest
            try:
                pause = None if soonest == float("inf") else max(soonest - time.monotonic(), _LEAST_PAUSE)
                self._bell.get(timeout=pause)
            except Empty:
                continue

    def _look(self, now: float) -> float:
        """Interrupt what has to be; return when to look next."""
        soonest = float("inf")
        is_awaiting = False
        for run in self._runs:
            if run is None or run.is_over:
                continue
            soonest = min(soonest, now + _WATCH_EVERY)
            is_awaiting = is_awaiting or run.atask is not None
            if run.cause is not None:
                continue
            if self._board.is_run_asked_to_stop(run.number):
                run.interrupt(STOP)
            elif run.deadline and now >= run.deadline:
                run.interrupt(TIMEOUT)
            elif run.deadline:
                soonest = min(soonest, run.deadline)
        self._see_to_the_loop(now, is_awaiting)
        return soonest

    # --- the event loop -----------------------------------------------------------------------

    def _see_to_the_loop(self, now: float, is_awaiting: bool) -> None:
        if self._pinged is None:
            if is_awaiting:
                self._pinged = now
                self._loop.call_soon_threadsafe(self._pong)
        elif now - self._pinged >= BLOCKED_AFTER:
            self._say_who_blocks(now - self._pinged)

    def _pong(self) -> None:
        self._pinged = None

    def _say_who_blocks(self, seconds: float) -> None:
        task = asyncio.current_task(self._loop)
        run = next((run for run in self._runs if run is not None and _belongs(task, run)), None)
        if run is None or run.has_blocked:
            return
        run.has_blocked = True
        logger.warning(
            "job %s blocks the event loop for %.1f s so far, and other coroutines wait: %s",
            safe_text(run.claimed.id), seconds, safe_text(run.function),
        )  # fmt: skip


def _belongs(task: asyncio.Task[Any] | None, run: RunningJob) -> bool:
    return task is not None and (run.atask is task or task in tuple(run.children or ()))


_EpollSelector: Any = getattr(selectors, "EpollSelector", object)
#: select() cannot wait for a descriptor above this
_MOST_SELECTED = 1024


class _FineSelector(_EpollSelector):  # type: ignore[misc]
    def select(self, timeout: float | None = None) -> Any:
        """Wait as long as it is said, not up to the next millisecond."""
        if timeout is not None and 0 < timeout < 1:
            select.select((self.fileno(),), (), (), timeout)
            timeout = 0
        return super().select(timeout)


def event_loop() -> asyncio.Runner:
    """Return a runner with such a loop, or with what the application has set as its policy."""
    if not hasattr(selectors, "EpollSelector") or not _is_policy_asyncios_own():
        return asyncio.Runner()
    selector = _FineSelector()
    if selector.fileno() >= _MOST_SELECTED:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector))


def _is_policy_asyncios_own() -> bool:
    if sys.version_info >= (3, 14):  # policies are on their way out
        return True
    return type(asyncio.get_event_loop_policy()) is asyncio.DefaultEventLoopPolicy


T = TypeVar("T")


class Threads(Generic[T]):
    """Does `work` for each thing that is handed in, in a thread and a context of its own.

    `work` raises nothing.
    """

    def __init__(self, work: Callable[[T], None]) -> None:
        self._work = work
        self._things: SimpleQueue[T] = SimpleQueue()
        self._lock = threading.Lock()
        self._asked = self._threads = 0

    def hand_in(self, thing: T) -> None:
        """Have something done."""
        with self._lock:
            self._asked += 1
            is_short = self._asked > self._threads
            if is_short:
                self._threads += 1
                name = f"minirq-job-{self._threads}"
        if is_short:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._things.put(thing)

    def _serve(self) -> None:
        while True:
            thing = self._things.get()
            copy_context().run(self._work, thing)
            with self._lock:
                self._asked -= 1


class ConcurrentRunner:
    """Runs up to `settings.concurrency` jobs at once until it is told to stop, or as Loop does."""

    def __init__(
        self,
        links: tuple[Link, Link],
        owners: tuple[str, ...],
        board: Scoreboard,
        settings: WorkerSettings,
        *,
        client: redis.Redis,
        is_stopping: Callable[[], bool],
        quota: int | None,
        sockets: Callable[[], Iterable[socket.socket]],
    ) -> None:
        self._link = links[0]
        self._board = board
        self._settings = settings
        self._client = client
        self._journal = JobLog(settings)
        self._runner = event_loop()
        self._loop = self._runner.get_loop()
        self._loop.set_task_factory(_factory)
        self._workbench = ConcurrentExecutor(settings, self._loop)
        self._runs: list[RunningJob | None] = [None] * settings.concurrency
        self._lookout = Watchdog(self._runs, board, self._loop)
        if SIGNAL is not None:
            signal.signal(SIGNAL, lambda number, frame: self._lookout.wake())
        self._hygiene = ProcessState(sockets)
        self._pool: Threads[RunningJob] = Threads(self._run_in_thread)
        self._lock = threading.Lock()
        #: runs whose function somebody looks up, by its name
        self._unsure: dict[str, list[RunningJob]] = {}
        self._last = ""
        self._is_touched = False
        self._porter = Fetcher(
            links,
            owners,
            board,
            self._journal,
            concurrency=settings.concurrency,
            is_burst=settings.is_burst,
            is_stopping=is_stopping,
            quota=quota,
            start=self._start,
            tidy=self._tidy,
        )

    def run(self) -> str:
        """Run jobs; return why it ended. In the main thread."""
        self._lookout.start()
        over: asyncio.Future[str] = self._loop.create_future()
        self._porter.start_waiting()
        threading.Thread(target=self._carry, args=(over,), name="minirq-link", daemon=True).start()
        while True:
            try:
                return self._loop.run_until_complete(over)
            except (SystemExit, KeyboardInterrupt):  # of a task that a job has started: these end a loop
                logger.warning("a task that a job has left behind raised SystemExit or KeyboardInterrupt")

    def _carry(self, over: asyncio.Future[str]) -> None:
        try:
            reason = self._porter.work()
        except BaseException as error:
            self._loop.call_soon_threadsafe(over.set_exception, error)
        else:
            self._loop.call_soon_threadsafe(over.set_result, reason)

    # --- a job starts: in the porter's thread -------------------------------------------------

    def _start(self, jobs: list[tuple[Claimed, int]]) -> None:
        if not self._is_touched:
            self._is_touched = True
            self._hygiene.look()
        awaited = []
        for claimed, number in jobs:
            # reading it is on the job's account too: whoever can write to Redis chooses the bytes
            started = time.monotonic()
            self._board.start(claimed.id, claimed.run, claimed.queue, started, started + JOB_TIMEOUT, number)
            run = RunningJob(claimed, self._workbench.read(claimed), number, self._link.claimed_at)
            self._board.hold(number)
            if not claimed.has_record and isinstance(run.envelope, Payload):
                self._link.introduce(claimed, run.envelope)
            if self._is_known(run):
                if self._workbench.is_coroutine(run.function):
                    awaited.append(run)
                else:
                    self._pool.hand_in(run)
        if awaited:
            self._loop.call_soon_threadsafe(self._begin_all, awaited)

    def _is_known(self, run: RunningJob) -> bool:
        """Whether it is known what a function is; if not, one run finds out, in a thread, for all."""
        if not run.function or self._workbench.is_coroutine(run.function) is not None:
            return True
        with self._lock:
            waiting = self._unsure.get(run.function)
            if waiting is not None:
                waiting.append(run)
                return False
            self._unsure[run.function] = []
        self._pool.hand_in(run)
        return False

    def _show(self, run: RunningJob) -> bool:
        """From here on a run may take the process down, and its time counts.

        False: it is given back instead. The host slept, and another worker may have run it.
        """
        age = boottime() - run.claimed_at
        if age > self._settings.most_age:
            self._journal.outdated(run.claimed, age)
            self._porter.ended(settlement(run.claimed, Released()), run.number)
            return False
        timeout = run.envelope.options.timeout if isinstance(run.envelope, Payload) else JOB_TIMEOUT
        run.started = time.monotonic()
        run.deadline = 0.0 if timeout == -1 else run.started + timeout
        self._board.begin(run.started, run.deadline, run.number)
        self._runs[run.number] = run
        self._lookout.expect(run.deadline)
        return True

    def _prepare(self, run: RunningJob) -> Outcome | Task:
        envelope = run.envelope
        task = self._workbench.prepare(run.claimed, envelope) if isinstance(envelope, Payload) else envelope
        if self._journal.is_told:
            self._journal.started(run.claimed, run.function)
        return task

    def _running(self, run: RunningJob, task: Task) -> Running:
        return Running(
            id=run.claimed.id,
            queue=self._settings.queues[run.claimed.queue],
            run=run.claimed.run,
            payload=run.claimed.payload,
            connection=self._client,
            namespace=self._settings.namespace,
            serializer=task.serializer.name,
        )

    # --- on the event loop --------------------------------------------------------------------

    def _begin_all(self, runs: list[RunningJob]) -> None:
        for run in filter(self._show, runs):
            task = self._prepare(run)
            if isinstance(task, Task):
                self._begin(run, task)
            else:
                self._end(run, task)

    def _begin(self, run: RunningJob, task: Task) -> None:
        atask = asyncio.Task(self._attend(run, task), loop=self._loop, name=run.claimed.id)
        atask.add_done_callback(lambda _: self._end_unless_over(run))
        if run.children is None:
            run.children = set()

    async def _attend(self, run: RunningJob, task: Task) -> None:
        current_job.set(run)
        running.set(self._running(run, task))
        run.atask = asyncio.current_task()
        if run.cause is None:
            outcome = await self._workbench.attend(run, task)
        else:  # it was interrupted before it began
            error = run.cause(run.reason)
            outcome = run.ends_as(run.failed(error, describe(error, self._settings.name)))
        if run.children:
            with suppress(asyncio.CancelledError):  # an interruption that came late
                leftovers = [task for task in run.children if not task.done()]
                await cancel_leftovers(f"job {safe_text(run.claimed.id)}", leftovers)
        self._end(run, outcome)

    def _end_unless_over(self, run: RunningJob) -> None:
        """Somebody has cancelled a run's task before its first step, or at its last."""
        if not run.is_over:
            error = asyncio.CancelledError()
            self._end(run, run.failed(error, describe(error, self._settings.name)))

    # --- in a thread --------------------------------------------------------------------------

    def _run_in_thread(self, run: RunningJob) -> None:
        if not self._show(run):
            self._let_others_go(run.function)
            return
        task = self._prepare(run)
        self._let_others_go(run.function)
        if not isinstance(task, Task):
            self._end(run, task)
        elif task.is_coroutine:
            self._loop.call_soon_threadsafe(self._begin, run, task)
        else:
            run.task = task
            self._end(run, run.in_thread(self._work, self._describe))

    def _work(self, run: RunningJob) -> Outcome:
        assert run.task is not None
        running.set(self._running(run, run.task))
        current_job.set(run)
        return self._workbench.run(run.task)

    def _let_others_go(self, function: str) -> None:
        """It is known now what a function is, if it can be."""
        if function not in self._unsure:
            return
        with self._lock:
            waiting = self._unsure.pop(function, [])
        if waiting and self._workbench.is_coroutine(function):
            self._loop.call_soon_threadsafe(self._begin_all, waiting)
        else:
            for run in waiting:
                self._pool.hand_in(run)

    def _describe(self, error: BaseException) -> Any:
        return describe(error, self._settings.name)

    # --- a job ends ---------------------------------------------------------------------------

    def _end(self, run: RunningJob, outcome: Outcome) -> None:
        """A run has ended. On the event loop, or in its thread."""
        run.is_over = True
        self._runs[run.number] = None
        with self._lock:  # the counts are for all threads
            self._board.end(
                failed=not isinstance(outcome, (Finished, Interrupted, FunctionUnknown)), number=run.number
            )
        if self._journal.is_told or not isinstance(outcome, Finished):
            self._journal.ended(run.claimed, run.function, outcome, time.monotonic() - run.started)
        self._last = run.function
        self._porter.ended(settlement(run.claimed, outcome), run.number)

    def _tidy(self) -> bool:
        """Nothing runs: put right what jobs have changed. In the porter's thread."""
        if not self._is_touched:
            return True
        self._is_touched = False
        answer: SimpleQueue[bool] = SimpleQueue()
        # signal handlers and the event loop are the main thread's
        self._loop.call_soon_threadsafe(lambda: answer.put(self._hygiene.tidy(self._last)))
        return answer.get()


def _factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Make a task, and note whose it is."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    run = current_job.get()
    if run is not None and run.children is not None:
        run.children.add(task)
        task.add_done_callback(run.children.discard)
    return task
