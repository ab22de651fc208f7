"""A crew: a process that runs many jobs at once, coroutines on its event loop and functions in its threads.

The main thread has the event loop. The porter, in a thread of its own, brings jobs and carries outcomes
away; the lookout, in another, interrupts what is over its time. Here is what happens to a job in between.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from minirq.current import Running, running
from minirq.protocol.defaults import JOB_TIMEOUT
from minirq.protocol.operations import Claimed
from minirq.protocol.payload import Payload
from minirq.text import safe_text
from minirq.worker.board import Board
from minirq.worker.clockwork import runner
from minirq.worker.coroutines import cancel_leftovers
from minirq.worker.executor import Task
from minirq.worker.fault_points import fault
from minirq.worker.hygiene import Hygiene
from minirq.worker.interruption import SIGNAL
from minirq.worker.journal import Journal
from minirq.worker.link import Link, boottime
from minirq.worker.lookout import Lookout
from minirq.worker.outcome import Finished, Interrupted, Missed, Outcome, Released, describe, settlement
from minirq.worker.pool import Pool
from minirq.worker.porter import Porter
from minirq.worker.run import Run, current_run
from minirq.worker.settings import WorkerSettings
from minirq.worker.workbench import Workbench

if TYPE_CHECKING:
    import redis

logger = logging.getLogger(__name__)


class Crew:
    """Runs up to `settings.concurrency` jobs at once until it is told to stop, or as Loop does."""

    def __init__(
        self,
        links: tuple[Link, Link],
        owners: tuple[str, ...],
        board: Board,
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
        self._journal = Journal(settings)
        self._runner = runner()
        self._loop = self._runner.get_loop()
        self._loop.set_task_factory(_factory)
        self._workbench = Workbench(settings, self._loop)
        self._runs: list[Run | None] = [None] * settings.concurrency
        self._lookout = Lookout(self._runs, board, self._loop)
        if SIGNAL is not None:
            signal.signal(SIGNAL, lambda number, frame: self._lookout.wake())
        self._hygiene = Hygiene(sockets)
        self._pool: Pool[Run] = Pool(self._run_in_thread)
        self._lock = threading.Lock()
        #: runs whose function somebody looks up, by its name
        self._unsure: dict[str, list[Run]] = {}
        self._last = ""
        self._is_touched = False
        self._porter = Porter(
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
            run = Run(claimed, self._workbench.read(claimed), number, self._link.claimed_at)
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

    def _is_known(self, run: Run) -> bool:
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

    def _show(self, run: Run) -> bool:
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

    def _prepare(self, run: Run) -> Outcome | Task:
        envelope = run.envelope
        task = self._workbench.prepare(run.claimed, envelope) if isinstance(envelope, Payload) else envelope
        if self._journal.is_told:
            self._journal.started(run.claimed, run.function)
        return task

    def _running(self, run: Run, task: Task) -> Running:
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

    def _begin_all(self, runs: list[Run]) -> None:
        for run in filter(self._show, runs):
            task = self._prepare(run)
            if isinstance(task, Task):
                self._begin(run, task)
            else:
                self._end(run, task)

    def _begin(self, run: Run, task: Task) -> None:
        atask = asyncio.Task(self._attend(run, task), loop=self._loop, name=run.claimed.id)
        atask.add_done_callback(lambda _: self._end_unless_over(run))
        if run.children is None:
            run.children = set()

    async def _attend(self, run: Run, task: Task) -> None:
        current_run.set(run)
        running.set(self._running(run, task))
        run.atask = asyncio.current_task()
        fault("started")
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

    def _end_unless_over(self, run: Run) -> None:
        """Somebody has cancelled a run's task before its first step, or at its last."""
        if not run.is_over:
            error = asyncio.CancelledError()
            self._end(run, run.failed(error, describe(error, self._settings.name)))

    # --- in a thread --------------------------------------------------------------------------

    def _run_in_thread(self, run: Run) -> None:
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

    def _work(self, run: Run) -> Outcome:
        assert run.task is not None
        running.set(self._running(run, run.task))
        current_run.set(run)
        fault("started")
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

    def _end(self, run: Run, outcome: Outcome) -> None:
        """A run has ended. On the event loop, or in its thread."""
        run.is_over = True
        self._runs[run.number] = None
        with self._lock:  # the counts are for all threads
            self._board.end(
                failed=not isinstance(outcome, (Finished, Interrupted, Missed)), number=run.number
            )
        fault("ended")
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
    run = current_run.get()
    if run is not None and run.children is not None:
        run.children.add(task)
        task.add_done_callback(run.children.discard)
    return task
