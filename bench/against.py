"""Against: the CPU time that a job takes in this checkout, beside another commit of the same repository.

A machine that does other things too makes a rate useless, and disturbs CPU time by more than the few percent
that are looked for here. What is done about that:

- Both sides run in pairs, each with a server, a producer and a worker of its own, all on one core. Within a
  pair they work by turns (A B B A ...) of some 30 ms, and each turn is divided by its neighbour: what
  disturbs one disturbs both.
- Only differences around a turn count. Start-up, imports and the first jobs lie before the first one.
- A process may be a few percent faster or slower for as long as it lives, by where its memory happens to
  lie. So the next pair starts anew, and a pair is one observation, the median of its ratios.
- Both sides have the same interpreter, packages (hiredis: both or neither), redis-server, jobs and hash seed.

Of the pairs the median is printed, with the interval between two of them that holds the true median with at
least 95 % probability, whatever their distribution (order statistics: Conover, Practical Nonparametric
Statistics, "confidence interval for a quantile").
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import comb
from pathlib import Path
from statistics import median
from typing import IO

from bench.environments import ROOT, EnvironmentFault, versions_in
from bench.marks import Marks
from bench.processes import ProducerProcess, Worker, can_pin
from bench.server import Server
from bench.stage import Stage
from bench.systems.minirq import Minirq

#: the upper end of a case's interval may be this
LIMIT = 1.02
#: turns of a side within a pair; with more, what is left are the differences between processes
TURNS = 60
#: until a worker that has run its last job waits for the next, seconds
_IDLE = 10.0


@dataclass(frozen=True)
class Case:
    """What is compared; `jobs` in a turn. `client` is whose CPU time counts beside the server's."""

    name: str
    about: str
    client: str
    jobs: int
    options: tuple[str, ...] = ()


CASES = (
    Case("drain", "no-op jobs that wait, run by one process in batches", "worker", 1000),
    Case("drain-one", "the same with --no-batch", "worker", 200, ("--no-batch",)),
    Case("enqueue", "no-op jobs, enqueued one by one", "producer", 250),
)


@dataclass(frozen=True)
class Cost:
    """CPU seconds: of the worker's processes or the producer, and of the server's main thread."""

    client: float
    server: float

    @property
    def sum(self) -> float:
        return self.client + self.server

    def since(self, before: Cost) -> Cost:
        return Cost(self.client - before.client, self.server - before.server)


Part = Callable[[Cost], float]


@dataclass(frozen=True)
class Observation:
    """What a pair says of a part of the cost: CPU seconds of a job on both sides, and the ratio."""

    this: float
    that: float
    ratio: float


@dataclass(frozen=True)
class Interval:
    """The median of ratios, and the order statistics around it with the probability that they hold it."""

    median: float
    lower: float
    upper: float
    confidence: float

    @classmethod
    def of(cls, values: Sequence[float], wanted: float = 0.95) -> Interval:
        """The narrowest ranks that are sure enough; with fewer than 6 values the least and the most."""
        ordered = sorted(values)
        count = len(ordered)
        # fewer than `rank` heads in `count` throws: then the median lies below the value of this rank
        outside, rank = 2 * 0.5**count, 1
        while (more := outside + 2 * comb(count, rank) * 0.5**count) <= 1 - wanted:
            outside, rank = more, rank + 1
        return cls(median(ordered), ordered[rank - 1], ordered[-rank], 1 - outside)


class Checkout(Minirq):
    """minirq as it is in a folder. The bench beside it is this checkout's own."""

    def __init__(self, root: Path, case: Case, seed: int) -> None:
        self.root = root
        self.options = case.options
        self._seed = seed

    def environment(self, url: str) -> dict[str, str]:
        return {**super().environment(url), "PYTHONHASHSEED": str(self._seed)}


class Side:
    """One side of a pair, with its processes."""

    def __init__(self, case: Case, jobs: int, stage: Stage, stack: ExitStack) -> None:
        self._jobs = jobs
        self._stage = stage
        core = stack.enter_context(stage.pinned(can_pin()))
        self._producer: ProducerProcess = stack.enter_context(stage.producer(core=core))
        self._worker: Worker | None = None
        self._done = 0
        self.turns: list[Cost] = []
        self.turn: Callable[[], None] = self._enqueue
        if case.client == "worker":
            self.turn = self._drain
            self._marks: Marks = stack.enter_context(stage.marks())
            self._worker = stack.enter_context(stage.worker(self._marks, core=core))
        self._warm_up()

    def cost(self, part: Part) -> float:
        """CPU seconds of a job in the median of the turns."""
        return median(map(part, self.turns)) / self._jobs

    def ratio(self, other: Side, part: Part) -> float:
        """How many times as much a job costs here: the median of the turns, each beside the other's."""
        return median(part(mine) / part(its) for mine, its in zip(self.turns, other.turns, strict=True))

    def _warm_up(self) -> None:
        if self._worker:
            self._producer.ask("fill", job="noop", n=self._jobs)
            self._stage.at_the_gate(self._worker, self._marks, 1)
            self._marks.open_gate()
            self._wait_for_the_worker(self._worker)
        else:
            self._producer.ask("enqueue", job="noop", n=self._jobs)

    def _enqueue(self) -> None:
        before = self._read()
        self._producer.ask("enqueue", job="noop", n=self._jobs)
        self.turns.append(self._read().since(before))
        # on a list that grows, the server's memory would be what is measured
        self._stage.server.client.flushall()

    def _drain(self) -> None:
        assert self._worker
        with _stopped([process.pid for process in self._worker.tree()[1:]]):
            self._producer.ask("fill", job="noop", n=self._jobs)
            before = self._read()
        self._wait_for_the_worker(self._worker)
        self.turns.append(self._read().since(before))

    def _wait_for_the_worker(self, worker: Worker) -> None:
        """Wait until it has run its jobs, has settled the last of them too, and waits for more."""
        self._done += self._jobs
        self._stage.count(worker, self._marks, self._done, 60)
        server = self._stage.server
        self._stage.wait(worker, lambda: server.info("clients")["blocked_clients"] > 0, "is not idle", _IDLE)

    def _read(self) -> Cost:
        about = self._stage.server.info("cpu")
        pids = [process.pid for process in self._worker.tree()] if self._worker else [self._producer.pid]
        return Cost(
            sum(map(_cpu_seconds, pids)),
            about["used_cpu_user_main_thread"] + about["used_cpu_sys_main_thread"],
        )


def compare(
    commit: str, cases: Sequence[Case], pairs: int, most: int | None, python: Path, log: IO[str]
) -> int:
    """Measure and print; 1 if the upper end of a case's interval is above the limit, else 0."""
    seen: dict[tuple[str, str], list[Observation]] = {}
    with _checkouts(commit) as roots:
        _say(_about(commit, pairs, python))
        for number in range(pairs):
            began = time.monotonic()
            for case in cases:
                jobs = min(case.jobs, most or case.jobs)
                this, that = _measure_pair(case, number, jobs, roots, python, log)
                for name, part in _parts(case):
                    observed = Observation(this.cost(part), that.cost(part), this.ratio(that, part))
                    seen.setdefault((case.name, name), []).append(observed)
            print(f"pair {number + 1}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return _report(seen)


def _measure_pair(
    case: Case, number: int, jobs: int, roots: Sequence[Path], python: Path, log: IO[str]
) -> list[Side]:
    """This checkout and the other, in this order; every other pair begins with the other."""
    turn_about = -1 if number % 2 else 1
    with ExitStack() as stack:
        sides = []
        for root in roots[::turn_about]:
            server = Server()
            stack.callback(server.close)
            stage = Stage(Checkout(root, case, number), python, server, log)
            sides.append(Side(case, jobs, stage, stack))
        for turn in range(TURNS):
            for side in sides[:: -1 if turn % 2 else 1]:
                side.turn()
    return sides[::turn_about]


@contextmanager
def _checkouts(commit: str) -> Iterator[tuple[Path, Path]]:
    """This checkout as it stands and the other commit, each in a folder with this checkout's bench."""
    with tempfile.TemporaryDirectory(prefix="minirq-against-") as name:
        this, that = Path(name, "this"), Path(name, "that")
        without_caches = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "minirq", this / "minirq", ignore=without_caches)
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit, "minirq"))) as archive:
            archive.extractall(that, filter="data")
        for root in (this, that):
            shutil.copytree(ROOT / "bench", root / "bench", ignore=without_caches)
        yield this, that


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"").decode().strip() or str(error)
        raise EnvironmentFault(f"git {arguments[0]}: {said}") from None


@contextmanager
def _stopped(pids: Sequence[int]) -> Iterator[None]:
    """Processes that do nothing meanwhile; with them stopped a queue is filled before the first job runs."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _cpu_seconds(pid: int) -> float:
    """What a process has used so far, to the nanosecond: /proc counts in hundredths of a second."""
    return time.clock_gettime(~pid << 3 | 2)  # as clock_getcpuclockid(3) makes it


# --- what is printed ------------------------------------------------------------------------------


def _parts(case: Case) -> tuple[tuple[str, Part], ...]:
    return (
        (case.client, lambda cost: cost.client),
        ("server", lambda cost: cost.server),
        ("sum", lambda cost: cost.sum),
    )


def _about(commit: str, pairs: int, python: Path) -> str:
    versions = versions_in(python)
    hiredis = f"hiredis {versions['hiredis']} on both sides" if "hiredis" in versions else "without hiredis"
    here = _git("describe", "--always", "--dirty", "--abbrev=8").decode().strip()
    there = _git("rev-parse", "--short=8", f"{commit}^{{commit}}").decode().strip()
    where = "server, worker and producer on one core" if can_pin() else "not pinned"
    return (
        f"CPU time per job of this checkout ({here}) against {there}, {pairs} pairs of {TURNS} turns;\n"
        f"{where}; redis-py {versions['redis']}, {hiredis}."
    )


def _report(seen: dict[tuple[str, str], list[Observation]]) -> int:
    _say(f"{'case':<11}{'side':<10}{'this us':>9}{'that us':>9}{'ratio':>8}   interval")
    above = []
    for (case, side), pairs in seen.items():
        interval = Interval.of([pair.ratio for pair in pairs])
        this, that = (median(costs) * 1e6 for costs in zip(*((p.this, p.that) for p in pairs), strict=True))
        mark = f"  above {LIMIT:g}" if interval.upper > LIMIT else ""
        _say(
            f"{case:<11}{side:<10}{this:>9.1f}{that:>9.1f}{interval.median:>8.3f}"
            f"   {interval.lower:.3f} to {interval.upper:.3f} ({interval.confidence:.1%}){mark}"
        )
        if side == "sum" and mark:
            above.append(f"{case} ({interval.upper:.3f})")
    if above:
        _say(f"Above {LIMIT:g} at the upper end of the sum's interval: {', '.join(above)}")
    else:
        _say(f"No case is above {LIMIT:g} at the upper end of the sum's interval.")
    return 1 if above else 0


def _say(text: str) -> None:
    print(text, flush=True)
