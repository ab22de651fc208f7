"""The trace: a line for each start and each end of a run, which outlives whoever ran it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

START, END, WRONG = "start", "end", "wrong"

#: a queue and an id
JobKey = tuple[str, str]


@dataclass
class Run:
    """One run of a job. `ended` is None if its process died, or if it still runs."""

    token: str
    number: int
    pid: int
    parent: int
    started: float
    ended: float | None = None

    @property
    def job(self) -> JobKey:
        return job_of(self.token)


def job_of(token: str) -> JobKey:
    """The queue and the id of a call."""
    queue, job_id, _ = token.split("/")
    return queue, job_id


@dataclass
class Trace:
    """What the runs of a campaign have left behind. `wrong` is what jobs were told that is not so."""

    runs: list[Run] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    by_token: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    by_job: dict[JobKey, list[Run]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, path: Path) -> Trace:
        trace = cls()
        under_way: dict[tuple[str, ...], Run] = {}
        for line in path.read_text().splitlines():
            what, rest = line.split(" ", 1)
            if what == WRONG:
                trace.wrong.append(rest)
                continue
            when, *about = rest.split(" ")
            if what == START:
                pid, parent, number, token = about
                run = Run(token, int(number), int(pid), int(parent), float(when))
                under_way[tuple(about)] = run
                trace.runs.append(run)
            elif tuple(about) in under_way:
                under_way[tuple(about)].ended = float(when)
        for run in sorted(trace.runs, key=lambda run: run.started):
            trace.by_token[run.token].append(run)
            trace.by_job[run.job].append(run)
        return trace
