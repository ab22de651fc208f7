"""How a payload becomes a call, and a result or an exception an outcome.

`read` looks at the envelope, `prepare` finds the function and its arguments, `run` calls it inside a guard
that may interrupt it. The executor knows no Redis.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import wraps
from types import CoroutineType
from typing import Any

from minirq.exceptions import (
    DeserializationError,
    FunctionNotFound,
    FunctionRefused,
    JobTimeoutException,
    MinirqError,
    SerializationError,
)
from minirq.protocol import payload
from minirq.protocol.commands import Claimed
from minirq.protocol.function import Permissions, resolve_function
from minirq.protocol.payload import DEFAULT_OPTIONS, Payload
from minirq.protocol.serializers import Serializer, resolve_serializer
from minirq.text import counted
from minirq.worker.interrupts import TIMEOUT, BaseDeathPenalty, Guard
from minirq.worker.outcome import Failed, Finished, FunctionUnknown, Outcome, Task, after_error, describe
from minirq.worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

#: how long the tasks that a job left behind may take to end, seconds
_LEFTOVER_GRACE = 1.0


class Executor:
    """Runs jobs one after the other in this thread. `penalty` bounds functions in place of the guard."""

    def __init__(self, settings: WorkerSettings, penalty: type[BaseDeathPenalty] | None = None) -> None:
        self._settings = settings
        self._worker = settings.name
        self._penalty = penalty
        self._pid = os.getpid()
        self._permissions = Permissions(settings.allow, settings.only, settings.paths)
        self._functions: dict[str, tuple[Callable[..., Any], bool]] = {}
        self._runner: asyncio.Runner | None = None

    def read(self, claimed: Claimed) -> Payload | Failed:
        """Read the envelope; Failed if it is damaged. Nothing of the application is run or imported."""
        try:
            return payload.decode(claimed.payload, self._settings.max_payload)
        except DeserializationError as error:
            return Failed(describe(error, self._worker), DEFAULT_OPTIONS.failure_ttl)

    def prepare(self, claimed: Claimed, envelope: Payload) -> Task | Failed | FunctionUnknown:
        """Make a job ready to run, or return why it cannot run. Its module is imported here."""
        timeout = envelope.options.timeout
        try:
            function, is_coroutine = self._function(envelope.function)
            serializer = self._serializer(envelope.serializer)
            instance, args, kwargs = _read_call(serializer.loads(envelope.blob))
        except (FunctionNotFound, FunctionRefused) as error:
            return FunctionUnknown(describe(error, self._worker), self._settings.miss_window)
        except BaseException as error:  # bad bytes, or an unpickled class of the application raised
            return Failed(describe(error, self._worker), envelope.options.failure_ttl)
        if instance is not None:
            args = (instance, *args)
        if self._penalty is not None and not is_coroutine:
            function, timeout = _bounded(function, self._penalty, timeout), -1
        return Task(claimed, envelope.options, serializer, function, is_coroutine, args, kwargs, timeout)

    def run(self, task: Task, guard: Guard) -> Outcome:
        """Run a job inside a guard. Whatever it raises is an outcome; nothing gets past here."""
        try:
            with guard.within(task.timeout):
                result = task.function(*task.args, **task.kwargs)
                if task.is_coroutine or (type(result) is CoroutineType and self._penalty is None):
                    result = self._await(result, guard)
            if (
                type(result) is CoroutineType
            ):  # the penalty bounded the call that returned it, and nothing else
                with guard.within(task.options.timeout):
                    result = self._await(result, guard)
            if os.getpid() != self._pid:
                os._exit(0)  # the job has forked, and its copy must not go on as a worker
        except BaseException as error:
            return self.failed(task, error, guard)
        return self.finished(task, result, guard)

    def failed(self, task: Task, error: BaseException, guard: Guard) -> Outcome:
        """Return the outcome of a run that raised an exception."""
        if os.getpid() != self._pid:
            os._exit(1)
        return guard.ends_as(after_error(error, describe(error, self._worker), task.claimed, task.options))

    def finished(self, task: Task, result: Any, guard: Guard) -> Outcome:
        """Return the outcome of a run that returned."""
        ttl = task.options.result_ttl
        if result is None:
            return Finished(b"", ttl)
        try:
            blob = task.serializer.dumps(result, "the result")
            if len(blob) <= self._settings.max_payload:
                return Finished(blob, ttl)
            raise SerializationError(
                f"it takes {len(blob):,} bytes, and {self._settings.max_payload:,} are kept at most:"
                " store it elsewhere and return where it is"
            )
        except MinirqError as error:
            # it ran, so it is not run again: only its result cannot be kept
            refused = type(error)(f"the job has done its work, but its result cannot be kept: {error}")
        except BaseException as error:
            return self.failed(task, error, guard)
        return guard.ends_as(Failed(describe(refused, self._worker), task.options.failure_ttl))

    def close(self) -> None:
        """Close the event loop that was kept between jobs."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _await(self, coroutine: Coroutine[Any, Any, Any], guard: Guard) -> Any:
        """Run a coroutine on a loop that is made when the first one comes, and kept."""

        async def attended() -> Any:
            try:
                return await attend(coroutine, guard)
            finally:
                await cancel_leftovers("a job", asyncio.all_tasks() - {asyncio.current_task()})

        guard.is_awaiting = True
        try:
            if self._runner is None:
                self._runner = asyncio.Runner()
            # a runner keeps the first context that it meets, and with it the first job
            return self._runner.run(attended(), context=copy_context())
        finally:
            guard.is_awaiting = False

    def _serializer(self, name: str) -> Serializer:
        serializer = resolve_serializer(name)
        if name not in self._settings.accept:
            raise DeserializationError(
                f"the arguments are written with {name}, which this worker does not read:"
                f" start it with --accept {name} if you trust everybody who writes to this Redis"
            )
        return serializer

    def _function(self, name: str) -> tuple[Callable[..., Any], bool]:
        """Find a function, and whether it makes coroutines."""
        known = self._functions.get(name)
        if known is None:
            function = resolve_function(name, self._permissions)
            known = self._functions[name] = (function, inspect.iscoroutinefunction(function))
        return known


async def attend(coroutine: Coroutine[Any, Any, Any], guard: Guard) -> Any:
    """Await a job's coroutine as the task that the guard cancels; a timeout is a JobTimeoutException."""
    guard.atask = asyncio.current_task()
    try:
        if guard.cause is not None:  # it came before the coroutine began
            coroutine.close()
            raise asyncio.CancelledError
        return await coroutine
    except asyncio.CancelledError as error:
        if guard.cause is TIMEOUT:
            raise JobTimeoutException(guard.message).with_traceback(error.__traceback__) from None
        raise
    finally:
        guard.atask = None


async def cancel_leftovers(whose: str, leftovers: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks that a job has left behind, let them end, and log it."""
    if leftovers:
        tasks = counted(len(leftovers), "unfinished task", "unfinished tasks")
        logger.warning("%s left %s behind, which will be cancelled", whose, tasks)
        for task in leftovers:
            task.cancel()
        with suppress(asyncio.CancelledError):  # an interruption that came late
            await asyncio.wait(leftovers, timeout=_LEFTOVER_GRACE)


def _bounded(
    function: Callable[..., Any], penalty: type[BaseDeathPenalty], timeout: float
) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with penalty(timeout, JobTimeoutException):
            return function(*args, **kwargs)

    return call


def _read_call(call: object) -> tuple[object, tuple[Any, ...], dict[str, Any]]:
    # not a match statement, which takes several times as long
    if isinstance(call, (list, tuple)) and len(call) == 3:
        instance, args, kwargs = call
        are_kinds_right = isinstance(args, (list, tuple)) and isinstance(kwargs, dict)
        if are_kinds_right and (not kwargs or all(isinstance(name, str) for name in kwargs)):
            return instance, tuple(args), kwargs
    raise DeserializationError("the arguments are not (instance or None, args, kwargs)")
