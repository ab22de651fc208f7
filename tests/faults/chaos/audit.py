"""The audit that a campaign ends with: where each job is, what it took, and which promise was broken.

A job is lost if it was accepted and is in no place, has not run, and nobody has ended it. One that still
waits or runs when the time allowed is over is neither lost nor stuck: it is counted as what it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from faults.chaos.calls import ACCEPTED, REFUSED, Attempt, Ledger
from faults.chaos.faults import Window
from faults.chaos.report import Report
from faults.chaos.snapshot import Snapshot
from faults.chaos.trace import JobKey, Run, Trace
from support.worker import LEASE

#: clocks of jobs and of the server are one, but a line is written a little after the claim, seconds
_SLACK = 0.02
#: what goes on after its timeout in these may meet its own second run
_OVERRUNNING = ("swallow", "overrun")


@dataclass(frozen=True)
class Audit:
    """Everything that is known when a campaign is over."""

    ledger: Ledger
    trace: Trace
    snapshot: Snapshot
    windows: list[Window]
    times: list[float]

    def write(self, report: Report) -> None:
        """Count, and note what is wrong."""
        self._count(report)
        broken = report.broken
        broken["lost"] += self._lost()
        broken["refused, and run"] += self._refused_and_run()
        broken["in two places"] += self.snapshot.misplaced()
        broken["keys left over"] += self.snapshot.leaked()
        broken["told wrong"] += self.trace.wrong
        broken["one run number twice"] += self._doubled()
        broken["overlapping"] += self._overlapping()
        broken["started after the end"] += self._started_after_the_end()

    # --- counts -------------------------------------------------------------------------------

    def _count(self, report: Report) -> None:
        records, runs = self.snapshot.records, self.trace.by_job
        report.enqueued = sum(attempt.answer == ACCEPTED for attempt in self.ledger.attempts)
        report.runs = len(self.trace.runs)
        report.run_again = sum(len(of_one) > 1 for of_one in self.trace.by_token.values())
        for record in records.values():
            report.ended[record.status] += 1
        report.waiting = sum(self.snapshot.waiting.values())
        report.stuck = [f"{'/'.join(job)} held by {owners}" for job, owners in self.snapshot.held.items()]
        ends = sorted(run.ended for run in self.trace.runs if run.ended)
        report.slowest_next = _standstill(ends, self.times)
        for job, record in records.items():
            # neither retried nor requeued nor paused, all of which put it behind what waits
            if record.lost == 1 and record.status == "finished" and job not in self.ledger.meddled:
                times = [run.started for run in runs.get(job, ()) if run.token == record.token]
                gaps = [later - start for start, later in pairwise(times)]
                report.slowest_second = max([report.slowest_second, *gaps])

    # --- calls --------------------------------------------------------------------------------

    def _lost(self) -> Iterator[str]:
        """Calls that were accepted and came to nothing."""
        by_job: dict[JobKey, list[Attempt]] = defaultdict(list)
        for attempt in self.ledger.attempts:
            by_job[attempt.call.job].append(attempt)
        for job, calls in by_job.items():
            for attempt in calls:
                why = "" if attempt.answer != ACCEPTED else self._what_became_of(attempt, calls)
                if why:
                    yield f"{attempt.call.token} ({attempt.call.kind}): {why}"
            if len(calls) == 1:
                yield from self._without_a_record(job, calls[0])

    def _what_became_of(self, attempt: Attempt, calls: list[Attempt]) -> str:
        """Nothing, if there is a reason for that it is gone, or else what is known of it."""
        job, since = attempt.call.job, attempt.began - _SLACK
        if any(run.ended is None or run.ended >= since for run in self.trace.by_job.get(job, ())):
            return ""  # it has run, or the job was still running that the call answered with
        record = self.snapshot.records.get(job)
        if record is not None and (not record.ended or record.ended >= since):
            return ""
        if any(end >= since for end in self.ledger.ended.get(job, ())):
            return ""
        # it may have expired, or the call answered with a job that did
        for other in calls:
            ttl = other.call.options.get("ttl")
            if ttl and other.began <= attempt.over and other.over + other.call.delay + ttl >= since:
                return ""
        if attempt.call.options["failure_ttl"] in (0, 1):
            return ""  # its process may have died three times before the first line
        return f"was accepted and has not run, {record=}"

    def _without_a_record(self, job: JobKey, attempt: Attempt) -> Iterator[str]:
        """Of what nobody has touched, whose record is kept, and which has ended, the end is on record."""
        call, record = attempt.call, self.snapshot.records.get(job)
        if attempt.answer != ACCEPTED or not call.is_kept or not call.is_unique or job in self.ledger.meddled:
            return
        has_run = job in self.trace.by_job
        if record is None or (record.status == "finished" and not has_run):
            yield f"{call.token} ({call.kind}): {record=}, {has_run=}"

    def _refused_and_run(self) -> Iterator[str]:
        for attempt in self.ledger.attempts:
            if attempt.answer == REFUSED and attempt.call.token in self.trace.by_token:
                yield attempt.call.token

    # --- runs ---------------------------------------------------------------------------------

    def _doubled(self) -> Iterator[str]:
        """A run is known by its number: no two of a call may have the same."""
        for token, runs in self.trace.by_token.items():
            numbers = [run.number for run in runs]
            if len(set(numbers)) < len(numbers):
                yield f"{token}: runs {numbers}"

    def _overlapping(self) -> Iterator[str]:
        """Two runs at once, the first of which was neither frozen nor cut off."""
        kinds = {attempt.call.token: attempt.call.kind for attempt in self.ledger.attempts}
        for token, runs in self.trace.by_token.items():
            if kinds.get(token) in _OVERRUNNING:
                continue
            for first, second in pairwise(runs):
                if (
                    first.ended
                    and second.started < first.ended
                    and not self._is_excused(first, second.started)
                ):
                    over = second.started - first.started
                    yield f"{token}: run {second.number} begins {over:.2f} s after run {first.number}"

    def _is_excused(self, run: Run, until: float) -> bool:
        pids = (run.pid, run.parent)
        return any(window.excuses(pids, run.started - LEASE, until) for window in self.windows)

    def _started_after_the_end(self) -> Iterator[str]:
        for record in self.snapshot.records.values():
            for run in self.trace.by_token.get(record.token, ()):
                if record.ended and run.started > record.ended + _SLACK:
                    late = run.started - record.ended
                    yield f"{run.token}: run {run.number} began {late:.2f} s after it was {record.status}"


def _standstill(ends: list[float], faults: Iterable[float]) -> float:
    """The longest time from a fault to the next end of a job."""
    longest = 0.0
    for fault in faults:
        at = bisect_left(ends, fault)
        if at < len(ends):
            longest = max(longest, ends[at] - fault)
    return longest
