"""Suspension: no queue hands out jobs. The names are RQ's; a single queue is paused with `Queue.pause`."""

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
    """Pause all queues known by now: for `ttl`, or without one until `resume`. As `Queue.pause`."""
    for queue in Queue.all(connection, namespace=namespace):
        queue.pause(ttl)


def resume(connection: redis.Redis | str | None = None, *, namespace: str | None = None) -> None:
    """Resume all queues, also those that were paused one by one."""
    for queue in Queue.all(connection, namespace=namespace):
        queue.resume()


def is_suspended(connection: redis.Redis | str | None = None, *, namespace: str | None = None) -> bool:
    """Whether every known queue is paused. Without any queue nothing is."""
    queues = Queue.all(connection, namespace=namespace)
    return bool(queues) and all(queue.is_paused for queue in queues)
