"""Coroutines in a process that runs one job at a time: an event loop that is kept between jobs."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from minirq.exceptions import JobTimeoutException

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger(__name__)

#: how long tasks that a job left behind may take to end, seconds
_LEFTOVER_GRACE = 1.0


class CoroutineRunner:
    """Runs coroutines on a loop of its own, made when the first one comes."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
        """Run to the end or for `timeout` seconds (-1 no limit), then it is cancelled: JobTimeoutException.

        Tasks that it leaves behind are cancelled, and the log says so.
        """
        import asyncio  # 20 ms that a worker of plain functions does not pay

        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(_bounded(coroutine, timeout))

    def close(self) -> None:
        """Close the loop."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None


async def _bounded(coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
    import asyncio  # as above

    scope = asyncio.timeout(None if timeout == -1 else timeout)
    try:
        async with scope:
            return await coroutine
    except TimeoutError:
        if scope.expired():
            raise JobTimeoutException(f"the job ran longer than its timeout of {timeout:g} s") from None
        raise
    finally:
        leftovers = asyncio.all_tasks() - {asyncio.current_task()}
        if leftovers:
            logger.warning("a job left %d tasks behind; they are cancelled", len(leftovers))
            for task in leftovers:
                task.cancel()
            await asyncio.wait(leftovers, timeout=_LEFTOVER_GRACE)
