"""The types of `AsyncQueue.enqueue`: the twin of `minirq.client.typing`, which says why there are so many."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from minirq.aio.job import AsyncJob
    from minirq.durations import Duration
    from minirq.protocol.submission import Function, OnWorkerLost
    from minirq.retry import Retry

    AnyJob = AsyncJob[Any]
    Meta = Mapping[str, Any] | None

P = ParamSpec("P")
T = TypeVar("T")


class AsyncEnqueue(Protocol):
    """`AsyncQueue.enqueue`."""

    @overload
    async def __call__(self, f: Function, *args: Any, job_timeout: Duration, **kwargs: Any) -> AnyJob: ...
    @overload
    async def __call__(self, f: Function, *args: Any, result_ttl: Duration, **kwargs: Any) -> AnyJob: ...
    @overload
    async def __call__(self, f: Function, *args: Any, ttl: Duration | None, **kwargs: Any) -> AnyJob: ...
    @overload
    async def __call__(self, f: Function, *args: Any, failure_ttl: Duration, **kwargs: Any) -> AnyJob: ...
    @overload
    async def __call__(self, f: Function, *args: Any, description: str | None, **kwargs: Any) -> AnyJob: ...
    @overload
    async def __call__(self, f: Function, *args: Any, job_id: str | None, **kwargs: Any) -> AnyJob: ...
    @overload
    async def __call__(self, f: Function, *args: Any, at_front: bool, **kwargs: Any) -> AnyJob: ...
    @overload
    async def __call__(self, f: Function, *args: Any, meta: Meta, **kwargs: Any) -> AnyJob: ...
    @overload
    async def __call__(self, f: Function, *args: Any, retry: Retry | None, **kwargs: Any) -> AnyJob: ...
    @overload
    async def __call__(
        self, f: Function, *args: Any, on_worker_lost: OnWorkerLost | None, **kwargs: Any
    ) -> AnyJob: ...
    @overload
    async def __call__(
        self, f: Function, *, args: Sequence[Any], kwargs: Mapping[str, Any] = ..., **options: Any
    ) -> AnyJob: ...
    @overload
    async def __call__(self, f: Function, *, kwargs: Mapping[str, Any], **options: Any) -> AnyJob: ...
    @overload
    async def __call__(
        self, f: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> AsyncJob[T]: ...
    @overload
    async def __call__(self, f: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> AsyncJob[T]: ...
    @overload
    async def __call__(self, f: str, *args: Any, **kwargs: Any) -> AnyJob: ...
