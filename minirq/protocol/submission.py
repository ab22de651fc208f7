"""How a call of `enqueue` becomes a job: its function, arguments and options, checked, as payload and record.

RQ's reserved keywords are taken out of a call here, for every kind of queue. No I/O.
"""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import wraps
from inspect import signature
from math import inf
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast

from minirq.durations import Duration, parse_duration
from minirq.exceptions import InvalidOption, SerializationError
from minirq.protocol.commands import Argument, NewJob, milliseconds
from minirq.protocol.defaults import LEAST_KEPT, RESULT_TTL, TOMBSTONE
from minirq.protocol.function import callers, is_foreign, name_function
from minirq.protocol.keys import check_job_id
from minirq.protocol.payload import DEFAULT_OPTIONS, JobOptions, Payload
from minirq.protocol.serializers import Serializer
from minirq.retry import Retry
from minirq.text import safe_repr

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

Function = Callable[..., Any] | str
#: what follows the death of a job's process: up to 2 more runs, none, or up to so many
OnWorkerLost = Literal["retry", "fail"] | int

#: a job that takes down one process after the other must end some time
MOST_LOSSES = 100

#: RQ's keywords that minirq does not have: as arguments of the function they would be accepted in silence
MISSING = frozenset({
    "depends_on", "on_failure", "on_stopped", "on_success", "pipeline", "repeat", "unique", "webhooks",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class JobDefaults:
    """The options of a queue for calls that do not give them, and the most bytes of a payload or of meta."""

    serializer: Serializer
    max_payload: int
    timeout: Duration | None = None
    on_worker_lost: OnWorkerLost | None = None


@dataclass(slots=True)  # not frozen: made for every job
class Submission:
    """A call to be enqueued. Durations are in any form that `parse_duration` reads.

    Fields: `func`, `args`, `kwargs`; `timeout` (180 s; -1 none), `result_ttl` (500 s; 0 keeps nothing,
    -1 for ever), `ttl` (none: it never expires), `failure_ttl` (30 days), `description`, `job_id`,
    `at_front`, `meta`, `retry`, `on_worker_lost` ("retry": up to 2 more runs after deaths of its process;
    "fail": none; or how many).
    """

    func: Function
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    timeout: Duration | None = None
    result_ttl: Duration | None = None
    ttl: Duration | None = None
    failure_ttl: Duration | None = None
    description: str | None = None
    job_id: str | None = None
    at_front: bool = False
    meta: Mapping[str, Any] | None = None
    retry: Retry | None = None
    on_worker_lost: OnWorkerLost | None = None

    @classmethod
    def of_call(cls, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Submission:
        """Take RQ's reserved keywords out of a call; `args=` and `kwargs=` are then the call's arguments."""
        if not kwargs:
            return cls(func, args)
        if unknown := MISSING.intersection(kwargs):
            way_out = "if it is the function's own argument, pass it with kwargs={...}"
            raise InvalidOption(f"minirq has no {', '.join(sorted(unknown))} as RQ has it; {way_out}")
        options = {name: kwargs.pop(name) for name in RESERVED.intersection(kwargs)}
        if "job_timeout" in options:
            options["timeout"] = options.pop("job_timeout")
        if "args" in kwargs or "kwargs" in kwargs:
            explicit_args, explicit_kwargs = kwargs.pop("args", None), kwargs.pop("kwargs", None)
            if args or kwargs:
                raise InvalidOption("give the arguments either with args= and kwargs=, or in the call itself")
            args, kwargs = tuple(explicit_args or ()), dict(explicit_kwargs or {})
        return cls(func, args, kwargs, **options)

    def job(self, defaults: JobDefaults) -> NewJob:
        """Make the job; the queue's defaults apply to options that the call does not give.

        Raises InvalidOption, UnnamedFunction or SerializationError, before any I/O.
        """
        serializer, max_payload = defaults.serializer, defaults.max_payload
        name, instance = name_function(self.func, allow_instance=serializer.name == "pickle")
        if name not in _looked_at:
            _warn_of_foreign(self.func, name)
        job_id = _new_id() if self.job_id is None else check_job_id(self.job_id)
        options = self._options(defaults)
        payload = Payload(
            id=job_id,
            function=name,
            serializer=serializer.name,
            blob=serializer.dumps([instance, list(self.args or ()), dict(self.kwargs or {})], _ITEMS),
            options=options,
        ).encode()
        meta = serializer.dumps(dict(self.meta), "meta") if self.meta else b""
        if len(payload) > max_payload or len(meta) > max_payload:
            what, size = ("meta", len(meta)) if len(meta) > max_payload else ("the arguments", len(payload))
            raise SerializationError(
                f"{what} of {name}: {size:,} bytes, and {max_payload:,} are allowed:"
                " store the data elsewhere and pass where it is (or set MINIRQ_MAX_PAYLOAD)"
            )
        record = record_fields(name, serializer.name, options)
        if meta:
            record["meta"] = meta
        return NewJob(
            id=job_id,
            payload=payload,
            nonce="" if self.job_id is None else secrets.token_hex(6),
            place="front" if self.at_front else "queue",
            ttl_ms=None if self.ttl is None else milliseconds(_above_zero(self.ttl, "ttl", unlimited=False)),
            fields=record,
            kept=RESULT_TTL if options is DEFAULT_OPTIONS else _kept(options),
        )

    def _options(self, defaults: JobDefaults) -> JobOptions:
        timeout = defaults.timeout if self.timeout is None else self.timeout
        on_worker_lost = defaults.on_worker_lost if self.on_worker_lost is None else self.on_worker_lost
        if self.retry is not None and not isinstance(self.retry, Retry):
            raise InvalidOption(f"retry is a minirq.Retry, not {type(self.retry).__name__}")
        if self.meta is not None and not isinstance(self.meta, Mapping):
            raise InvalidOption(f"meta is a dict, not {type(self.meta).__name__}")
        if self.description is not None and not isinstance(self.description, str):
            raise InvalidOption(f"description is text, not {type(self.description).__name__}")
        given = (timeout, self.result_ttl, self.failure_ttl, self.description, self.retry, on_worker_lost)
        if given == _NOTHING_GIVEN:
            return DEFAULT_OPTIONS
        return JobOptions(
            timeout=DEFAULT_OPTIONS.timeout if timeout is None else _above_zero(timeout, "job_timeout"),
            result_ttl=_ttl(self.result_ttl, "result_ttl", DEFAULT_OPTIONS.result_ttl),
            failure_ttl=_ttl(self.failure_ttl, "failure_ttl", DEFAULT_OPTIONS.failure_ttl),
            description=self.description,
            retry=self.retry,
            loss_limit=DEFAULT_OPTIONS.loss_limit if on_worker_lost is None else loss_limit(on_worker_lost),
        )


#: keywords of `enqueue` that belong to minirq; the function's own argument of that name goes into `kwargs=`
_OPTIONS = {field.name for field in fields(Submission)} - {"func", "args", "kwargs"}
RESERVED = _OPTIONS - {"timeout"} | {"job_timeout"}


def described_by(
    describe: Callable[P, Submission],
) -> Callable[[Callable[[S, Submission], R]], Callable[Concatenate[S, P], R]]:
    """Give a method that takes a Submission the parameters of this class instead."""

    def decorate(method: Callable[[S, Submission], R]) -> Callable[Concatenate[S, P], R]:
        @wraps(method)
        def described(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
            return method(self, describe(*args, **kwargs))

        own = signature(method)
        [first, _] = own.parameters.values()
        parameters = [first, *signature(describe).parameters.values()]
        described.__dict__["__signature__"] = own.replace(parameters=parameters)
        return cast("Callable[Concatenate[S, P], R]", described)

    return decorate


def _kept(options: JobOptions) -> float:
    ttls = (options.result_ttl, options.failure_ttl)
    return min(inf if ttl == -1 else max(ttl, LEAST_KEPT) if ttl else TOMBSTONE for ttl in ttls)


def record_fields(function: str, serializer: str, options: JobOptions) -> dict[str, Argument]:
    """What a record says of its payload: the function, and what readers and scripts need of the rest.

    That is only what differs from the defaults.
    """
    record: dict[str, Argument] = {"func": function}
    if serializer != "msgpack":
        record["serializer"] = serializer
    if options.failure_ttl != DEFAULT_OPTIONS.failure_ttl:
        record["failure_ttl_ms"] = milliseconds(options.failure_ttl)
    if options.loss_limit != DEFAULT_OPTIONS.loss_limit:
        record["loss_limit"] = options.loss_limit
    return record


def delayed(job: NewJob, delay: Duration) -> NewJob:
    """The same job, to run after a delay, which Redis counts from the moment the job arrives there."""
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    is_past = isinstance(seconds, (int, float)) and seconds < 0
    ms = 0 if is_past else milliseconds(parse_duration(seconds, what="the delay"))
    return replace(job, place="delay", ms=ms)


def at_time(job: NewJob, when: datetime) -> NewJob:
    """The same job, to run at a time; a naive datetime is local time. Raises InvalidOption."""
    if not isinstance(when, datetime):
        raise InvalidOption(f"{safe_repr(when)} is not a datetime; for a delay call enqueue_in")
    return replace(job, place="at", ms=max(milliseconds(when.timestamp()), 0))


#: names of enqueued functions: for each it is checked once whether workers refuse it
_looked_at: set[str] = set()
_MOST_LOOKED_AT = 10_000


def _warn_of_foreign(func: Function, name: str) -> None:
    if len(_looked_at) >= _MOST_LOOKED_AT:  # made-up names
        _looked_at.clear()
    _looked_at.add(name)
    if is_foreign(func):
        depth = 1
        for package in callers():  # up to the application's line
            if package != "minirq":
                break
            depth += 1
        text = f"workers refuse {name}, which is not the application's own, without --allow {name!r}"
        warnings.warn(text, stacklevel=depth)


_NOTHING_GIVEN = (None,) * 6
#: the names of these parts in errors
_ITEMS = ("instance", "args", "kwargs")


def _new_id() -> str:
    # a UUID of version 4, as str(uuid.uuid4()) makes it in three times the time
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _above_zero(value: Duration, what: str, *, unlimited: bool = True) -> float:
    seconds = parse_duration(value, what=what, allow_unlimited=unlimited)
    if seconds == 0:
        no_limit = ", or -1 for no limit" if unlimited else ""
        raise InvalidOption(f"{what} is {value!r}: give seconds above 0{no_limit}")
    return seconds


def _ttl(value: Duration | None, what: str, default: float) -> float:
    return default if value is None else parse_duration(value, what=what, allow_unlimited=True)


def loss_limit(value: OnWorkerLost) -> int:
    """How often a job is run again after its process died. Raises InvalidOption."""
    if value == "retry":
        return DEFAULT_OPTIONS.loss_limit
    if value == "fail":
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_LOSSES:
        often = f"how often it may be run again (0 to {MOST_LOSSES})"
        raise InvalidOption(f"on_worker_lost is {value!r}: give 'retry', 'fail', or {often}")
    return value
