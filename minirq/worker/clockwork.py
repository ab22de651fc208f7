"""Clockwork: an event loop whose timers are exact to a tenth of a millisecond.

asyncio's own rounds up to whole milliseconds, as epoll counts, so a job that sleeps for 10 ms takes 11, and
all that sleep at the same time wake up together. Here select(), which counts microseconds, waits for epoll.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
from typing import Any

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


def runner() -> asyncio.Runner:
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
