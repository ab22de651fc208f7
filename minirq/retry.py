"""Whether and when a failed job is retried: how often, after how long, for which errors."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from minirq.durations import MAX_SECONDS, Duration, parse_duration
from minirq.exceptions import DeserializationError, InvalidOption
from minirq.text import safe_repr, type_name

__all__ = ["Retry"]

_NOT_FILTERED: tuple[str, ...] = ()


@dataclass(frozen=True, init=False)
class Retry:
    """Retry a failed job at most `max` times.

    `interval` is the wait in seconds (or "10s", "5m"), or a list with one wait per retry; the last one
    repeats. With `factor` above 1, the last wait grows by that factor at each further failure, up to `cap`.
    With `jitter`, the wait is a random time between half and the whole of it.

    `only` and `never` are exceptions: classes, or the dotted names under which they are defined
    ("ValueError", "requests.exceptions.ConnectionError"). Subclasses match too, and `never` wins.
    Raises InvalidOption.
    """

    max: int
    intervals: tuple[float, ...]
    enqueue_at_front: bool
    factor: float
    cap: float | None
    jitter: bool
    only: tuple[str, ...]
    never: tuple[str, ...]

    def __init__(  # noqa: PLR0913 - one per field
        self,
        max: int,
        interval: Duration | Sequence[Duration] = 0,
        enqueue_at_front: bool = False,
        *,
        factor: float = 1,
        cap: Duration | None = None,
        jitter: bool = False,
        only: Sequence[type[BaseException] | str] = _NOT_FILTERED,
        never: Sequence[type[BaseException] | str] = _NOT_FILTERED,
    ) -> None:
        if type(max) is not int or not 1 <= max <= 1_000_000:
            raise InvalidOption(f"Retry: max is {safe_repr(max)}; give a number from 1 to 1,000,000")
        if type(factor) not in (int, float) or not 1 <= factor <= 1000:
            raise InvalidOption(f"Retry: factor is {safe_repr(factor)}; give a number from 1 to 1,000")
        for name, flag in (("enqueue_at_front", enqueue_at_front), ("jitter", jitter)):
            if type(flag) is not bool:
                raise InvalidOption(f"Retry: {name} is {safe_repr(flag)}; give True or False")
        # frozen: only this line writes
        self.__dict__.update(
            max=max,
            intervals=_seconds(interval),
            enqueue_at_front=enqueue_at_front,
            factor=float(factor),
            cap=None if cap is None else parse_duration(cap, what="Retry: cap"),
            jitter=jitter,
            only=_names("only", only),
            never=_names("never", never),
        )

    @classmethod
    def exponential(
        cls,
        max: int,
        *,
        base: Duration = 1,
        factor: float = 2,
        cap: Duration | None = 3600,
        jitter: bool = True,
        only: Sequence[type[BaseException] | str] = _NOT_FILTERED,
        never: Sequence[type[BaseException] | str] = _NOT_FILTERED,
    ) -> Retry:
        """Wait `base` before the first retry and `factor` times longer before each next one, up to `cap`."""
        return cls(max, base, factor=factor, cap=cap, jitter=jitter, only=only, never=never)

    def interval_for(self, failures: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
        """Return the seconds to wait after the `failures`-th failure, counted from 1."""
        given = len(self.intervals)
        seconds = self.intervals[min(failures, given) - 1]
        if failures > given:
            try:
                seconds *= self.factor ** (failures - given)
            except OverflowError:
                seconds *= MAX_SECONDS
        seconds = min(seconds, MAX_SECONDS if self.cap is None else self.cap)
        return uniform(seconds / 2, seconds) if self.jitter else seconds

    def applies_to(self, exception: BaseException) -> bool:
        """Whether this exception is retried. The caller counts how many retries are left."""
        if not self.only and not self.never:
            return True
        names = {type_name(kind) for kind in type(exception).__mro__}
        return names.isdisjoint(self.never) and (not self.only or not names.isdisjoint(self.only))

    def to_wire(self) -> list[object]:
        """Return the fields in order as plain values, without trailing defaults."""
        interval = list(self.intervals) if len(self.intervals) > 1 else self.intervals[0]
        growth: list[object] = [self.factor, self.cap, self.jitter]
        filters = [list(self.only), list(self.never)]
        wire: list[object] = [self.max, interval, self.enqueue_at_front, *growth, *filters]
        while len(wire) > 1 and wire[-1] == _WIRE_DEFAULTS[len(wire) - 1]:
            wire.pop()
        return wire

    @classmethod
    def from_wire(cls, wire: object) -> Retry:
        """Read the fields that `to_wire` wrote, and ignore those that a newer version may have added.

        Times must be numbers: anyone may have written them, so text is not parsed.
        Raises DeserializationError.
        """
        if not isinstance(wire, list) or not wire:
            raise DeserializationError(f"not a retry: {safe_repr(wire)}")
        fields = [*wire, *_WIRE_DEFAULTS[len(wire) :]]
        max, interval, at_front, factor, cap, jitter, only, never, *_ = fields
        times = [*(interval if isinstance(interval, list) else [interval]), *([] if cap is None else [cap])]
        if any(type(time) not in (int, float) for time in times):
            raise DeserializationError(f"not a retry, its times are no numbers: {safe_repr(wire)}")
        try:
            return cls(max, interval, at_front, factor=factor, cap=cap, jitter=jitter, only=only, never=never)
        except InvalidOption as error:
            raise DeserializationError(f"not a retry: {error}") from error


_WIRE_DEFAULTS: tuple[object, ...] = (None, 0.0, False, 1.0, None, False, [], [])


def _seconds(interval: Duration | Sequence[Duration]) -> tuple[float, ...]:
    given = [interval] if isinstance(interval, (int, float, str, timedelta)) else interval
    if not isinstance(given, Iterable) or isinstance(given, (bytes, dict)):
        raise InvalidOption(f"Retry: interval is {safe_repr(interval)}; give seconds or a list of seconds")
    seconds = tuple(parse_duration(each, what="Retry: interval") for each in given)
    if not 1 <= len(seconds) <= 1000:
        raise InvalidOption(f"Retry: interval is a list of {len(seconds)}; give 1 to 1,000 intervals")
    return seconds


def _names(option: str, kinds: Sequence[type[BaseException] | str]) -> tuple[str, ...]:
    if isinstance(kinds, (str, bytes, type)) or not isinstance(kinds, Iterable):
        raise InvalidOption(f"Retry: {option} is {safe_repr(kinds)}; give a tuple such as (OSError,)")
    return tuple(_exception_name(option, kind) for kind in kinds)


def _exception_name(option: str, kind: type[BaseException] | str) -> str:
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return type_name(kind)
    if isinstance(kind, str) and all(part.isidentifier() or part == "<locals>" for part in kind.split(".")):
        return kind.removeprefix("builtins.")
    raise InvalidOption(
        f"Retry: {option} holds {safe_repr(kind)}; give exception classes or the dotted names of exceptions"
    )
