"""A short campaign of `bin/chaos`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import TESTS


@pytest.mark.slow
def test_nothing_is_lost_in_a_campaign() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "faults.chaos", "--seconds", "12", "--seed", "7", "--outage", "3"],
        capture_output=True,
        text=True,
        timeout=55,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    print(ran.stdout, ran.stderr)
    assert ran.returncode == 0
    assert "lost                      0\n" in ran.stdout
    assert "0 of 6 workers ended" in ran.stdout
