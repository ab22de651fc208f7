"""Retry says how often, when, and for which errors a job is tried again."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import msgpack
import pytest

from minirq.exceptions import DeserializationError, InvalidOption
from minirq.retry import Retry


class AppError(Exception):
    class Inner(Exception):
        pass


class Child(AppError, OSError):
    pass


def waits(retry: Retry, count: int) -> list[float]:
    return [retry.interval_for(failures) for failures in range(1, count + 1)]


def test_without_an_interval_a_retry_is_immediate() -> None:
    assert waits(Retry(3), 3) == [0, 0, 0]


def test_one_interval_is_used_for_every_retry() -> None:
    assert waits(Retry(3, 10), 3) == [10, 10, 10]
    assert waits(Retry(2, "5m"), 2) == [300, 300]
    assert waits(Retry(2, timedelta(hours=1)), 2) == [3600, 3600]


def test_of_a_list_of_intervals_the_last_repeats() -> None:
    assert waits(Retry(5, [10, "1m"]), 5) == [10, 60, 60, 60, 60]
    assert waits(Retry(1, [10, 60]), 1) == [10]


def test_exponential_doubles_up_to_the_cap() -> None:
    retry = Retry.exponential(20, base=2, cap=100, jitter=False)
    assert waits(retry, 8) == [2, 4, 8, 16, 32, 64, 100, 100]
    assert retry.interval_for(1_000_000) == 100


def test_a_factor_without_a_cap_ends_at_the_longest_duration_there_is() -> None:
    retry = Retry(5, [1, 10], factor=10)
    assert waits(retry, 4) == [1, 10, 100, 1000]
    assert retry.interval_for(1_000_000) == 1000 * 365 * 86400


def test_jitter_waits_between_half_and_the_whole() -> None:
    retry = Retry(3, 100, jitter=True)
    rng = random.Random(1)
    found = [retry.interval_for(1, rng.uniform) for _ in range(200)]
    assert 50 <= min(found) < 60
    assert 90 < max(found) <= 100


def test_without_a_filter_every_exception_is_retried() -> None:
    assert Retry(1).applies_to(ValueError())
    assert Retry(1).applies_to(KeyboardInterrupt())


@pytest.mark.parametrize("only", [(OSError,), ("OSError",), ("builtins.OSError",), [OSError, "a.b.C"]])
def test_only_names_exceptions_and_their_subclasses(only: Any) -> None:
    retry = Retry(3, only=only)
    assert retry.applies_to(ConnectionResetError())
    assert retry.applies_to(Child())
    assert not retry.applies_to(ValueError())


def test_qualified_names_match_where_the_exception_is_defined() -> None:
    assert Retry(1, only=(f"{__name__}.AppError",)).applies_to(Child())
    assert Retry(1, only=(AppError.Inner,)).applies_to(AppError.Inner())
    assert not Retry(1, only=("AppError",)).applies_to(AppError())
    assert not Retry(1, only=("other.AppError",)).applies_to(AppError())


def test_never_wins_over_only() -> None:
    retry = Retry(3, only=(OSError,), never=(AppError,))
    assert retry.applies_to(OSError())
    assert not retry.applies_to(Child())
    assert Retry(3, never=(AppError,)).applies_to(ValueError())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(0),
        lambda: Retry(-1),
        lambda: Retry(True),
        lambda: Retry("3"),
        lambda: Retry(2.0),
        lambda: Retry(10**9),
        lambda: Retry(3, -1),
        lambda: Retry(3, [10, -1]),
        lambda: Retry(3, []),
        lambda: Retry(3, "soon"),
        lambda: Retry(3, None),
        lambda: Retry(3, True),
        lambda: Retry(3, {1: 2}),
        lambda: Retry(3, enqueue_at_front=1),
        lambda: Retry(3, jitter="yes"),
        lambda: Retry(3, factor=0.5),
        lambda: Retry(3, factor=float("nan")),
        lambda: Retry(3, cap=-5),
        lambda: Retry(3, only=ValueError),
        lambda: Retry(3, only="ValueError"),
        lambda: Retry(3, only=(int,)),
        lambda: Retry(3, never=("not a name",)),
        lambda: Retry(3, never=(ValueError(),)),
    ],
)
def test_nonsense_is_refused_when_the_retry_is_made(make: Any) -> None:
    with pytest.raises(InvalidOption, match="Retry: "):
        make()


def test_a_retry_is_a_value() -> None:
    retry = Retry(3, [10, 60])
    assert retry == Retry(3, (10.0, 60.0))
    assert hash(retry) == hash(Retry(3, [10, 60]))
    with pytest.raises(AttributeError):
        retry.max = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    "retry",
    [
        Retry(3),
        Retry(3, 5),
        Retry(3, [10, 60], True),
        Retry.exponential(5, base=2, cap=600, only=(ConnectionError, AppError), never=("a.b.C",)),
        Retry(2, factor=3, cap=None),
    ],
)
def test_a_retry_survives_the_wire(retry: Retry) -> None:
    packed = msgpack.packb(retry.to_wire(), strict_types=True)
    assert Retry.from_wire(msgpack.unpackb(packed)) == retry


def test_the_wire_carries_no_defaults_and_takes_additions() -> None:
    assert Retry(3).to_wire() == [3]
    assert Retry(3, 5).to_wire() == [3, 5.0]
    assert Retry.from_wire([3, 5.0, False, 1.0, None, False, [], [], "of a newer version"]) == Retry(3, 5)


@pytest.mark.parametrize(
    "wire",
    [
        *(None, [], {}, "3", [0], ["3"], [3, "x"], [3, 1, 2], [3, 1, False, 1, None, 7]),
        *([3, "5"], [3, [1, "5"]], [3, [[1]]], [3, 1, False, 1, "10m"], [3, True], [3, {}], [3, None]),
    ],
)
def test_a_broken_wire_is_a_deserialization_error(wire: Any) -> None:
    with pytest.raises(DeserializationError, match="not a retry"):
        Retry.from_wire(wire)
