"""One task by itself: when its next turn is."""

from __future__ import annotations

import time

import pytest

from minirq.exceptions import ServerFault, ServerUnavailable
from minirq.worker.tasks import ServerClock, Task


def test_a_task_says_when_its_next_turn_is() -> None:
    task = Task(lambda: 60.0)
    task.turn()
    assert 59 < task.due - time.monotonic() <= 60


def test_a_turn_that_is_asked_for_during_a_turn_follows_it() -> None:
    def run() -> float:
        task.due = 0.0
        return 60.0

    task = Task(run)
    task.turn()
    assert task.due == 0.0


def test_a_task_that_fails_is_due_at_once() -> None:
    def run() -> float:
        raise ServerUnavailable("away")

    for task in (Task(run), Task(run, for_others=True)):
        with pytest.raises(ServerUnavailable):
            task.turn()
        assert task.due <= time.monotonic()


def test_an_error_of_redis_postpones_what_is_done_for_others_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def run() -> float:
        raise ServerFault("WRONGTYPE")

    with pytest.raises(ServerFault):
        Task(run).turn()
    task = Task(run, for_others=True)
    for _ in range(2):
        task.turn()
    assert task.due > time.monotonic() + 10
    assert caplog.text.count("WRONGTYPE") == 1


def test_beats_are_steady_after_two_on_time_and_not_while_the_server_clock_jumps() -> None:
    clock = ServerClock(beat=3.0)
    clock.note(1_000_000, 100.0)
    assert clock.steady_at == 106.0
    clock.note(1_003_000, 103.0)
    assert clock.steady_at == 106.0
    clock.note(1_009_500, 106.0)  # 3.5 s ahead of what was expected
    assert clock.steady_at == 112.0
    clock.note(1_016_500, 113.0)  # late
    assert clock.steady_at == 119.0
    clock.distrust()
    clock.note(1_019_500, 116.0)
    assert clock.steady_at == 122.0
