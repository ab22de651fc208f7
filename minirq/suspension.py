"""Pausing all queues. The names are RQ's; `Queue.pause` pauses a single queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minirq.durations import Duration
from minirq.queue import Queue

if TYPE_CHECKING:
    import redis

__all__ = ["is_suspended", "resume", "suspend"]


def suspend(
    connection: redis.Redis | str | None = None, ttl: Duration | None = None, *, namespace: str | None = None
) -> None:
    """Pause all queues that exist now: for `ttl`, or without one until `resume`. See `Queue.pause`."""
    for queue in Queue.all(connection, namespace=namespace):
        queue.pause(ttl)


def resume(connection: redis.Redis | str | None = None, *, namespace: str | None = None) -> None:
    """Resume all queues, including those that were paused one by one."""
    for queue in Queue.all(connection, namespace=namespace):
        queue.resume()


def is_suspended(connection: redis.Redis | str | None = None, *, namespace: str | None = None) -> bool:
    """Whether every queue is paused; False if there is none."""
    queues = Queue.all(connection, namespace=namespace)
    return bool(queues) and all(queue.is_paused for queue in queues)
