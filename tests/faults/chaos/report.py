"""What a campaign prints, and whether it was good."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

#: promises, by what it is called when one is broken
RULES = (
    "lost", "refused, and run", "in two places", "keys left over", "told wrong", "one run number twice",
    "overlapping", "started after the end", "ended by itself", "surprised", "too many calls",
)  # fmt: skip
#: cases that are printed of each
_SHOWN = 8


@dataclass
class Outage:
    """A long absence of the server: which workers it ended, and how soon after it the next job ran."""

    seconds: float
    workers: int
    dead: int = 0
    first_run: float = 0.0

    @property
    def is_good(self) -> bool:
        return not self.dead and self.first_run < 2


@dataclass
class Report:
    """What a campaign ends with. `broken` are the cases of each rule."""

    enqueued: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    stuck: list[str] = field(default_factory=list)
    run_again: int = 0
    runs: int = 0
    slowest_second: float = 0.0
    slowest_next: float = 0.0
    backlog: int = 0
    drained_in: float = 0.0
    most_calls: str = ""
    outage: Outage | None = None
    faults: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    memory: list[str] = field(default_factory=list)
    broken: dict[str, list[str]] = field(default_factory=lambda: {rule: [] for rule in RULES})
    notes: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, nothing is left, and every promise was kept."""
        is_over = not (self.stuck or self.waiting or any(self.broken.values()))
        return self.enqueued > 0 and is_over and (self.outage is None or self.outage.is_good)

    def __str__(self) -> str:
        lines = [
            f"faults                    {_counts(self.faults)}",
            f"meddled                   {_counts(self.acts)}",
            f"enqueued                  {self.enqueued}",
            f"on record                 {_counts(self.ended)}",
            *(f"{rule:<26}{len(cases)}" for rule, cases in self.broken.items()),
            f"left in processing lists  {len(self.stuck)}",
            f"still waiting             {self.waiting}",
            f"backlog                   {self.backlog} after the last fault, gone in {self.drained_in:.1f} s",
            f"run more than once        {self.run_again} jobs ({self.runs} runs in all)",
            f"slowest recovery          {self.slowest_second:.2f} s from one run of a job to the next",
            f"longest standstill        {self.slowest_next:.2f} s from a fault to the next end of a job",
            f"most script calls         {self.most_calls}",
        ]
        if self.outage:
            lines.append(
                f"server away for {self.outage.seconds:g} s".ljust(26)
                + f"{self.outage.dead} of {self.outage.workers} workers ended,"
                f" the next job ran {self.outage.first_run:.2f} s after it was back"
            )
        cases = [f"{rule}: {case}" for rule, cases in self.broken.items() for case in cases[:_SHOWN]]
        stuck = [f"stuck: {case}" for case in self.stuck[:_SHOWN]]
        return "\n".join([*lines, *self.memory, *cases, *stuck, *self.notes])


def _counts(counter: Counter[str]) -> str:
    each = ", ".join(f"{count} {what}" for what, count in sorted(counter.items()))
    return f"{sum(counter.values())}: {each}"
