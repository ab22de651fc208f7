"""Type checkers see wrong calls of `enqueue`, and the type of a job's result."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

CALLS = Path(__file__).parent / "typing"


@pytest.mark.parametrize("name", ["calls.py", "async_calls.py"])
def test_wrong_calls_are_refused_and_right_ones_are_not(name: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(CALLS / name)],
        capture_output=True,
        text=True,
        cwd=CALLS.parent.parent,
        timeout=120,
    )
    refused = {int(number) for number in re.findall(rf"\b{name}:(\d+): error", result.stdout)}
    lines = (CALLS / name).read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if "# wrong" in line}
    assert refused == wrong, result.stdout
