"""Sends calls over a blocking redis-py client, and repeats what may be repeated.

Every call acts once however often it is sent, so a lost reply is answered by sending again. What is
never sent from here: blocking commands, which have connections of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import redis
from redis.exceptions import NoScriptError, RedisError

from minirq.calls import Call
from minirq.connection.connect import safe_url
from minirq.connection.faults import is_passing, translate
from minirq.exceptions import MinirqError, QueueFull, ServerFault

T = TypeVar("T")
R = TypeVar("R")

#: an application is not kept waiting for longer than this by a server that comes and goes, seconds
PATIENCE = 3.0
_FIRST_PAUSE = 0.05


class Sender:
    """Calls in, replies out. Thread-safe as far as the client is (redis-py's pools are)."""

    def __init__(self, client: redis.Redis, *, patience: float = PATIENCE) -> None:
        self.client = client
        self.patience = patience

    def send(self, call: Call[T]) -> T:
        """Send one call and return what its reader makes of the reply.

        Raises ServerUnavailable when the server stays away for `patience` seconds, AccessDenied,
        or QueueFull.
        """
        return self._persist(call.name, lambda: call.read(self._once(call)))

    def send_all(self, calls: Sequence[Call[T]]) -> list[T]:
        """Send several calls in one round trip; the replies in order. Raises as `send`."""
        if not calls:
            return []
        name = calls[0].name
        return self._persist(name, lambda: self._pipelined(calls))

    def send_each(self, calls: Sequence[Call[T]]) -> list[T | ServerFault | QueueFull]:
        """Send several calls in one round trip; an error that the server answers one with is its reply."""
        return self._persist(calls[0].name, lambda: self._answered(calls)) if calls else []

    def run(self, steps: Generator[Any, Any, T]) -> T:
        """Drive a procedure: send what it yields, hand it the replies, return what it returns."""
        try:
            request = next(steps)
            while True:
                reply = self.send_all(request) if isinstance(request, list) else self.send(request)
                request = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def _once(self, call: Call[Any]) -> Any:
        try:
            return self.client.execute_command(*call.command)
        except NoScriptError:
            self._load(call)
            return self.client.execute_command(*call.command)

    def _pipelined(self, calls: Sequence[Call[T]]) -> list[T]:
        results = []
        for call, reply in zip(calls, self._replies(calls), strict=True):
            try:
                results.append(self._result(call, reply))
            except RedisError as error:
                if is_passing(error):
                    raise
                raise translate(error, call.name, safe_url(self.client)) from error
        return results

    def _answered(self, calls: Sequence[Call[T]]) -> list[T | ServerFault | QueueFull]:
        results: list[T | ServerFault | QueueFull] = []
        for call, reply in zip(calls, self._replies(calls), strict=True):
            try:
                results.append(self._result(call, reply))
            except RedisError as error:
                said = translate(error, call.name, safe_url(self.client))
                if not isinstance(said, (ServerFault, QueueFull)):
                    raise
                results.append(said)
        return results

    def _replies(self, calls: Sequence[Call[Any]]) -> list[Any]:
        pipe = self.client.pipeline(transaction=False)
        for call in calls:
            pipe.execute_command(*call.command)
        return pipe.execute(raise_on_error=False)

    def _result(self, call: Call[T], reply: Any) -> T:
        if isinstance(reply, NoScriptError):
            reply = self._once(call)
        elif isinstance(reply, Exception):
            raise reply
        return call.read(reply)

    def _load(self, call: Call[Any]) -> None:
        assert call.script is not None
        self.client.execute_command("SCRIPT", "LOAD", call.script.text)

    def _persist(self, name: str, attempt: Callable[[], R]) -> R:
        deadline = time.monotonic() + self.patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return attempt()
            except MinirqError:  # some of them are OSErrors too
                raise
            except (RedisError, OSError) as error:
                if is_passing(error) and time.monotonic() + pause < deadline:
                    time.sleep(pause)
                    pause *= 2
                    continue
                raise translate(error, name, safe_url(self.client)) from error
