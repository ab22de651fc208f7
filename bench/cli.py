"""The command: bin/bench."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from bench import against, cases, systems
from bench.campaign import Campaign, Plan
from bench.cases import Case
from bench.environments import ROOT, EnvironmentFault, ensure_environment
from bench.figures import Figures
from bench.goals import goals
from bench.processes import Trouble
from bench.systems import System
from bench.tables import terminal

_RESULTS = ROOT / "bench" / "results.json"
_DOCS = ROOT / "docs"
_COMPARED = {case.name: case for case in against.CASES}
_QUICK_SYSTEMS = ("minirq*", "floor")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was asked for; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        print(_listing())
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has it ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        if options.profile:
            python = sys.executable if options.here else ensure_environment("minirq")
            return subprocess.run([str(python), "-m", "bench.profiling"], cwd=ROOT, check=False).returncode
        if options.against:
            return _compared(options, parser)
        if options.docs_from:
            result = json.loads(Path(options.docs_from).read_text())
        else:
            result = _measured(options, parser)
            Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
        print(terminal(result, goals(Figures(result))))
        if options.write_docs or options.docs_from:
            _write_docs(result, Path(options.docs))
    except (EnvironmentFault, Trouble, OSError) as error:
        print(f"bin/bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbin/bench: interrupted, nothing is left running", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "bin/bench", description="minirq beside its peers and beside bare loops."
    )
    parser.add_argument(
        "--quick", action="store_true", help="only minirq and the floor, smaller; a few minutes"
    )
    parser.add_argument("--systems", metavar="A,B", help="systems, or patterns as in celery*; see --list")
    parser.add_argument("--cases", metavar="X,Y", help="cases; see --list")
    parser.add_argument("--runs", type=int, metavar="N", help="runs of each (3; with --quick 1)")
    parser.add_argument("--seconds", type=float, metavar="S", help="what a timed part is meant to take (0.7)")
    parser.add_argument("--most", type=int, metavar="N", help="no more jobs than this in any part")
    parser.add_argument(
        "--json", default=_RESULTS, metavar="PATH", help="where the result goes (bench/results.json)"
    )
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.md and its charts")
    parser.add_argument(
        "--docs-from", metavar="PATH", help="measure nothing, write the docs of a stored result"
    )
    parser.add_argument("--docs", default=_DOCS, metavar="FOLDER", help="where the docs go (docs/)")
    parser.add_argument("--list", action="store_true", help="say which systems and cases there are")
    parser.add_argument(
        "--profile", action="store_true", help="only show where the time of a no-op job goes in minirq"
    )
    parser.add_argument(
        "--against", metavar="COMMIT",
        help="compare the CPU time per job of this checkout with another commit of it; exit code 1 if a case"
        f" may need more than {against.LIMIT:g} times as much. Its cases: {', '.join(_COMPARED)}",
    )  # fmt: skip
    parser.add_argument(
        "--pairs", type=int, default=15, metavar="N", help="pairs that --against measures (15)"
    )
    parser.add_argument("--here", action="store_true", help="run all systems in this environment; make none")
    return parser


def _measured(options: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, Any]:
    chosen = _systems(options, parser)
    homes = {system.home for system in chosen}
    here = Path(sys.executable)
    plan = Plan(
        chosen,
        _cases(options, parser),
        options.runs or (1 if options.quick else 3),
        options.seconds or (0.4 if options.quick else 0.7),
        options.most or (100_000 if options.quick else 1_000_000),
        {home: here if options.here else ensure_environment(home) for home in sorted(homes)},
    )
    with _log() as log:
        return Campaign(plan, log).run()


@contextmanager
def _log() -> Iterator[IO[str]]:
    with tempfile.NamedTemporaryFile("w", prefix="minirq-bench-", suffix=".log", delete=False) as log:
        print(f"What workers print goes to {log.name}", file=sys.stderr)
        yield log


def _compared(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    wanted = options.cases.split(",") if options.cases else list(_COMPARED)
    _check("case of --against", wanted, set(_COMPARED), parser)
    python = Path(sys.executable) if options.here else ensure_environment("minirq")
    with _log() as log:
        chosen = [_COMPARED[name] for name in wanted]
        return against.compare(options.against, chosen, options.pairs, options.most, python, log)


def _systems(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[System]:
    wanted = (
        options.systems.split(",") if options.systems else list(_QUICK_SYSTEMS) if options.quick else None
    )
    if wanted is None:
        return list(systems.ALL)
    return [system for name in wanted for system in _named(name, parser)]


def _named(name: str, parser: argparse.ArgumentParser) -> list[System]:
    """The systems of this name or pattern; or, for a family that has no system of its own name, all of it."""
    found = [system for system in systems.ALL if fnmatch(system.name, name)]
    found = found or [system for system in systems.ALL if system.family == name]
    _check("system", [] if found else [name], {system.name for system in systems.ALL}, parser)
    return found


def _cases(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Case]:
    if not options.cases:
        return list(cases.ALL)
    wanted = options.cases.split(",")
    _check("case", wanted, {case.name for case in cases.ALL}, parser)
    return [case for case in cases.ALL if case.name in wanted]


def _check(what: str, wanted: Sequence[str], known: set[str], parser: argparse.ArgumentParser) -> None:
    for name in wanted:
        if name not in known:
            parser.error(f"no {what} is named {name!r}; there are {', '.join(sorted(known))}")


def _listing() -> str:
    lines = ["systems"]
    lines += [f"  {system.name:16}{system.title}: {system.settings}" for system in systems.ALL]
    lines += ["", "cases", *(f"  {case.name:16}{case.about}" for case in cases.ALL)]
    return "\n".join(lines)


def _write_docs(result: dict[str, Any], folder: Path) -> None:
    # matplotlib takes a second to import, and is there in the driver's environment only
    from bench import charts, report

    drawn = charts.draw(result, folder / "charts")
    (folder / "benchmarks.md").write_text(report.document(result, drawn))
    print(f"Wrote {folder / 'benchmarks.md'} and {len(drawn)} charts.", file=sys.stderr)
