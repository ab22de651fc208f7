"""How many files of the package one act enters: what a reader has to open to follow it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis as redis_py
from jobs import add

import minirq
from minirq import Queue, SimpleWorker

PACKAGE = str(Path(minirq.__file__).parent)

_entered: list[str] = []


@pytest.fixture
def queue(redis: redis_py.Redis) -> Queue:
    return Queue(connection=redis)


def _note(frame: FrameType, event: str, _: Any) -> None:
    file = frame.f_code.co_filename
    if event == "call" and file.startswith(PACKAGE):
        room = file.removeprefix(PACKAGE + "/")
        if room not in _entered:
            _entered.append(room)


def start_tracing() -> None:
    _entered.clear()
    sys.setprofile(_note)


def stop_tracing() -> None:
    sys.setprofile(None)


def test_one_enqueue_enters_few_files(queue: Queue) -> None:
    queue.enqueue(add, 1, 2)
    start_tracing()
    queue.enqueue(add, 1, 2)
    stop_tracing()
    assert 2 < len(_entered) <= 11, " ".join(_entered)


def test_the_run_of_a_short_job_enters_few_files(queue: Queue, redis: redis_py.Redis) -> None:
    for _ in range(20):
        queue.enqueue(add, 1, 2)
    queue.enqueue(start_tracing)
    queue.enqueue(stop_tracing)
    SimpleWorker([queue], connection=redis).work(burst=True)
    assert 2 < len(_entered) <= 18, " ".join(_entered)
