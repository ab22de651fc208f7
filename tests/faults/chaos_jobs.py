"""What a campaign runs. Each run leaves a line."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time

from jobs import append


def _trace(path: str, line: str) -> None:
    append(path, f"{line} {time.time()}")


def work(path: str, line: str, seconds: float) -> None:
    _trace(path, line)
    time.sleep(seconds)


def fail_at_times(path: str, line: str, seconds: float) -> None:
    _trace(path, line)
    time.sleep(seconds)
    if random.random() < 0.5:
        raise ConnectionError("at times")


def die_at_times(path: str, line: str, seconds: float) -> None:
    _trace(path, line)
    time.sleep(seconds)
    if random.random() < 0.2:
        os.kill(os.getpid(), signal.SIGKILL)


async def await_work(path: str, line: str, seconds: float) -> None:
    _trace(path, line)
    await asyncio.sleep(seconds)


async def fail_at_times_and_await(path: str, line: str, seconds: float) -> None:
    await await_work(path, line, seconds)
    if random.random() < 0.5:
        raise ConnectionError("at times")
