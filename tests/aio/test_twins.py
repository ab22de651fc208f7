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

#: said of the object itself, or of the record that was read: it needs no waiting
PLAIN = {"connection", "namespace", "prepare_data", "meta", "attempts", "lost", "worker_name"}
PLAIN |= {"created_at", "enqueued_at", "started_at", "ended_at"}
TWINS = [(Queue, AsyncQueue), (Job, AsyncJob)]


def members(kind: type) -> dict[str, Any]:
    return {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}


def function_of(member: Any) -> Any:
    return member.fget if isinstance(member, property) else getattr(member, "__func__", member)


def shape_of(member: Any) -> str:
    """The signature with annotations and defaults, without what may differ."""
    text = str(inspect.signature(function_of(member)))
    text = re.sub(r"\bredis\.Redis\b", "Redis", text)
    text = re.sub(r"\bAsyncGenerator\[(.*), None\]", r"Generator[\1, None, None]", text)
    return re.sub(r"\bAsync(Job|Queue)\b", r"\1", text)


@pytest.mark.parametrize(("sync", "twin"), TWINS)
def test_names_parameters_and_docstrings_are_the_same(sync: type, twin: type) -> None:
    ours, theirs = members(sync), members(twin)
    assert set(theirs) - {"close"} == set(ours)
    for name, member in ours.items():
        assert (name, shape_of(theirs[name])) == (name, shape_of(member))
        assert (name, function_of(theirs[name]).__doc__) == (name, function_of(member).__doc__)


@pytest.mark.parametrize(("sync", "twin"), TWINS)
def test_what_may_ask_redis_is_awaited(sync: type, twin: type) -> None:
    is_async = [inspect.iscoroutinefunction, inspect.isasyncgenfunction]
    for name, member in members(twin).items():
        assert (name, any(one(function_of(member)) for one in is_async)) == (name, name not in PLAIN)
    for name, member in members(sync).items():
        assert not any(one(function_of(member)) for one in is_async), name


def test_a_method_is_called_what_its_class_calls_it() -> None:
    assert Job.cancel.__qualname__ == "Job.cancel"
    assert AsyncJob.cancel.__qualname__ == "AsyncJob.cancel"
    assert str(inspect.signature(Queue.get_job_ids)) == (
        "(self, offset: 'int' = 0, length: 'int' = -1) -> 'list[str]'"
    )
    assert "timeout: 'Duration | None' = None" in str(inspect.signature(AsyncQueue.enqueue_call))


def test_the_constructors_are_the_same() -> None:
    assert shape_of(AsyncQueue.__init__) == shape_of(Queue.__init__)


def test_the_types_of_enqueue_are_the_same() -> None:
    ours, theirs = inspect.getsource(Enqueue), inspect.getsource(AsyncEnqueue)
    assert ours.count("@overload") > 10
    same = theirs.replace("async def", "def").replace("AsyncJob", "Job").replace("Async", "")
    assert "".join(same.split()) == "".join(ours.split())  # lines are broken where they are too long
