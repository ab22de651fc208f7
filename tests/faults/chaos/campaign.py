"""A campaign: producers, meddlers, workers, and faults at random. `bin/chaos` runs it.

The server writes its append-only file at every command (`appendfsync always`): what a producer was told is
there must be there after the server was killed, or the audit would prove nothing about minirq.
"""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import redis as redis_py
from faults.chaos.audit import Audit
from faults.chaos.calls import QUEUES, Application, Ledger
from faults.chaos.faults import Faults
from faults.chaos.fleet import Member, roles
from faults.chaos.load import Load
from faults.chaos.meddlers import Meddler, Producer
from faults.chaos.memory import Memory
from faults.chaos.report import Outage, Report
from faults.chaos.snapshot import Snapshot
from faults.chaos.trace import Trace
from support.own_server import OwnServer
from support.worker import LEASE

from minirq.connection import connect

#: after the last fault: so long without any job that ends, and nothing more is waited for, seconds
STANDSTILL = 30.0
#: seconds between two looks at the places of all jobs
_LOOK = 3.0
#: what a worker may take to end after SIGTERM, beyond its longest job
_FAREWELL = 20.0


@dataclass(frozen=True)
class Plan:
    """What a campaign is to be; `rate` is jobs a second that the two producers try to enqueue."""

    seconds: float = 30
    seed: int = 1
    processes: int = 2
    concurrency: int = 1
    rate: float = 100
    again: float = 0.05
    meddling: float = 10
    outage: float = 0
    drain: float = 600


class Campaign:
    """Everything of one campaign."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._folder = Path(tempfile.mkdtemp(prefix="minirq-chaos-"))
        self._trace = self._folder / "trace"
        self._trace.touch()
        self._server = OwnServer()
        self._ledger = Ledger()
        self._members = [
            Member(role, self._server, self._folder) for role in roles(plan.processes, plan.concurrency)
        ]
        self._calm = self._members[-1]
        self._faults = Faults(random.Random(plan.seed), self._server, self._members[:-1])
        self._memory = Memory()
        self._over = threading.Event()
        self._next_look = 0.0
        self.report = Report()

    def run(self) -> Report:
        """Strike, heal, audit. Nothing is left running."""
        try:
            self._run()
        finally:
            self._over.set()
            for member in self._members:
                member.close()
            self._server.close()
        if self.report.is_good:
            shutil.rmtree(self._folder)
        else:
            (self._folder / "windows").write_text("".join(f"{window}\n" for window in self._faults.windows))
            self.report.notes.append(f"the workers' logs, the trace and the faults are in {self._folder}")
        return self.report

    def _run(self) -> None:
        plan = self._plan
        application = Application(self._server.url, self._trace, self._ledger)
        producers = [Producer(n, application, plan.rate / 2, plan.again, self._over) for n in range(2)]
        meddlers = [
            Meddler(n, application, plan.meddling / 2, self._over) for n in range(2 if plan.meddling else 0)
        ]
        load = Load(self._server.url, self._trace, self._over)
        for thread in (*producers, *meddlers, load):
            thread.start()
        self._strike_for(plan.seconds / 2)
        if plan.outage:
            self._be_away()
        self._strike_for(plan.seconds / 2)
        self._faults.heal()
        self._over.set()
        for thread in (*producers, *meddlers):
            thread.join()
        self._heal()
        with connect(self._server.url) as client:
            for name in QUEUES:
                application.queue(name).resume()
            self._wait_for_the_end(client)
            load.join()
            self._sample()
            self._audit(client, meddlers, load)
        self._end_the_workers()

    # --- while it lasts -----------------------------------------------------------------------

    def _strike_for(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(self._faults.pause())
            self._faults.strike()
            self._sample()
            self._look_at_places()

    def _heal(self) -> None:
        for member in self._members:
            member.replace()
        self._faults.heal()

    def _sample(self) -> None:
        self._memory.sample("a supervisor", self._members[0].worker.pid)
        self._memory.sample("its peer", self._calm.worker.pid)
        for child in self._calm.worker.children:
            self._memory.sample("a peer's child", child)

    def _look_at_places(self) -> None:
        """Each job is in one place at every moment, not only at the end."""
        if time.monotonic() < self._next_look:
            return
        with connect(self._server.url) as client:
            try:
                snapshot = Snapshot.of(client)
            except redis_py.RedisError:  # the server is not there right now
                return
        self._next_look = time.monotonic() + _LOOK
        for case in snapshot.misplaced():
            if (seen := f"meanwhile: {case}") not in self.report.broken["in two places"]:
                self.report.broken["in two places"].append(seen)

    def _be_away(self) -> None:
        """See what the absence of the server, with nothing else wrong, does to the workers."""
        self._heal()
        time.sleep(2 * LEASE)
        self._faults.be_away(self._plan.outage, self._sample)
        before = self._trace.stat().st_size
        back = time.monotonic()
        while self._trace.stat().st_size == before and time.monotonic() - back < STANDSTILL:
            time.sleep(0.005)
        self.report.outage = Outage(
            self._plan.outage,
            workers=len(self._members),
            dead=sum(member.has_ended_by_itself for member in self._members),
            first_run=time.monotonic() - back,
        )

    # --- the end ------------------------------------------------------------------------------

    def _wait_for_the_end(self, client: redis_py.Redis) -> None:
        began = moved = time.monotonic()
        self.report.backlog = fewest = Snapshot.of(client).left()
        while (
            fewest and time.monotonic() - moved < STANDSTILL and time.monotonic() - began < self._plan.drain
        ):
            time.sleep(0.1)
            now_left = Snapshot.of(client).left()
            if now_left < fewest:
                fewest, moved = now_left, time.monotonic()
        self.report.drained_in = time.monotonic() - began

    def _audit(self, client: redis_py.Redis, meddlers: list[Meddler], load: Load) -> None:
        report = self.report
        report.memory = self._memory.report()
        report.faults = self._faults.struck
        report.most_calls = load.most
        report.broken["too many calls"] += load.too_much
        for meddler in meddlers:
            report.acts += meddler.acts
            report.broken["surprised"] += meddler.surprises
        Audit(
            self._ledger,
            Trace.read(self._trace),
            Snapshot.of(client),
            self._faults.windows,
            self._faults.times,
        ).write(report)

    def _end_the_workers(self) -> None:
        """Each ends when it is told to."""
        for member in self._members:
            if member.has_ended:
                member.note_its_end()
            else:
                member.worker.signal(signal.SIGTERM)
        ends = time.monotonic() + _FAREWELL
        while time.monotonic() < ends and not all(member.has_ended for member in self._members):
            time.sleep(0.01)
        for member in self._members:
            if not member.has_ended:
                member.faults.append(f"{member.role.name} does not end on SIGTERM")
            self.report.broken["ended by itself"] += member.faults
