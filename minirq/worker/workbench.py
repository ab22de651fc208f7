"""The workbench: an executor for jobs beside each other, in threads and on an event loop.

Timeouts come from elsewhere: a timer of its own for each of many jobs would cost more than most jobs.
"""

from __future__ import annotations

import asyncio
import os
from types import CoroutineType
from typing import Any

from minirq.exceptions import JobTimeoutException
from minirq.worker.executor import Executor, Task
from minirq.worker.outcome import Outcome, describe
from minirq.worker.run import TIMEOUT, Run
from minirq.worker.settings import WorkerSettings
from minirq.worker.timeouts import BaseDeathPenalty

#: a thread that waits for a coroutine looks for an interruption this often, seconds
_LOOK_EVERY = 0.2


class _NoPenalty(BaseDeathPenalty):
    def setup_death_penalty(self) -> None:
        """Nothing to set up."""

    def cancel_death_penalty(self) -> None:
        """Nothing to cancel."""


class Workbench(Executor):
    """Runs jobs in whichever thread asks, and coroutines on `loop`."""

    def __init__(self, settings: WorkerSettings, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(settings, _NoPenalty)
        self._loop = loop

    def is_coroutine(self, function: str) -> bool | None:
        """Whether a function makes coroutines; None while nobody has looked."""
        known = self._functions.get(function)
        return None if known is None else known[1]

    async def attend(self, run: Run, task: Task) -> Outcome:
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
