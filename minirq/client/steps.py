"""How one definition of an operation serves a blocking class and an asyncio class.

An operation is written once, in a class such as `JobBase`, as a generator that yields calls (or lists of
calls) and is sent the replies. Of each, a class that derives from `Blocking` gets a method, and a class that
derives from `Asyncio` a coroutine method, with the same name, parameters and docstring. A `question` is an
operation without parameters: a property of the blocking class, a coroutine method of the asyncio class.

Type checkers see all that in `__get__`; at run time the methods are made when such a class is defined.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from minirq.protocol.queries import Steps

P = ParamSpec("P")
R = TypeVar("R")


class Blocking:
    """A class whose operations return when they are done."""

    _store: Any

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, definition, method in _methods(cls, _blocking):
            setattr(cls, name, property(method) if isinstance(definition, question) else method)

    def _run(self, steps: Steps[R]) -> R:
        result: R = self._store.sender.run(steps)
        return result


class Asyncio:
    """A class whose operations are awaited."""

    _store: Any

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, _, method in _methods(cls, _asyncio):
            setattr(cls, name, method)

    async def _run(self, steps: Steps[R]) -> R:
        result: R = await self._store.run(steps)
        return result


class operation(Generic[P, R]):
    """An operation. Others include it by its generator: `yield from JobBase.cancel.steps(job)`."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[R]]) -> None:
        self.steps = _with_result(steps)

    @overload
    def __get__(self, instance: None, owner: type[Blocking]) -> Callable[Concatenate[Any, P], R]: ...
    @overload
    def __get__(
        self, instance: None, owner: type[Asyncio]
    ) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __get__(self, instance: Blocking, owner: type) -> Callable[P, R]: ...
    @overload
    def __get__(self, instance: Asyncio, owner: type) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    def __get__(self, instance: object, owner: type) -> Any:
        return self


class question(Generic[R]):
    """An operation without parameters."""

    def __init__(self, steps: Callable[[Any], Steps[R]]) -> None:
        self.steps = _with_result(steps)

    @overload
    def __get__(self, instance: Blocking, owner: type) -> R: ...
    @overload
    def __get__(self, instance: Asyncio, owner: type) -> Callable[[], Coroutine[Any, Any, R]]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    def __get__(self, instance: object, owner: type) -> Any:
        return self


def _methods(cls: type, make: Callable[[Any], Any]) -> list[tuple[str, Any, Any]]:
    """Make a method for each definition that the class has: its name, the definition, the method."""
    made = []
    for name in dir(cls):
        definition = getattr(cls, name, None)
        if isinstance(definition, (operation, question)):
            method = make(definition.steps)
            method.__qualname__ = f"{cls.__qualname__}.{name}"
            made.append((name, definition, method))
    return made


def _blocking(steps: Callable[..., Steps[Any]]) -> Any:
    @wraps(steps)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._run(steps(self, *args, **kwargs))

    return method


def _asyncio(steps: Callable[..., Steps[Any]]) -> Any:
    @wraps(steps)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._run(steps(self, *args, **kwargs))

    return method


def _with_result(steps: Any) -> Any:
    """Annotate the generator with its result, which is what the methods return, for `help()`."""
    steps.__annotations__["return"] = steps.__annotations__["return"].removeprefix("Steps[").removesuffix("]")
    return steps
