"""How a process runs many jobs at once: coroutines on its event loop, functions in threads.

The main thread has the event loop. The fetcher, in a thread of its own, brings jobs and settles them; the
watchdog, in another, interrupts those that are late or asked to stop. A job's way through here:

    fetcher's thread  `_start`: shown on the scoreboard, its envelope read
    event loop        `_begin_all` -> `_begin` -> `_attend` -> `_end`, if its function makes coroutines
    a job's thread    `_run_in_thread` -> `_end`, if not; the first job finds out, in a thread
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from math import inf
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from minirq.protocol.commands import Claimed
from minirq.protocol.defaults import JOB_TIMEOUT
from minirq.protocol.payload import DEFAULT_OPTIONS, Payload
from minirq.text import safe_text
from minirq.worker.cleanup import ProcessState
from minirq.worker.executor import Executor, attend, cancel_leftovers
from minirq.worker.fetcher import Context, End, Fetcher
from minirq.worker.interrupts import STOP, STOP_SIGNAL, TIMEOUT, Guard, RunningJob
from minirq.worker.job_log import JobLog
from minirq.worker.link import boottime
from minirq.worker.outcome import FAILURES, Finished, Outcome, Released, Task, settlement
from minirq.worker.scoreboard import Scoreboard
from minirq.worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

#: the run that this thread or asyncio task belongs to
_current: ContextVar[RunningJob | None] = ContextVar("minirq_run", default=None)
#: a thread that waits for a coroutine looks for an interruption this often, seconds
_LOOK_EVERY = 0.2


class ConcurrentExecutor(Executor):
    """Runs functions in whichever thread asks, and coroutines on `loop`."""

    def __init__(self, settings: WorkerSettings, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(settings)
        self._loop = loop

    def is_coroutine(self, function: str) -> bool | None:
        """Whether a function makes coroutines; None while nobody has looked."""
        known = self._functions.get(function)
        return None if known is None else known[1]

    async def attend(self, task: Task, run: RunningJob) -> Outcome:
        """Await a job's coroutine. It raises nothing."""
        try:
            result = await attend(task.function(*task.args, **task.kwargs), run)
            if os.getpid() != self._pid:
                os._exit(0)  # the job has forked, and its copy must not go on as a worker
        except BaseException as error:
            return self.failed(task, error, run)
        return self.finished(task, result, run)

    def _await(self, coroutine: Coroutine[Any, Any, Any], guard: Guard) -> Any:
        # a function in a thread that hands out a coroutine
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
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


#: the watchdog looks this often while anything runs, and never more often than that, seconds
_WATCH_EVERY = 0.25
_LEAST_PAUSE = 0.01
#: an event loop that is blocked for longer than this gets a line in the log, seconds
BLOCKED_AFTER = 1.0


class Watchdog:
    """A thread that interrupts runs which are late or asked to stop. `runs` has one for each slot.

    It looks at the next deadline, when it is woken, and from time to time. It also logs who blocks the loop.
    """

    def __init__(
        self, runs: list[RunningJob | None], board: Scoreboard, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._runs = runs
        self._board = board
        self._loop = loop
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._next = 0.0
        self._pinged: float | None = None

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._watch, name="minirq-watchdog", daemon=True).start()

    def wake(self) -> None:
        """Make it look now. From any thread, and from a signal handler."""
        self._wakes.put(None)

    def expect(self, deadline: float) -> None:
        """A run has started: make sure that its deadline is looked at."""
        if (deadline or time.monotonic() + _WATCH_EVERY) < self._next:
            self._next = 0.0
            self.wake()

    def _watch(self) -> None:
        while True:
            self._next = soonest = self._look(time.monotonic())
            try:
                pause = None if soonest == inf else max(soonest - time.monotonic(), _LEAST_PAUSE)
                self._wakes.get(timeout=pause)
            except Empty:
                continue

    def _look(self, now: float) -> float:
        """Interrupt runs; return when to look next."""
        soonest = inf
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
        self._look_at_the_loop(now, is_awaiting)
        return soonest

    def _look_at_the_loop(self, now: float, is_awaiting: bool) -> None:
        if self._pinged is None:
            if is_awaiting:
                self._pinged = now
                self._loop.call_soon_threadsafe(self._pong)
        elif now - self._pinged >= BLOCKED_AFTER:
            self._log_who_blocks(now - self._pinged)

    def _pong(self) -> None:
        self._pinged = None

    def _log_who_blocks(self, seconds: float) -> None:
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
        """Wait as long as asked, not up to the next millisecond."""
        if timeout is not None and 0 < timeout < 1:
            select.select((self.fileno(),), (), (), timeout)
            timeout = 0
        return super().select(timeout)


def event_loop() -> asyncio.Runner:
    """Return a runner with timers that are exact to 0.1 ms, or the one of the application's policy.

    asyncio's own loop rounds up to whole milliseconds, as epoll counts, so a job that sleeps for 10 ms takes
    11, and all that sleep at the same time wake up together. Here select(), which counts microseconds, waits.
    """
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
        """Add a thing to do."""
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
    """Runs up to `concurrency` jobs at once until it is told to stop, or as SerialRunner does."""

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self._context = context
        self._link = context.links[0]
        self._board = context.board
        self._most_age = settings.most_age
        self._log = JobLog(settings)
        self._runner = event_loop()
        self._loop = self._runner.get_loop()
        self._loop.set_task_factory(_make_task)
        self._executor = ConcurrentExecutor(settings, self._loop)
        self._runs: list[RunningJob | None] = [None] * settings.concurrency
        self._watchdog = Watchdog(self._runs, self._board, self._loop)
        if STOP_SIGNAL is not None:
            signal.signal(STOP_SIGNAL, lambda number, frame: self._watchdog.wake())
        self._state = ProcessState(context.sockets)
        self._threads: Threads[RunningJob] = Threads(self._run_in_thread)
        self._lock = threading.Lock()
        #: by its name: the runs that wait until it is known what a function is
        self._unsure: dict[str, list[RunningJob]] = {}
        self._last = ""
        self._has_run = False
        self._fetcher = Fetcher(context, self._log, start=self._start, restore=self._restore)

    def run(self) -> End:
        """Run jobs; return why it ended. In the main thread."""
        self._watchdog.start()
        over: asyncio.Future[End] = self._loop.create_future()
        threading.Thread(target=self._fetch, args=(over,), name="minirq-fetch", daemon=True).start()
        while True:
            try:
                return self._loop.run_until_complete(over)
            except (SystemExit, KeyboardInterrupt):  # of a task that a job has started: these end a loop
                logger.warning("a task that a job has left behind raised SystemExit or KeyboardInterrupt")

    def _fetch(self, over: asyncio.Future[End]) -> None:
        try:
            reason = self._fetcher.work()
        except BaseException as error:
            self._loop.call_soon_threadsafe(over.set_exception, error)
        else:
            self._loop.call_soon_threadsafe(over.set_result, reason)

    # --- a job starts: in the fetcher's thread ------------------------------------------------

    def _start(self, jobs: list[tuple[Claimed, int]]) -> None:
        if not self._has_run:
            self._has_run = True
            self._state.remember()
        awaited = []
        for claimed, number in jobs:
            # reading it is on the job's account too: whoever can write to Redis chooses the bytes
            started = time.monotonic()
            self._board.start(claimed.id, claimed.run, claimed.queue, started, started + JOB_TIMEOUT, number)
            run = RunningJob(claimed, self._executor.read(claimed), number, self._link.claimed_at)
            self._board.hold(number)
            if not claimed.has_record and isinstance(run.envelope, Payload):
                self._link.introduce(claimed, run.envelope)
            if not self._is_known(run):
                continue
            if self._executor.is_coroutine(run.function):
                awaited.append(run)
            else:
                self._threads.hand_in(run)
        if awaited:
            self._loop.call_soon_threadsafe(self._begin_all, awaited)

    def _is_known(self, run: RunningJob) -> bool:
        """Whether it is known what a function is; if not, one run finds out, in a thread, for all."""
        if not run.function or self._executor.is_coroutine(run.function) is not None:
            return True
        with self._lock:
            waiting = self._unsure.get(run.function)
            if waiting is not None:
                waiting.append(run)
                return False
            self._unsure[run.function] = []
        self._threads.hand_in(run)
        return False

    def _show(self, run: RunningJob) -> bool:
        """From here on a run may take the process down, and its time counts.

        False: it is given back instead. The host slept, and another worker may have run it.
        """
        age = boottime() - run.claimed_at
        if age > self._most_age:
            self._log.outdated(run.claimed, age)
            self._fetcher.ended(settlement(run.claimed, Released()), run.number)
            return False
        options = run.envelope.options if isinstance(run.envelope, Payload) else DEFAULT_OPTIONS
        run.timeout = options.timeout
        run.started = time.monotonic()
        run.deadline = 0.0 if run.timeout == -1 else run.started + run.timeout
        self._board.begin(run.started, run.deadline, run.number)
        self._runs[run.number] = run
        self._watchdog.expect(run.deadline)
        return True

    def _prepare(self, run: RunningJob) -> Outcome | Task:
        envelope = run.envelope
        task = self._executor.prepare(run.claimed, envelope) if isinstance(envelope, Payload) else envelope
        if self._log.is_verbose and isinstance(task, Task):
            self._log.started(run.claimed, run.function)
        return task

    # --- on the event loop --------------------------------------------------------------------

    def _begin_all(self, runs: list[RunningJob]) -> None:
        for run in filter(self._show, runs):
            task = self._prepare(run)
            if isinstance(task, Task):
                self._begin(run, task)
            else:
                self._end(run, task)

    def _begin(self, run: RunningJob, task: Task) -> None:
        if run.children is None:
            run.children = set()
        atask = asyncio.Task(self._attend(run, task), loop=self._loop, name=run.claimed.id)
        atask.add_done_callback(lambda _: self._end_unless_over(run, task))

    async def _attend(self, run: RunningJob, task: Task) -> None:
        _current.set(run)
        self._context.enter(task)
        outcome = await self._executor.attend(task, run)
        leftovers = [child for child in run.children or () if not child.done()]
        await cancel_leftovers(f"job {safe_text(run.claimed.id)}", leftovers)
        self._end(run, outcome)

    def _end_unless_over(self, run: RunningJob, task: Task) -> None:
        """Somebody has cancelled a run's asyncio task before its first step, or at its last."""
        if not run.is_over:
            self._end(run, self._executor.failed(task, asyncio.CancelledError(), run))

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
            self._end(run, self._call(run, task))

    def _call(self, run: RunningJob, task: Task) -> Outcome:
        _current.set(run)
        self._context.enter(task)
        return self._executor.run(task, run)

    def _let_others_go(self, function: str) -> None:
        """It is known now what a function is, if it can be."""
        if function not in self._unsure:
            return
        with self._lock:
            waiting = self._unsure.pop(function, [])
        if waiting and self._executor.is_coroutine(function):
            self._loop.call_soon_threadsafe(self._begin_all, waiting)
        else:
            for run in waiting:
                self._threads.hand_in(run)

    # --- a job ends ---------------------------------------------------------------------------

    def _end(self, run: RunningJob, outcome: Outcome) -> None:
        """A run has ended. On the event loop, or in its thread."""
        run.is_over = True
        self._runs[run.number] = None
        with self._lock:  # the counts are for all threads
            self._board.end(failed=isinstance(outcome, FAILURES), number=run.number)
        if self._log.is_verbose or not isinstance(outcome, Finished):
            self._log.ended(run.claimed, run.function, outcome, time.monotonic() - run.started)
        self._last = run.function
        self._fetcher.ended(settlement(run.claimed, outcome), run.number)

    def _restore(self) -> bool:
        """Put back what jobs have changed; called by the fetcher when nothing runs."""
        if not self._has_run:
            return True
        self._has_run = False
        answer: SimpleQueue[bool] = SimpleQueue()
        # signal handlers and the event loop are the main thread's
        self._loop.call_soon_threadsafe(lambda: answer.put(self._state.restore(self._last)))
        return answer.get()


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Make an asyncio task, and note whose it is."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    run = _current.get()
    if run is not None and run.children is not None:
        run.children.add(task)
        task.add_done_callback(run.children.discard)
    return task
