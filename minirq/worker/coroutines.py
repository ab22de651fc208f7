"""Coroutines in a process that runs one job at a time: an event loop that is kept between jobs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from minirq.exceptions import JobTimeoutException
from minirq.text import counted
from minirq.worker.injection import timeout_message

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger(__name__)

#: how long tasks that a job left behind may take to end, seconds
_LEFTOVER_GRACE = 1.0


class CoroutineRunner:
    """Runs coroutines on a loop of its own, made when the first one comes, and kept."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_running = self._is_cancelled = False

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
        """Run to the end or for `timeout` seconds (-1 no limit), then it is cancelled: JobTimeoutException.

        Tasks that it leaves behind are cancelled, and the log says so.
        """
        import asyncio  # 20 ms that a worker of plain functions does not pay

        if self._runner is None:
            self._runner = asyncio.Runner()
        self._is_cancelled, self._is_running = False, True
        try:
            # a runner keeps the first context that it meets, and with it the first job
            return self._runner.run(self._bounded(coroutine, timeout), context=copy_context())
        finally:
            self._is_running = False

    def cancel(self) -> bool:
        """Cancel the coroutine that runs, False if none does. From any thread, or from a signal handler."""
        if not self._is_running:
            return False
        self._is_cancelled = True
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        return True

    def close(self) -> None:
        """Close the loop."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    async def _bounded(self, coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
        import asyncio  # as above

        self._task = asyncio.current_task()
        scope = asyncio.timeout(None if timeout == -1 else timeout)
        try:
            async with scope:
                if self._is_cancelled:
                    coroutine.close()
                    raise asyncio.CancelledError
                return await coroutine
        except TimeoutError:
            if scope.expired():
                raise JobTimeoutException(timeout_message(timeout)) from None
            raise
        finally:
            self._task = None
            await cancel_leftovers("a job", asyncio.all_tasks() - {asyncio.current_task()})


async def cancel_leftovers(whose: str, leftovers: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks that a job has left behind, let them end, and say so in the log."""
    import asyncio  # as above

    if leftovers:
        tasks = counted(len(leftovers), "unfinished task", "unfinished tasks")
        logger.warning("%s left %s behind, which will be cancelled", whose, tasks)
        for task in leftovers:
            task.cancel()
        await asyncio.wait(leftovers, timeout=_LEFTOVER_GRACE)
