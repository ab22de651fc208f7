"""CONTRIBUTING.md and SECURITY.md: what they name is there."""

from __future__ import annotations

import re

import pytest
from support import ROOT

TEXTS = {name: (ROOT / name).read_text("utf-8") for name in ("CONTRIBUTING.md", "SECURITY.md")}


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", TEXTS[name])
    assert links
    assert [link for link in links if not link.startswith("../..") and not (ROOT / link).exists()] == []


def test_the_files_that_are_named_exist() -> None:
    text = TEXTS["CONTRIBUTING.md"]
    named = set(re.findall(r"(?<![\w./])((?:minirq|tests|bin|bench|examples)/[\w/.]*\w)", text))
    assert len(named) > 20
    assert sorted(name for name in named if not (ROOT / name).exists() and "NAME" not in name) == []


def test_the_tests_that_are_shown_as_examples_exist() -> None:
    [(file, test)] = re.findall(r'"(tests/\S+\.py)::(\w+)"', TEXTS["CONTRIBUTING.md"])
    assert f"def {test}(" in (ROOT / file).read_text("utf-8")
