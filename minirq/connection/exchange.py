"""An exchange: which commands are said for calls, and how their replies are told apart. Does no I/O.

A generator yields lists of commands and is sent the lists of replies, in which the server's errors stand
as values. Whoever has a connection drives it, blocking or asyncio.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import NoScriptError, RedisError

from minirq.calls import Argument, Call, Hint, Script
from minirq.connection.connect import safe_url
from minirq.connection.faults import is_passing, translate
from minirq.exceptions import QueueFull, ServerFault

if TYPE_CHECKING:
    from minirq.connection.connect import AnyClient

T = TypeVar("T")
Exchange = Generator[list[tuple[Argument, ...]], list[Any], T]


def one_result(call: Call[T], reply: Any = None) -> Exchange[T]:
    """Say one call; what its reader makes of the reply, or the server's error.

    With an error that was the `reply`, it has been said before.
    """
    if not isinstance(reply, Exception):
        [reply] = yield [call.command]
    if isinstance(reply, NoScriptError) and call.script is not None:
        reply = yield from _loaded(call, call.script)
    if isinstance(reply, Exception):
        raise reply
    return call.result(reply)


def all_results(calls: Sequence[Call[T]], client: AnyClient) -> Exchange[list[T]]:
    """Say several calls; all results, or the first error, in which the call that it answers is named."""
    results: list[Any] = []
    for call, reply in zip(calls, (yield from _replies(calls)), strict=True):
        if isinstance(reply, RedisError) and isinstance(call, Hint):
            results.append(translate(reply, call.name, safe_url(client)))
            continue
        if isinstance(reply, RedisError) and not is_passing(reply):
            raise translate(reply, call.name, safe_url(client)) from reply
        if isinstance(reply, Exception):
            raise reply
        results.append(call.result(reply))
    return results


def each_result(calls: Sequence[Call[T]], client: AnyClient) -> Exchange[list[T | ServerFault | QueueFull]]:
    """Say several calls; an error that the server answers one with is its result, if it is one of these."""
    results: list[T | ServerFault | QueueFull] = []
    for call, reply in zip(calls, (yield from _replies(calls)), strict=True):
        if isinstance(reply, RedisError):
            said = translate(reply, call.name, safe_url(client))
            if not isinstance(said, (ServerFault, QueueFull)):
                raise reply
            results.append(said)
        else:
            results.append(call.result(reply))
    return results


def _replies(calls: Sequence[Call[Any]]) -> Exchange[list[Any]]:
    replies = yield [call.command for call in calls]
    for i, call in enumerate(calls):
        if isinstance(replies[i], NoScriptError) and call.script is not None:
            replies[i] = yield from _loaded(call, call.script)
    return replies


def _loaded(call: Call[Any], script: Script) -> Exchange[Any]:
    [loaded, reply] = yield [("SCRIPT", "LOAD", script.text), call.command]
    return loaded if isinstance(reply, NoScriptError) and isinstance(loaded, Exception) else reply
