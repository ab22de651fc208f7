"""Waiting for a job's end without polling: a mailbox that every way to end puts the id into."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress

from minirq.exceptions import NoSuchJobError, ServerUnavailable
from minirq.protocol import operations, reads
from minirq.protocol.states import ENDED
from minirq.store import WAIT_BLOCK, Store

#: between attempts while the server is away, seconds
_PAUSE = 0.2


def wait_for_end(store: Store, queue: str, job_id: str, timeout: float | None) -> str:
    """Return the status in which the job ended. It is looked at again at least every WAIT_BLOCK seconds.

    Raises TimeoutError after `timeout` seconds (None waits for ever), NoSuchJobError if there is no
    record. A server that is away is waited for. Leaves nothing behind in Redis.
    """
    keys = store.keys.of(queue)
    waiter = secrets.token_hex(8)
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        while True:
            with suppress(ServerUnavailable):
                status = store.sender.send(operations.wait(keys, job_id, waiter, here=True))
                if status in ENDED:
                    return status
                if not status:
                    raise NoSuchJobError(
                        f"job {job_id} has no record: it never existed, was deleted, or has expired"
                    )
            left = WAIT_BLOCK if deadline is None else min(WAIT_BLOCK, deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"job {job_id} has not ended within {timeout:g} s")
            try:
                store.blocking.send(reads.knock(keys, waiter, left))
            except ServerUnavailable:
                time.sleep(min(_PAUSE, left))
    finally:
        with suppress(ServerUnavailable):
            store.sender.send(operations.wait(keys, job_id, waiter, here=False))
