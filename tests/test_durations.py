"""Durations and sizes are read as people write them, and slips are named."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirq import durations
from minirq.durations import parse_duration, parse_size
from minirq.exceptions import InvalidOption, TimeoutFormatError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (90, 90.0),
        (1.5, 1.5),
        ("90", 90.0),
        ("0.25", 0.25),
        ("10s", 10.0),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("1h 30m 5s", 5405.0),
        (" 2D ", 172_800.0),
        ("1w", 604_800.0),
        ("1.5h", 5400.0),
        ("500ms", 0.5),
        ("1m500ms", 60.5),
        (timedelta(minutes=2, microseconds=1), 120.000001),
    ],
)
def test_every_form_is_read(value: int | float | str | timedelta, seconds: float) -> None:
    found = parse_duration(value, what="job_timeout")
    assert found == pytest.approx(seconds, abs=1e-12)
    assert type(found) is float


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "s", "1x", "10 parsecs", "30m1h", "1h1h", "1e3", "0x10"),
        *("\u0661\u0660", "1.h", "--1", "nan", "inf"),
        *("1w" + " " * 10_000 + "1h", "1" + " " * 64),
        True,
        False,
        None,
        b"10",
        [10],
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        "9" * 400,
        1e300,
        timedelta.max,
        *(-1, -0.5, "-1", "-5", timedelta(seconds=-1)),
    ],
    ids=lambda value: str(value)[:20] if type(value) is not int else None,
)
def test_what_is_no_duration_is_refused_with_its_name_and_value(value: Any) -> None:
    with pytest.raises(TimeoutFormatError, match=r"^job_timeout: ") as caught:
        parse_duration(value, what="job_timeout")
    assert len(str(caught.value)) < 250
    assert isinstance(caught.value, InvalidOption)


@pytest.mark.parametrize("inside", [" ", "1", "1w ", "1w"])
def test_text_that_is_no_duration_is_refused_in_linear_time(inside: str) -> None:
    assert durations._PARTS.fullmatch("1w" + inside * 20_000 + "x") is None
    started = time.process_time()
    for _ in range(100):  # 0.4 s each while a blank had several places to go
        with pytest.raises(TimeoutFormatError):
            parse_duration("1w" + inside * 61 + "x", what="job_timeout")
    assert time.process_time() - started < 1


@pytest.mark.parametrize("value", [-1, -1.0, "-1"])
def test_minus_one_means_unlimited_where_that_is_allowed(value: int | float | str) -> None:
    assert parse_duration(value, what="ttl", allow_unlimited=True) == -1.0


@pytest.mark.parametrize("value", [-2, -0.5, "-5", True])
def test_other_negative_values_stay_refused_where_unlimited_is_allowed(value: Any) -> None:
    with pytest.raises(TimeoutFormatError, match="ttl"):
        parse_duration(value, what="ttl", allow_unlimited=True)


@given(st.text())
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert 0 <= parse_duration(text, what="x") < math.inf
    except TimeoutFormatError:
        pass


@pytest.mark.parametrize(
    ("text", "size"),
    [(5, 5), ("7", 7), ("2k", 2048), ("1.5M", 1572864), ("1 GiB", 1024**3), ("10KB", 10240)],
)
def test_sizes_are_read_as_people_write_them(text: int | str, size: int) -> None:
    assert parse_size(text, what="x") == size


@pytest.mark.parametrize("text", ["", "0", 0, -1, True, "5T", "many", "1e3", "-2M", None, 1.5, "9999999999G"])
def test_what_is_no_size_is_refused_by_name(text: object) -> None:
    with pytest.raises(InvalidOption, match="limit"):
        parse_size(text, what="limit")  # type: ignore[arg-type]
