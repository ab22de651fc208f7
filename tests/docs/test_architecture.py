"""docs/architecture.md names files that exist, and the states that jobs have."""

from __future__ import annotations

import re

from support.documents import ROOT, Document

from minirq import JobStatus

DOCUMENT = Document("docs/architecture.md")
TABLE = DOCUMENT.text.partition("| room |")[2].partition("\n\n")[0]


def test_the_rooms_name_files_that_exist() -> None:
    rows = [line.split("|")[-2] for line in TABLE.splitlines()[2:]]
    assert len(rows) == 7
    for row in rows:
        folder = ""
        for name in re.findall(r"`([\w/.]+)`", row):
            folder = name.rpartition("/")[0] if "/" in name else folder
            path = ROOT / "minirq" / folder / name.rpartition("/")[2]
            assert path.is_dir() or path.with_suffix(".py").exists(), name


def test_the_drawing_has_every_state() -> None:
    drawing = DOCUMENT.text.partition("## The states of a job")[2].partition("## ")[0]
    shown = {status for status in JobStatus if re.search(rf"\b{status}\b", drawing)}
    assert shown == set(JobStatus) - {JobStatus.DEFERRED}


def test_links_lead_to_files() -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", DOCUMENT.text)]
    assert len(links) >= 4
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
