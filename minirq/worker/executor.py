"""Coroutines in a process that runs one job at a time: an event loop that is kept between jobs.

The executor: a claimed payload in, an outcome out. It runs the job's function and knows no Redis.
"""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import Callable, Collection, Coroutine
from contextvars import copy_context
from types import CoroutineType
from typing import TYPE_CHECKING, Any

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
from minirq.worker.interrupts import (
    BaseDeathPenalty,
    Timer,
    UnixSignalDeathPenalty,
    get_default_death_penalty_class,
    timeout_message,
)
from minirq.worker.outcome import Failed, Finished, FunctionUnknown, Outcome, Task, after_error, describe
from minirq.worker.settings import WorkerSettings

if TYPE_CHECKING:
    import asyncio


logger = logging.getLogger(__name__)

#: how long tasks that a job left behind may take to end, seconds
_LEFTOVER_GRACE = 1.0


class CoroutineRunner:
    """Runs coroutines on a loop of its own, made when the first one comes, and kept."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_running = self._is_cancelled = False

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
        """Run to the end or for `timeout` seconds (-1 no limit), then it is cancelled: JobTimeoutException.

        Tasks that it leaves behind are cancelled, and the log says so.
        """
        import asyncio  # 20 ms that a worker of plain functions does not pay

        if self._runner is None:
            self._runner = asyncio.Runner()
        self._is_cancelled, self._is_running = False, True
        try:
            # a runner keeps the first context that it meets, and with it the first job
            return self._runner.run(self._bounded(coroutine, timeout), context=copy_context())
        finally:
            self._is_running = False

    def cancel(self) -> bool:
        """Cancel the coroutine that runs, False if none does. From any thread, or from a signal handler."""
        if not self._is_running:
            return False
        self._is_cancelled = True
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        return True

    def close(self) -> None:
        """Close the loop."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    async def _bounded(self, coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
        import asyncio  # as above

        self._task = asyncio.current_task()
        scope = asyncio.timeout(None if timeout == -1 else timeout)
        try:
            async with scope:
                if self._is_cancelled:
                    coroutine.close()
                    raise asyncio.CancelledError
                return await coroutine
        except TimeoutError:
            if scope.expired():
                raise JobTimeoutException(timeout_message(timeout)) from None
            raise
        finally:
            self._task = None
            await cancel_leftovers("a job", asyncio.all_tasks() - {asyncio.current_task()})


async def cancel_leftovers(whose: str, leftovers: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks that a job has left behind, let them end, and say so in the log."""
    import asyncio  # as above

    if leftovers:
        tasks = counted(len(leftovers), "unfinished task", "unfinished tasks")
        logger.warning("%s left %s behind, which will be cancelled", whose, tasks)
        for task in leftovers:
            task.cancel()
        await asyncio.wait(leftovers, timeout=_LEFTOVER_GRACE)


class Executor:
    """Runs jobs one after the other in this thread, as far as the settings let it."""

    def __init__(self, settings: WorkerSettings, penalty: type[BaseDeathPenalty] | None = None) -> None:
        self._settings = settings
        self._worker = settings.name
        penalty = penalty or get_default_death_penalty_class()
        #: in place of the usual penalty: one timer for all jobs
        self._alarm = Timer() if penalty is UnixSignalDeathPenalty else None
        self._within = penalty if self._alarm is None else self._alarm.within
        self._coroutines = CoroutineRunner()
        self._pid = os.getpid()
        self._permissions = Permissions(settings.allow, settings.only, settings.paths)
        self._functions: dict[str, tuple[Callable[..., Any], bool]] = {}

    def read(self, claimed: Claimed) -> Payload | Failed:
        """Read the envelope, or say why that cannot be. Nothing of the application is run or imported."""
        try:
            return payload.decode(claimed.payload, self._settings.max_payload)
        except DeserializationError as error:
            return Failed(describe(error, self._worker), DEFAULT_OPTIONS.failure_ttl)

    def prepare(self, claimed: Claimed, envelope: Payload) -> Task | Failed | FunctionUnknown:
        """Make a job ready to run, or say why that cannot be. Its module is imported here."""
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
        return Task(claimed, envelope, serializer, function, is_coroutine, args, kwargs)

    def run(self, task: Task) -> Outcome:
        """Run a job within its timeout. Whatever it raises is an outcome; nothing gets past here."""
        try:
            try:
                result = self._call(task)
                if os.getpid() != self._pid:
                    os._exit(0)  # the job has forked, and its copy must not go on as a worker
            except BaseException as error:
                if os.getpid() != self._pid:
                    os._exit(1)
                return after_error(error, describe(error, self._worker), task.claimed, task.options)
            return self._finished(task, result)
        except BaseException as late:  # an interruption that was on its way when the job ended
            return after_error(late, describe(late, self._worker), task.claimed, task.options)

    def put_back_alarm(self) -> bool:
        """Make sure that timeouts ring after a job that may have set alarms of its own; True if it had."""
        return self._alarm is not None and self._alarm.put_back()

    def stop_alarm(self) -> None:
        """Have no alarm ring until the next job sets one."""
        if self._alarm is not None:
            self._alarm.stop()

    def cancel_coroutine(self) -> bool:
        """Cancel the coroutine that runs, False if none does. From any thread, or from a signal handler."""
        return self._coroutines.cancel()

    def close(self) -> None:
        """End what was kept between jobs."""
        self.stop_alarm()
        self._coroutines.close()

    def _call(self, task: Task) -> Any:
        timeout = task.options.timeout
        if task.is_coroutine:
            return self._coroutines.run(task.function(*task.args, **task.kwargs), timeout)
        started = time.monotonic()
        with self._within(timeout):
            result = task.function(*task.args, **task.kwargs)
        if type(result) is CoroutineType:  # a plain function that hands out a coroutine
            left = -1 if timeout == -1 else max(timeout - (time.monotonic() - started), 0.001)
            return self._coroutines.run(result, left)
        return result

    def _finished(self, task: Task, result: Any) -> Finished | Failed:
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
            said = type(error)(f"the job has done its work, but its result cannot be kept: {error}")
            return Failed(describe(said, self._worker), task.options.failure_ttl)

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


def _read_call(call: object) -> tuple[object, tuple[Any, ...], dict[str, Any]]:
    # not a match statement, which takes several times as long
    if isinstance(call, (list, tuple)) and len(call) == 3:
        instance, args, kwargs = call
        are_kinds_right = isinstance(args, (list, tuple)) and isinstance(kwargs, dict)
        if are_kinds_right and (not kwargs or all(isinstance(name, str) for name in kwargs)):
            return instance, tuple(args), kwargs
    raise DeserializationError("the arguments are not (instance or None, args, kwargs)")
