"""Type checkers see wrong calls of `enqueue`, and the type of a job's result."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

CALLS = Path(__file__).parent / "typing" / "calls.py"


def test_wrong_calls_are_refused_and_right_ones_are_not() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(CALLS)],
        capture_output=True,
        text=True,
        cwd=CALLS.parent.parent.parent,
        timeout=120,
    )
    refused = {int(number) for number in re.findall(r"calls\.py:(\d+): error", result.stdout)}
    lines = CALLS.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if "# wrong" in line}
    assert refused == wrong, result.stdout
