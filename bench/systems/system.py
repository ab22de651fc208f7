"""System: what is measured, as the cases see it. The peers are imported in their environments only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from bench.environments import ROOT

URL_VARIABLE = "BENCH_REDIS_URL"


class Unsupported(Exception):
    """A system cannot do what a case asks for; says why."""


class System:
    """One way to run one peer. Sub-classes say what differs.

    The first half is asked by whoever measures, the second runs in the system's own environment.
    """

    name: ClassVar[str]
    #: systems of one family share an environment and a producer
    family: ClassVar[str]
    title: ClassVar[str]
    #: how it is set up, for the table
    settings: ClassVar[str]
    #: whether it records a status for each job
    has_status: ClassVar[bool] = True
    #: no-op jobs a second, roughly: decides how many jobs a case takes
    speed: ClassVar[int]
    #: the cases that it takes part in; None is all
    cases: ClassVar[frozenset[str] | None] = None
    #: cases that only those systems take part in that say so here
    also: ClassVar[frozenset[str]] = frozenset()
    #: cases and why it cannot take part in them
    missing: ClassVar[Mapping[str, str]] = {}
    #: what its processes import bench from, and where they run
    root: Path = ROOT

    def refusal(self, case: str, python: Path) -> str | None:
        """Why it cannot take part in a case, asked of the version that is installed; None if it can."""
        return self.missing.get(case)

    def worker_command(self, url: str, processes: int, concurrency: int) -> list[str]:
        """What starts a worker of the server at `url`; arguments of the environment's interpreter."""
        raise NotImplementedError

    @property
    def home(self) -> str:
        """The environment that it runs in."""
        return self.family

    def environment(self, url: str) -> dict[str, str]:
        """Variables that the worker needs beside those that all have."""
        return {}

    # --- in the system's environment --------------------------------------------------------------

    def connect(self) -> None:
        """Prepare to enqueue."""
        raise NotImplementedError

    def enqueue(self, job: str, *args: Any) -> None:
        """Enqueue one call of a function of bench.jobs."""
        raise NotImplementedError

    def prepared(self, job: str, calls: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        """What need not be timed about calls that are to be enqueued; what it returns is handed on."""
        return calls

    def enqueue_each(self, job: str, calls: Sequence[tuple[Any, ...]]) -> None:
        """Enqueue calls, one at a time."""
        for args in calls:
            self.enqueue(job, *args)

    def enqueue_bulk(self, job: str, calls: Sequence[tuple[Any, ...]]) -> None:
        """Enqueue calls, in as few round trips as the system offers."""
        raise Unsupported("it has no call that enqueues many jobs at once")

    def enqueue_at(self, job: str, when: float, *args: Any) -> None:
        """Enqueue a call for a time, seconds since the epoch."""
        raise Unsupported("it has no delayed jobs")

    def work(self, processes: int, concurrency: int) -> None:
        """Be the worker, for systems that have no command of their own for it."""
        raise NotImplementedError


def redis_url() -> str:
    """The URL of the bench's own server: unix:///path."""
    return os.environ[URL_VARIABLE]


def socket_path() -> str:
    return redis_url().removeprefix("unix://")
