"""AsyncQueue and AsyncJob have what Queue and Job have: the same names, parameters and docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from minirq import Job, Queue
from minirq.aio import AsyncJob, AsyncQueue
from minirq.aio.typing import AsyncEnqueue
from minirq.client.typing import Enqueue

#: what only the asyncio twin has
OWN = {"close"}
#: what needs no waiting: said of the object itself, or of the record that was read
PLAIN = {
    Queue: {"connection", "namespace", "prepare_data"},
    Job: {
        "attempts",
        "created_at",
        "ended_at",
        "enqueued_at",
        "lost",
        "meta",
        "started_at",
        "worker_name",
    },
}
SPECIAL = {"__iter__": "__aiter__"}
TWINS = [(Queue, AsyncQueue), (Job, AsyncJob)]


def members(kind: type) -> dict[str, Any]:
    names = [name for name in dir(kind) if not name.startswith("_")] + [
        n for n in SPECIAL if hasattr(kind, n)
    ]
    return {name: inspect.getattr_static(kind, name) for name in names}


def function_of(member: Any) -> Any:
    return member.fget if isinstance(member, property) else getattr(member, "__func__", member)


def shape_of(member: Any) -> str:
    """The signature with annotations and defaults, without what may differ."""
    text = str(inspect.signature(function_of(member)))
    text = re.sub(r"\bredis\.Redis\b", "Redis", text)
    return re.sub(r"\bAsync(Job|Queue|Iterator)\b", r"\1", text)


PAIRS = [
    pytest.param(sync, twin, name, id=f"{sync.__name__}.{name}")
    for sync, twin in TWINS
    for name in members(sync)
]


@pytest.mark.parametrize(("sync", "twin"), TWINS)
def test_the_names_are_the_same(sync: type, twin: type) -> None:
    assert set(members(twin)) - OWN == set(members(sync)) - set(SPECIAL)
    assert all(hasattr(twin, SPECIAL[name]) for name in members(sync) if name in SPECIAL)


@pytest.mark.parametrize(("sync", "twin", "name"), PAIRS)
def test_parameters_and_docstrings_are_the_same(sync: type, twin: type, name: str) -> None:
    ours, theirs = members(sync)[name], inspect.getattr_static(twin, SPECIAL.get(name, name))
    assert shape_of(theirs) == shape_of(ours)
    assert function_of(theirs).__doc__ == function_of(ours).__doc__


@pytest.mark.parametrize(("sync", "twin", "name"), PAIRS)
def test_what_may_ask_redis_is_awaited(sync: type, twin: type, name: str) -> None:
    member = inspect.getattr_static(twin, SPECIAL.get(name, name))
    function = function_of(member)
    is_awaited = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    assert is_awaited is (name not in PLAIN[sync])


def test_the_constructors_are_the_same() -> None:
    assert shape_of(AsyncQueue.__init__) == shape_of(Queue.__init__)


def test_the_types_of_enqueue_are_the_same() -> None:
    ours, theirs = inspect.getsource(Enqueue), inspect.getsource(AsyncEnqueue)
    assert ours.count("@overload") > 10
    same = theirs.replace("async def", "def").replace("AsyncJob", "Job").replace("Async", "")
    assert "".join(same.split()) == "".join(ours.split())  # lines are broken where they are too long
