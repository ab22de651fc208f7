"""Waiting on conditions without blocking the loop, and workers beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import redis as redis_py

from minirq import Queue, SimpleWorker

T = TypeVar("T")


async def soon(condition: Callable[[], T], seconds: float = 15.0) -> T:
    """Return the first true value of `condition`; fail the test if none comes."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        await asyncio.sleep(0.005)
    return value


async def run_all(redis: redis_py.Redis, *names: str) -> None:
    """Run what waits in these queues, in a thread."""
    worker = SimpleWorker([Queue(name, connection=redis) for name in names or ("default",)])
    await asyncio.to_thread(worker.work, burst=True)


def registered(redis: redis_py.Redis) -> int:
    """At how many jobs somebody waits."""
    return sum(redis.hexists(key, "waiters") for key in redis.keys("*:job:*"))


def blocked(redis: redis_py.Redis) -> int:
    """How many connections wait for mail."""
    return sum(client["cmd"] == "blpop" for client in redis.client_list())


def assert_nothing_left(redis: redis_py.Redis) -> None:
    """Fail if a waiter has left something in Redis."""
    assert redis.keys("*mailbox*") == []
    assert registered(redis) == 0
    assert blocked(redis) == 0
