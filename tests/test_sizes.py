from __future__ import annotations

import pytest

from minirq.durations import parse_size
from minirq.exceptions import InvalidOption


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
