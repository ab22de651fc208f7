"""The table of faults in docs/guarantees.md names a test for each row, and a row for each test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
DOC = (HERE.parent.parent / "docs" / "guarantees.md").read_text("utf-8")
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", DOC)


def _tests_of(file: Path) -> list[tuple[str, str]]:
    tree = ast.parse(file.read_text("utf-8"))
    return [
        (file.name, node.name)
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


THERE = [
    test for file in sorted(HERE.glob("test_*.py")) if file != Path(__file__) for test in _tests_of(file)
]


def test_every_row_names_a_test_that_exists() -> None:
    rows = [line for line in DOC.splitlines() if line.startswith("|") and "`test_" in line]
    assert len(rows) >= 50
    assert [test for test in NAMED if test not in THERE] == []


def test_every_test_is_named_by_a_row() -> None:
    assert [test for test in THERE if test not in NAMED] == []
