"""Jobs: what all systems run, the same functions for each."""

from __future__ import annotations

import asyncio
import time

from bench import marks

#: jobs of the case with a kill, and what one takes, seconds
KILL_JOBS = 200
KILL_SECONDS = 0.02


def hello() -> None:
    """Imports what jobs need, and is not counted."""
    marks.warm()


def noop() -> None:
    """Nothing, counted."""
    marks.count()


def keep(text: str) -> None:
    """Nothing with a payload."""
    marks.count()


def echo(text: str) -> str:
    """A payload in and a result of the same size out."""
    marks.count()
    return text


def burn() -> None:
    """1 ms of this thread's CPU time."""
    marks.warm()
    end = time.thread_time_ns() + 1_000_000
    while time.thread_time_ns() < end:
        pass
    marks.count()


def mixed(seconds: float) -> None:
    """Nothing, or a pause; keeps when it began and ended."""
    marks.warm()
    began = time.monotonic_ns()
    if seconds:
        time.sleep(seconds)
    marks.note(began, time.monotonic_ns())


def nap() -> None:
    """10 ms asleep."""
    marks.warm()
    time.sleep(0.01)
    marks.count()


async def nap_async() -> None:
    """10 ms asleep, as a coroutine."""
    marks.warm()
    await asyncio.sleep(0.01)
    marks.count()


async def rest() -> None:
    """A second asleep, as a coroutine."""
    marks.warm()
    await asyncio.sleep(1)
    marks.count()


def stamp(sent_ns: int) -> None:
    """Keeps how long ago it was sent."""
    marks.note(time.monotonic_ns() - sent_ns)


def due(due_ns: int) -> None:
    """Keeps how late it is; below 0 it is early."""
    marks.note(time.time_ns() - due_ns)


def once(number: int) -> None:
    """A numbered job, tallied at its end."""
    marks.warm()
    time.sleep(KILL_SECONDS)
    marks.tally(number)
    marks.count()


PLAIN = (hello, noop, keep, echo, burn, mixed, nap, stamp, due, once)
