"""bin/bench, on the smallest of its cases and in this environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import ROOT
from support.waits import until

psutil = pytest.importorskip("psutil")

from bench import against, cases, report, systems  # noqa: E402  it needs psutil
from bench.figures import Figure, Figures, written  # noqa: E402
from bench.goals import goals  # noqa: E402
from bench.marks import Marks  # noqa: E402
from bench.tables import terminal  # noqa: E402


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=ROOT, timeout=50)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench", "--here", *arguments]


def test_the_driver_imports_nothing_that_a_system_brings() -> None:
    code = "import sys; sys.modules['msgpack'] = None; import bench.cli"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What is printed, and the result, of the tiniest run."""
    path = tmp_path_factory.mktemp("bench") / "results.json"
    ran = bench(
        *("--systems", "minirq,floor-script10", "--cases", "drain", "--runs", "2"),
        *("--seconds", "0.02", "--most", "300", "--json", str(path)),
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, json.loads(path.read_text())


def test_a_run_measures_each_system_in_each_run(measured: tuple[str, dict[str, Any]]) -> None:
    _, result = measured
    [drain] = result["cases"]
    assert drain["notes"] == {}
    assert set(drain["numbers"]) == {"minirq", "floor-script10"}
    for numbers in drain["numbers"].values():
        assert {"free", "two"} <= set(numbers)
        assert all(len(values) == 2 and min(values) > 0 for values in numbers.values())


def test_the_tables_name_systems_settings_and_goals(measured: tuple[str, dict[str, Any]]) -> None:
    printed, _ = measured
    assert "floor: one EVALSHA for ten jobs" in printed
    assert "`minirq worker -q`" in printed
    assert "at least 0.4 times floor: one EVALSHA for ten jobs" in printed


def test_documents_come_of_a_stored_result(measured: tuple[str, dict[str, Any]]) -> None:
    _, result = measured
    text = report.document(result, {"drain.svg": "No-op jobs"})
    assert text.startswith("# Benchmarks\n")
    assert "![No-op jobs](charts/drain.svg)" in text
    assert f"| {written(Figures(result).of('drain', 'minirq', 'free'), 0)} |" in text
    assert "bin/bench --quick" in text


def test_charts_come_of_a_stored_result(measured: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench import charts

    assert list(charts.draw(measured[1], tmp_path)) == ["drain.svg"]
    assert "<svg" in (tmp_path / "drain.svg").read_text()


# --- what is made of numbers ----------------------------------------------------------------------


def stored(numbers: dict[str, dict[str, list[float | None]]], notes: dict[str, str]) -> dict[str, Any]:
    """A result of one case, with every system."""
    metric = {"name": "pinned", "title": "pinned", "unit": "jobs/s", "higher_is_better": True, "digits": 0}
    case = {"name": "drain", "title": "Drain", "about": "", "metrics": [metric]}
    told = ("name", "family", "title", "settings", "has_status")
    described = [{"versions": {}, **{name: getattr(system, name) for name in told}} for system in systems.ALL]
    machine = {
        "cpu": "",
        "cores": 2,
        "system": "",
        "python": "",
        "redis-server": "",
        "pinning": True,
        "load": 0,
    }
    cases = [{**case, "numbers": numbers, "notes": notes}]
    about = {"date": "2026-01-01T00:00:00", "seconds": 60, "runs": 3, "machine": machine}
    return {**about, "systems": described, "cases": cases}


def test_a_figure_is_the_median_with_its_range() -> None:
    assert written(Figure.of([3000.0, 1000.0, 2000.0]), 0) == "2,000 (1,000 to 3,000)"
    assert written(Figure.of([0.5, 0.5, 0.5]), 1) == "0.5"


def test_a_number_that_one_run_does_not_have_is_none() -> None:
    assert Figure.of([1.0, None, 1.0]) is None


def test_goals_are_judged_by_ratios_and_only_where_there_are_numbers() -> None:
    result = stored({"minirq": {"pinned": [50.0]}, "huey": {"pinned": [10.0]}, "rq": {"pinned": [1.0]}}, {})
    judged = {goal.wanted: (goal.measured, goal.is_met) for goal in goals(Figures(result))}
    assert judged == {
        "at least 5 times huey": ("5.0 times", True),
        "at least 400 times RQ Worker": ("50 times", False),
    }


def test_what_a_system_cannot_do_is_a_dash_with_a_footnote() -> None:
    result = stored({"minirq": {"pinned": [50.0]}}, {"taskiq": "it cannot"})
    table = terminal(result, [])
    assert "taskiq [1]" in table
    assert "[1] taskiq: it cannot" in table


# --- the command ----------------------------------------------------------------------------------


def test_list_names_all_systems_and_cases() -> None:
    listed = bench("--list").stdout
    for name in (*(system.name for system in systems.ALL), *(case.name for case in cases.ALL)):
        assert f"  {name} " in listed


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    refused = bench("--cases", "speed")
    assert refused.returncode == 2
    assert "no case is named 'speed'; there are burn, crowd, delayed" in refused.stderr


def test_an_interrupt_leaves_nothing_running(tmp_path: Path) -> None:
    running = subprocess.Popen(
        command("--systems", "minirq", "--cases", "latency", "--json", str(tmp_path / "r.json")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    process = psutil.Process(running.pid)
    # a server, the process that enqueues, the worker and its child
    until(lambda: len(process.children(recursive=True)) >= 4, seconds=30)
    started = process.children(recursive=True)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 130
    assert psutil.wait_procs(started, timeout=10)[1] == []


# --- how jobs are counted -------------------------------------------------------------------------


def test_jobs_of_all_processes_are_counted_and_none_before_the_gate(tmp_path: Path) -> None:
    code = "from bench import jobs\nfor _ in range(1000): jobs.noop()"
    environment = {**os.environ, "BENCH_MARKS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    running = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    marks = Marks(tmp_path)
    until(lambda: len(marks.boards()) == 2, seconds=20)
    time.sleep(0.02)
    assert marks.counted() == 0
    marks.open_gate()
    assert [process.wait(20) for process in running] == [0, 0]
    assert marks.counted() == 2000
    assert marks.first_ns() < marks.opened_ns < marks.last_ns()


# --- this checkout against another commit ----------------------------------------------------------


def test_two_commits_are_compared_by_the_cpu_time_of_their_jobs() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("there is no other commit without a repository")
    ran = bench("--against", "HEAD", "--pairs", "1", "--most", "20")
    assert "Traceback" not in ran.stderr, ran.stderr
    printed = ran.stdout.splitlines()
    for case, client in (("drain", "worker"), ("drain-one", "worker"), ("enqueue", "producer")):
        for side in (client, "server", "sum"):
            [row] = [line.split() for line in printed if line.split()[:2] == [case, side]]
            this, that, ratio = map(float, row[2:5])
            assert 0.1 < this / that < 10
            assert 0.1 < ratio < 10
            assert this > 1  # no job takes less than a microsecond
    # the code follows the last line
    assert ran.returncode == (0 if "No case is above 1.02" in printed[-1] else 1)


def test_a_commit_that_does_not_exist_is_said() -> None:
    ran = bench("--against", "no-such-commit")
    assert ran.returncode == 1
    assert "no-such-commit" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_each_side_has_the_code_of_its_own_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    (tmp_path / "bench").mkdir()
    (tmp_path / "minirq").mkdir()
    module = tmp_path / "minirq" / "__init__.py"
    module.write_text("then")
    git("init")
    git("add", ".")
    git("commit", "-m", "Begin")
    module.write_text("now")
    monkeypatch.setattr(against, "ROOT", tmp_path)
    with against._checkouts("HEAD") as roots:
        assert [(root / "minirq" / "__init__.py").read_text() for root in roots] == ["now", "then"]


def test_the_interval_of_a_median_lies_between_two_of_the_values() -> None:
    # ranks 4 and 12 of 15: 1 - 2 * (1 + 15 + 105 + 455) / 2**15
    interval = against.Interval.of([float(n) for n in range(1, 16)])
    assert (interval.median, interval.lower, interval.upper) == (8, 4, 12)
    assert interval.confidence == pytest.approx(0.9648, abs=1e-4)
    assert against.Interval.of([1.0, 3.0]).confidence == 0.5  # two of them hold the median half of the time


def test_a_case_whose_interval_ends_above_the_limit_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    equal, dearer = against.Observation(1.0, 1.0, 1.0), against.Observation(1.0, 1.0, 1.03)
    same, more = [equal] * 15, [equal] * 11 + [dearer] * 4
    assert against._report({("drain", "sum"): same, ("enqueue", "sum"): same}) == 0
    assert "No case is above 1.02" in capsys.readouterr().out
    assert against._report({("drain", "sum"): same, ("enqueue", "sum"): more}) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("interval: enqueue (1.030)")
