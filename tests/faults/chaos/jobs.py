"""What a campaign runs. Each run leaves a line at its start and one at its end, and looks at what it is told.

`token` is the call that the job was enqueued with: <queue>/<id>/<number>.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from faults.chaos.trace import END, START, WRONG, job_of
from jobs import append

from minirq import get_current_job
from minirq.current import running
from minirq.exceptions import NoSuchJobError, ServerUnavailable


@contextmanager
def _run(path: str, token: str) -> Iterator[None]:
    told = running.get()
    number = told.run if told else 0
    about = f"{os.getpid()} {os.getppid()} {number} {token}"
    queue, job_id, _ = token.split("/")
    append(path, f"{START} {time.time()} {about}")
    try:
        job = get_current_job()
        if told is None or job is None or {told.id, job.id} != {job_id} or told.queue != queue:
            append(path, f"{WRONG} {token} is told that it is {told and (told.queue, told.id)}")
        yield
    finally:
        append(path, f"{END} {time.time()} {about}")


def work(path: str, token: str, seconds: float) -> str:
    with _run(path, token):
        _work(path, token, seconds)
    return token


def fail_at_times(path: str, token: str, seconds: float) -> str:
    with _run(path, token):
        _work(path, token, seconds)
        if random.random() < 0.5:
            raise ConnectionError("at times")
    return token


def die_at_times(path: str, token: str, seconds: float) -> str:
    with _run(path, token):
        _work(path, token, seconds)
        if random.random() < 0.2:
            os.kill(os.getpid(), signal.SIGKILL)
    return token


def remember(path: str, token: str, seconds: float) -> str:
    """Write down something about this job."""
    with _run(path, token):
        _write_meta(token)
        _work(path, token, seconds)
    return token


def overrun(path: str, token: str, seconds: float) -> str:
    """Go on for longer than the timeout allows."""
    with _run(path, token):
        _work(path, token, 10 + seconds)
    return token


def swallow(path: str, token: str, seconds: float) -> str:
    """The same, and nothing that is raised ends it."""
    with _run(path, token):
        until = time.monotonic() + 10 + seconds
        while time.monotonic() < until:
            with suppress(BaseException):
                time.sleep(until - time.monotonic())
    return token


async def await_work(path: str, token: str, seconds: float) -> str:
    with _run(path, token):
        await _await_work(path, token, seconds)
    return token


async def await_remember(path: str, token: str, seconds: float) -> str:
    with _run(path, token):
        await _await_work(path, token, seconds)
        await asyncio.to_thread(_write_meta, token)
    return token


async def fail_at_times_and_await(path: str, token: str, seconds: float) -> str:
    with _run(path, token):
        await _await_work(path, token, seconds)
        if random.random() < 0.5:
            raise ConnectionError("at times")
    return token


def _work(path: str, token: str, seconds: float) -> None:
    if seconds:  # those that do nothing make no call either, and stay short enough for batches
        _look_at_meta(path, token)
        time.sleep(seconds)


async def _await_work(path: str, token: str, seconds: float) -> None:
    if seconds:
        # in a thread: where the network is cut, it would hold up the other coroutines of the process
        await asyncio.to_thread(_look_at_meta, path, token)
        await asyncio.sleep(seconds)


def _look_at_meta(path: str, token: str) -> None:
    job = get_current_job()
    # deleted or cut off meanwhile: what this is about is seen in the others
    with suppress(ServerUnavailable, NoSuchJobError):
        for name, seen in (job.get_meta() if job else {}).items():
            # a run that was cut off may find the next life of its own id
            if job_of(seen) != job_of(token):
                append(path, f"{WRONG} {token} finds {name} of {seen} in its meta")


def _write_meta(token: str) -> None:
    job = get_current_job()
    with suppress(ServerUnavailable, NoSuchJobError):
        if job is not None:
            job.meta["seen_by"] = token
            job.save_meta()
