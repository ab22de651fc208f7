"""Queues are shared out among the workers of other queues: each is handed to one of them at a time."""

from __future__ import annotations

import pytest
from stage import Stage

from minirq.protocol import commands, queries
from minirq.protocol.commands import Taken
from minirq.protocol.keys import Keys

KEYS = Keys("minirq-test")
PAUSE = 20.0


def taken(stage: Stage, most: int = 100, also: tuple[str, ...] = ()) -> Taken:
    return stage.send(commands.maintain(KEYS, most=most, pause=PAUSE, also=also))


def due(stage: Stage, **names: int) -> None:
    """Have others look after queues so many ms from now on."""
    for name, ms in names.items():
        stage.send(queries.maintain_from(KEYS, [name], stage.now_ms() + ms))


def test_a_queue_is_handed_to_one_worker_until_the_pause_is_over(stage: Stage) -> None:
    due(stage, q=-1)
    assert taken(stage).names == ["q"]
    second = taken(stage)
    assert second.names == []
    assert PAUSE - 1 < second.next_in <= PAUSE


def test_a_queue_that_its_own_workers_look_after_is_handed_to_nobody(stage: Stage) -> None:
    due(stage, q=5000)
    answer = taken(stage)
    assert answer.names == []
    assert 4 < answer.next_in <= 5


def test_those_that_have_waited_longest_come_first(stage: Stage) -> None:
    due(stage, a=-1, b=-300, c=-200)
    first = taken(stage, most=2)
    assert (first.names, first.next_in) == (["b", "c"], 0)
    assert taken(stage, most=2).names == ["a"]


def test_what_shall_be_in_the_index_is_put_there_and_handed_out(stage: Stage) -> None:
    assert taken(stage, also=("x y",)).names == ["x y"]
    assert taken(stage, also=("x y",)).names == []


@pytest.mark.parametrize("is_new", [True, False])
def test_a_name_that_is_new_to_the_index_is_due_and_an_old_one_stays_as_it_was(
    stage: Stage, is_new: bool
) -> None:
    due(stage, q=5000)
    stage.send(queries.maintain_from(KEYS, ["q", "new"], stage.now_ms() - 1, is_new=is_new))
    assert taken(stage).names == (["new"] if is_new else ["new", "q"])


def test_at_maxmemory_queues_are_handed_out(stage: Stage) -> None:
    due(stage, q=-1)
    stage.client.config_set("maxmemory", 1)
    try:
        assert taken(stage).names == ["q"]
    finally:
        stage.client.config_set("maxmemory", 0)
