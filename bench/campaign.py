"""Campaign: runs the cases over the systems, interleaved, and collects what comes of it as plain data."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from bench import machine
from bench.cases.case import Case, Numbers
from bench.environments import versions_in
from bench.processes import Trouble, end_children
from bench.server import Server
from bench.stage import Stage
from bench.systems import System, Unsupported

Result = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is to be measured. `pythons` are the interpreters by environment."""

    systems: Sequence[System]
    cases: Sequence[Case]
    runs: int
    seconds: float
    most: int
    pythons: dict[str, Path]


class Campaign:
    """One start of bin/bench."""

    def __init__(self, plan: Plan, log: IO[str]) -> None:
        self._plan = plan
        self._log = log
        #: case, system and metric to values; case and system to why there are none
        self._values: dict[str, dict[str, dict[str, list[float | None]]]] = {}
        self._notes: dict[str, dict[str, str]] = {}
        self._server = Server()

    def run(self) -> Result:
        """Measure everything; what failed is noted, and the rest goes on."""
        began = time.monotonic()
        started = datetime.now(UTC)
        about = machine.describe()
        try:
            self._run_all()
            version = self._server.binary.version
        finally:
            self._server.close()
        return self._result(about | {"redis-server": version}, started, time.monotonic() - began)

    # --- measuring --------------------------------------------------------------------------------

    def _run_all(self) -> None:
        run = 0
        try:
            for run in range(self._plan.runs):
                for case in self._plan.cases:
                    if case.runs is None or run < case.runs:
                        self._run_case(run, case)
        except KeyboardInterrupt:
            if run == 0:
                raise
            end_children()
            _say(f"interrupted in run {run + 1}: what was measured until then is kept")

    def _run_case(self, run: int, case: Case) -> None:
        systems = [system for system in self._plan.systems if self._takes_part(system, case)]
        # each run begins with another system
        turn = run % max(len(systems), 1)
        ordered = systems[turn:] + systems[:turn]
        _say(f"run {run + 1} of {self._plan.runs}: {case.title} ({len(ordered)} systems)")
        if case.together:
            with ThreadPoolExecutor(len(ordered) or 1) as pool:
                try:
                    for future in [pool.submit(self._alone, system, case) for system in ordered]:
                        future.result()
                except BaseException:
                    # threads cannot be interrupted; without their servers and workers they end at once
                    end_children()
                    raise
        else:
            for system in ordered:
                self._measure(system, case, self._server)

    def _alone(self, system: System, case: Case) -> None:
        server = Server()
        try:
            self._measure(system, case, server)
        finally:
            server.close()

    def _measure(self, system: System, case: Case, server: Server) -> None:
        plan = self._plan
        stage = Stage(system, plan.pythons[system.home], server, self._log, plan.seconds, plan.most)
        began = time.monotonic()
        try:
            numbers = case.measure(stage)
        except (Trouble, Unsupported) as error:
            self._note(case, system, str(error))
            _say(f"  {system.title}: {error}")
        except Exception as error:  # whatever it is, the other systems are measured
            self._log.write(traceback.format_exc())
            self._note(case, system, f"{type(error).__name__}: {error}")
            _say(f"  {system.title}: {type(error).__name__}: {error}")
        else:
            self._add(case, system, numbers)
            _say(f"  {system.title}: {time.monotonic() - began:.1f} s")

    def _takes_part(self, system: System, case: Case) -> bool:
        is_named = case.name in system.also
        is_meant = not case.by_name_only and (system.cases is None or case.name in system.cases)
        if not (is_named or is_meant):
            return False
        noted = self._notes.get(case.name, {})
        if system.name not in noted:
            refusal = system.refusal(case.name, self._plan.pythons[system.home])
            if refusal is None:
                return True
            self._note(case, system, refusal)
        # what failed once is not tried again
        return False

    def _note(self, case: Case, system: System, why: str) -> None:
        self._notes.setdefault(case.name, {})[system.name] = why

    def _add(self, case: Case, system: System, numbers: Numbers) -> None:
        kept = self._values.setdefault(case.name, {}).setdefault(system.name, {})
        for name, value in numbers.items():
            kept.setdefault(name, []).append(value)

    # --- what came of it --------------------------------------------------------------------------

    def _result(self, about: Result, started: datetime, duration: float) -> Result:
        plan = self._plan
        return {
            "format": 1,
            "date": started.isoformat(timespec="seconds"),
            "seconds": round(duration),
            "runs": plan.runs,
            "machine": about,
            "systems": [_described(system, plan.pythons[system.home]) for system in plan.systems],
            "cases": [self._case_result(case) for case in plan.cases],
        }

    def _case_result(self, case: Case) -> Result:
        return {
            "name": case.name,
            "title": case.title,
            "about": case.about,
            "metrics": [
                {
                    "name": metric.name,
                    "title": metric.title,
                    "unit": metric.unit,
                    "higher_is_better": metric.higher_is_better,
                    "digits": metric.digits,
                }
                for metric in case.metrics
            ],
            "numbers": self._values.get(case.name, {}),
            "notes": self._notes.get(case.name, {}),
        }


def _described(system: System, python: Path) -> Result:
    return {
        "name": system.name,
        "family": system.family,
        "title": system.title,
        "settings": system.settings,
        "has_status": system.has_status,
        "versions": versions_in(python),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
