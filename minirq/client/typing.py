"""The types of `enqueue`: for type checkers only, nothing here runs.

A call without minirq's keywords is checked against the function's own signature, and its job carries
the type of the result. With one of the keywords that check is not expressible (a ParamSpec admits no
keywords beside its own), so the call is taken as it stands and its result is Any. Each keyword needs a
signature that requires it: if they were all optional, every wrong call would be accepted too.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from minirq.durations import Duration
    from minirq.job import Job
    from minirq.protocol.submission import Function, OnWorkerLost
    from minirq.retry import Retry

    AnyJob = Job[Any]
    Meta = Mapping[str, Any] | None

P = ParamSpec("P")
T = TypeVar("T")


class Enqueue(Protocol):
    """`Queue.enqueue`."""

    @overload
    def __call__(self, f: Function, *args: Any, job_timeout: Duration, **kwargs: Any) -> AnyJob: ...
    @overload
    def __call__(self, f: Function, *args: Any, result_ttl: Duration, **kwargs: Any) -> AnyJob: ...
    @overload
    def __call__(self, f: Function, *args: Any, ttl: Duration | None, **kwargs: Any) -> AnyJob: ...
    @overload
    def __call__(self, f: Function, *args: Any, failure_ttl: Duration, **kwargs: Any) -> AnyJob: ...
    @overload
    def __call__(self, f: Function, *args: Any, description: str | None, **kwargs: Any) -> AnyJob: ...
    @overload
    def __call__(self, f: Function, *args: Any, job_id: str | None, **kwargs: Any) -> AnyJob: ...
    @overload
    def __call__(self, f: Function, *args: Any, at_front: bool, **kwargs: Any) -> AnyJob: ...
    @overload
    def __call__(self, f: Function, *args: Any, meta: Meta, **kwargs: Any) -> AnyJob: ...
    @overload
    def __call__(self, f: Function, *args: Any, retry: Retry | None, **kwargs: Any) -> AnyJob: ...
    @overload
    def __call__(
        self, f: Function, *args: Any, on_worker_lost: OnWorkerLost | None, **kwargs: Any
    ) -> AnyJob: ...
    @overload
    def __call__(
        self, f: Function, *, args: Sequence[Any], kwargs: Mapping[str, Any] = ..., **options: Any
    ) -> AnyJob: ...
    @overload
    def __call__(self, f: Function, *, kwargs: Mapping[str, Any], **options: Any) -> AnyJob: ...
    @overload
    def __call__(
        self, f: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    def __call__(self, f: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    @overload
    def __call__(self, f: str, *args: Any, **kwargs: Any) -> AnyJob: ...
