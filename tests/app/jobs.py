"""Functions that the tests run as jobs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from minirq import get_current_job
from minirq.current import running


def add(a: int, b: int = 0) -> int:
    return a + b


def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


def fail(message: str = "no") -> None:
    raise ValueError(message)


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


async def async_add(a: int, b: int) -> int:
    await asyncio.sleep(0.001)
    return a + b


async def async_nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


def return_a_nap(seconds: float) -> Coroutine[Any, Any, None]:
    """A plain function, as decorators make them of coroutine functions."""
    return async_nap(seconds)


async def leave_tasks() -> str:
    asyncio.get_running_loop().create_task(asyncio.sleep(60))
    return "left"


def append(path: str, line: str) -> None:
    """Leave a trace that counts: one short append is atomic."""
    with Path(path).open("a") as file:
        file.write(line + "\n")


def append_and_nap(path: str, line: str, seconds: float) -> None:
    append(path, line)
    time.sleep(seconds)


def append_and_die(path: str, line: str, number: int = signal.SIGKILL) -> None:
    append(path, line)
    os.kill(os.getpid(), number)
    time.sleep(60)


def append_or_die(path: str, line: str) -> None:
    """Short, and deadly in one case."""
    append(path, line)
    if line == "die":
        os.kill(os.getpid(), signal.SIGKILL)


def die_once(path: str) -> str:
    append(path, "run")
    if len(Path(path).read_text().splitlines()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def fail_times(path: str, times: int) -> int:
    append(path, "run")
    runs = len(Path(path).read_text().splitlines())
    if runs <= times:
        raise ConnectionError(f"run {runs}")
    return runs


def quick_exit(code: int) -> None:
    os._exit(code)


def leave(code: int) -> None:
    sys.exit(code)


def interrupt() -> None:
    raise KeyboardInterrupt


def ignore_everything(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(BaseException):
            time.sleep(until - time.monotonic())


def block_alarm_and_nap(seconds: float) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(seconds)


def unserializable() -> object:
    return object()


def recurse() -> None:
    recurse()


def progress(gate: str) -> str:
    job = get_current_job()
    assert job is not None
    job.meta["percent"] = 50
    job.save_meta()
    until = time.monotonic() + 20
    while not Path(gate).exists() and time.monotonic() < until:
        time.sleep(0.01)
    return job.id


_mark: ContextVar[str] = ContextVar("mark", default="")


def know_myself(runs: int) -> list[Any]:
    """Fail until there have been so many runs; then say who and what this code finds itself to be."""
    job = get_current_job()
    assert job is not None
    here = running.get()
    assert here is not None
    if here.run < runs:
        raise ConnectionError("once more")
    job.meta["seen by"] = job.id
    job.save_meta()
    others, _ = _mark.get(), _mark.set(job.id)
    return [job.id, here.run, job.meta["name"], others, os.getpid()]


async def know_myself_and_await(runs: int) -> list[Any]:
    await asyncio.sleep(0)
    return know_myself(runs)


def know_myself_and_hand_out(runs: int) -> Any:
    return know_myself_and_await(runs)


def current_id() -> str | None:
    job = get_current_job()
    return job.id if job else None


class Greeter:
    def __init__(self, greeting: str = "hello") -> None:
        self.greeting = greeting

    def greet(self, name: str) -> str:
        self.greeting += "!"
        return f"{self.greeting} {name}"

    def __call__(self, name: str) -> str:
        return f"called {name}"

    @staticmethod
    def shout(name: str) -> str:
        return name.upper()

    @classmethod
    def whisper(cls, name: str) -> str:
        return f"{cls.__name__} {name.lower()}"


def start_a_sleeper_and_die(path: str) -> None:
    import subprocess

    sleeper = subprocess.Popen(["sleep", "60"])
    append(path, str(sleeper.pid))
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def ignore_nothing(seconds: float) -> None:
    """Take time in small steps, so that an exception from another thread gets in."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


def my_pid() -> int:
    return os.getpid()


_kept: list[bytes] = []


def grow(size: int) -> None:
    _kept.append(b"x" * size)


def fork_and_return(path: str) -> str:
    os.fork()
    append(path, str(os.getpid()))
    return "returned"


def spin(seconds: float) -> None:
    """Keep the interpreter busy, as a job that computes does."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def nothing() -> None:
    pass


def sometimes_long(path: str, seconds: float) -> None:
    """Short, unless the file exists."""
    if Path(path).exists():
        Path(path).unlink()
        append(path + ".started", "x")
        time.sleep(seconds)


def large(size: int) -> bytes:
    return b"x" * size


def fail_slowly(path: str, seconds: float) -> str:
    append(path, "run")
    if len(Path(path).read_text().splitlines()) > 1:
        return "second"
    time.sleep(seconds)
    raise ValueError("first")


def trace_how_it_ends(path: str, seconds: float) -> str:
    """Run Python code for so long, and leave a line that says how that ended."""
    append(path, "started")
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            time.sleep(0.005)
    except BaseException as error:
        append(path, type(error).__name__)
        raise
    append(path, "returned")
    return "returned"


def nap_and_trace_how_it_ends(path: str, seconds: float) -> str:
    append(path, "started")
    try:
        time.sleep(seconds)
    except BaseException as error:
        append(path, type(error).__name__)
        raise
    return "returned"


async def await_and_trace_how_it_ends(path: str, seconds: float) -> str:
    append(path, "started")
    try:
        await asyncio.sleep(seconds)
    except BaseException as error:
        append(path, type(error).__name__)
        raise
    return "returned"


def swallow_one_and_return(path: str) -> str:
    append(path, "started")
    with contextlib.suppress(BaseException):
        time.sleep(30)
    return "returned"


def turn_it_into_an_error(path: str) -> None:
    append(path, "started")
    try:
        time.sleep(30)
    except BaseException as error:
        raise ValueError("something else") from error


def trace_and_ignore_everything(path: str, seconds: float) -> None:
    append(path, "started")
    ignore_everything(seconds)


async def await_and_ignore_everything(path: str, seconds: float) -> None:
    append(path, "started")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(until - time.monotonic())


def hold_the_interpreter(path: str) -> None:
    """A call in C that no exception gets into."""
    import re

    append(path, "started")
    re.match(r"(a+)+$", "a" * 64 + "b")


def cancel_myself() -> None:
    job = get_current_job()
    assert job is not None
    job.cancel()
    time.sleep(30)


def clean_up_slowly(path: str) -> None:
    append(path, "started")
    try:
        time.sleep(30)
    finally:
        append(path, "cleaning")
        time.sleep(0.3)
        append(path, "cleaned")


async def clean_up_slowly_and_await(path: str) -> None:
    append(path, "started")
    try:
        await asyncio.sleep(30)
    finally:
        append(path, "cleaning")
        await asyncio.sleep(0.3)
        append(path, "cleaned")


def meet(folder: str, count: int) -> str | None:
    """Wait until so many of these run at once, and return the id that this code finds itself in."""
    job = get_current_job()
    assert job is not None
    (Path(folder) / job.id).touch()
    until = time.monotonic() + 10
    while len(list(Path(folder).iterdir())) < count and time.monotonic() < until:
        time.sleep(0.005)
    return current_id() if time.monotonic() < until else None


async def meet_and_await(folder: str, count: int) -> str | None:
    job = get_current_job()
    assert job is not None
    (Path(folder) / job.id).touch()
    until = time.monotonic() + 10
    while len(list(Path(folder).iterdir())) < count and time.monotonic() < until:
        await asyncio.sleep(0.005)

    async def inner() -> str | None:
        return current_id()

    return await asyncio.create_task(inner()) if time.monotonic() < until else None


def count_those_that_run(path: str, seconds: float) -> None:
    append(path, "+")
    time.sleep(seconds)
    append(path, "-")


async def count_those_that_run_and_await(path: str, seconds: float) -> None:
    append(path, "+")
    await asyncio.sleep(seconds)
    append(path, "-")


def begin_and_end(path: str, name: str, seconds: float) -> None:
    append(path, "+" + name)
    time.sleep(seconds)
    append(path, "-" + name)


async def begin_and_end_and_await(path: str, name: str, seconds: float) -> None:
    append(path, "+" + name)
    await asyncio.sleep(seconds)
    append(path, "-" + name)


async def block_the_loop(seconds: float) -> None:
    await asyncio.sleep(0)
    time.sleep(seconds)


def hand_out_a_coroutine(a: int, b: int) -> Any:
    return async_add(a, b)


async def fail_and_await(message: str = "no") -> None:
    await asyncio.sleep(0)
    raise ValueError(message)


async def die_once_and_await(path: str) -> str:
    await asyncio.sleep(0)
    return die_once(path)


async def cancel_all_tasks(path: str) -> None:
    append(path, "started")
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0)


async def spawn_one_that_exits() -> str:
    asyncio.get_running_loop().call_later(0.01, sys.exit, 3)
    await asyncio.sleep(0.1)
    return "still here"


def change_folder(folder: str) -> None:
    os.chdir(folder)


def move_to(zone: str) -> None:
    os.environ["TZ"] = zone
    time.tzset()
