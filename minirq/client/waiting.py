"""How a blocking application waits for the ends of jobs: it does what a `Waiter` asks for."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from typing import Any

from minirq.client.store import Store
from minirq.exceptions import MinirqError, ServerUnavailable
from minirq.protocol.record import Record
from minirq.protocol.waiting import BlockingPop, Ended, Glance, Pause, Place, Waiter


def wait_for_ends(
    store: Store, places: Iterable[Place], timeout: float | None
) -> Generator[Ended, None, None]:
    """Yield each job when it has ended, or has no record.

    Raises TimeoutError after `timeout` seconds (None waits for ever). While Redis is unreachable, it waits.
    Leaves nothing behind in Redis, also when it is closed early.
    """
    waiter = Waiter(store.keys, places, timeout)
    steps, reply = waiter.steps(), None
    try:
        with suppress(StopIteration):
            while True:
                match steps.send(reply):
                    case Ended() as ended:
                        reply = None
                        yield ended
                    case Pause(seconds):
                        time.sleep(seconds)
                        reply = None
                    case request:
                        reply = _answer(store, request)
    finally:
        with suppress(ServerUnavailable):
            for calls in waiter.leaving():
                store.sender.send_all(calls)


def wait_for_end(store: Store, place: Place, timeout: float | None) -> Record | None:
    """Return the record with which a job has ended; None if it has none. Raises as `wait_for_ends`."""
    with closing(wait_for_ends(store, [place], timeout)) as ends:
        return next(ends).record


def _answer(store: Store, request: Any) -> Any:
    with suppress(ServerUnavailable):
        match request:
            case BlockingPop(call):
                return store.blocking.send(call)
            case Glance(calls):
                with suppress(MinirqError):
                    return store.sender.send_all(calls)
                return None
            case calls:
                return store.sender.send_all(calls)
    return None
