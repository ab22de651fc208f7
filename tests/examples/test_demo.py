"""The example and bin/demo, on a small directory of sources."""

from __future__ import annotations

import hashlib
import os
import pty
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from support import ROOT
from support.waits import until

EXAMPLE = ROOT / "examples" / "stdlib_report"
ENVIRONMENT = Path(sys.prefix)

# the real one makes .venv and installs into it; the tests run in an environment that is made already
VENV_SH = (
    'root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)\nuse_venv() { PATH=$root/.venv/bin:$PATH; }\n'
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ENVIRONMENT / "bin" / "minirq").exists(), reason="minirq's command is not here"),
]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    (folder / "site-packages").mkdir(parents=True)
    (folder / "site-packages" / "installed.py").write_text("")
    (folder / "good.py").write_text("def short(): ...\n\n\nasync def long():\n    a = 1\n    return a\n")
    (folder / "empty.py").write_text("")
    (folder / "bad.py").write_text("print 'no'\n")
    (folder / "worse.py").write_text("\nprint 'neither'\n")
    (folder / "octal.py").write_bytes(b"a = 0777\n")
    return folder


# --- the example ------------------------------------------------------------------------------


def test_measure_says_what_a_source_file_holds(sources: Path) -> None:
    measure = runpy.run_path(str(EXAMPLE / "tasks.py"))["measure"]
    assert measure(str(sources / "good.py")) == {
        "lines": 6,
        "functions": 2,
        "longest": "long",
        "longest_lines": 3,
        "sha256": hashlib.sha256((sources / "good.py").read_bytes()).hexdigest(),
    }
    assert measure(str(sources / "empty.py"))["longest"] == ""
    with pytest.raises(SyntaxError):
        measure(str(sources / "bad.py"))


@pytest.fixture
def _worker(redis: redis_py.Redis, redis_url: str) -> Iterator[None]:
    command = [sys.executable, "-m", "minirq", "worker", "--quiet", "--path", EXAMPLE, "--url", redis_url]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        yield
        process.terminate()


def report(*arguments: str | Path, redis_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLE / "report.py", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "MINIRQ_REDIS_URL": redis_url},
        timeout=50,
    )


@pytest.mark.usefixtures("_worker")
def test_the_report_names_the_largest_modules_and_groups_the_failures(sources: Path, redis_url: str) -> None:
    done = report(sources, redis_url=redis_url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"Enqueued 5 jobs, one for each source file in {sources}."
    assert [line for line in lines if line.endswith("/5")] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert "3 failed." in done.stdout
    assert [line.split() for line in lines if ".py " in line] == [
        ["6", "2", "good.py", "long", "(3", "lines)"],
        ["0", "0", "empty.py", "none"],
    ]
    failures = done.stdout.partition("Failed, and why:\n")[2].partition("\n\n")[0].splitlines()
    assert failures[0].startswith("      2  SyntaxError: Missing parentheses")
    assert [line.strip() for line in failures[1:3]] == ["bad.py", "worse.py"]
    assert failures[3].startswith("      1  SyntaxError: leading zeros")


@pytest.mark.usefixtures("_worker")
def test_the_report_does_without_failures(sources: Path, redis_url: str) -> None:
    for name in ("bad.py", "worse.py", "octal.py"):
        (sources / name).unlink()
    done = report(sources, redis_url=redis_url)
    assert done.returncode == 0, done.stderr
    assert "0 failed." in done.stdout
    assert "minirq info" in done.stdout
    assert "requeue" not in done.stdout
    assert "Failed" not in done.stdout


@pytest.mark.usefixtures("_worker")
def test_on_a_terminal_the_report_shows_a_bar(sources: Path, redis_url: str) -> None:
    ours, theirs = pty.openpty()
    environ = {**os.environ, "MINIRQ_REDIS_URL": redis_url}
    command = [sys.executable, EXAMPLE / "report.py", sources]
    with subprocess.Popen(command, stdout=theirs, env=environ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the terminal's other end was closed
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"\r[########................................] 1/5" in shown
    assert b"\r[########################################] 5/5" in shown


# --- bin/demo ---------------------------------------------------------------------------------


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A checkout with bin/demo, whose .venv is the environment of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="minirq test-")).resolve()  # a name that has to be quoted
    (folder / "bin").mkdir()
    shutil.copy(ROOT / "bin" / "demo", folder / "bin" / "demo")
    (folder / "bin" / "venv.sh").write_text(VENV_SH)
    (folder / ".venv").symlink_to(ENVIRONMENT)
    (folder / "examples").symlink_to(ROOT / "examples")
    try:
        yield folder
    finally:
        environ = {**os.environ, "MINIRQ_HOME": str(folder / ".demo")}
        subprocess.run([sys.executable, "-m", "minirq", "server", "stop"], env=environ)
        shutil.rmtree(folder)


def start_demo(checkout: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    # a Redis that is configured must be left alone, and is not there
    environ = {**os.environ, "MINIRQ_REDIS_URL": "redis://localhost:1"}
    return subprocess.Popen(
        [checkout / "bin" / "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        cwd=checkout,
        start_new_session=True,  # its processes get signals as those of a terminal do
    )


def running(checkout: Path) -> list[str]:
    """The processes that have this checkout in their command line: worker, report, server."""
    if Path("/proc/self/cmdline").exists():
        lines = []
        for folder in Path("/proc").iterdir():
            try:
                lines.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except (OSError, UnicodeDecodeError):  # it has ended, or is none
                continue
    else:
        ps = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True)
        lines = ps.stdout.splitlines()
    return [line for line in lines if str(checkout) in line]


def test_the_demo_leaves_nothing_running_and_what_it_says_to_type_next_works(
    checkout: Path, sources: Path
) -> None:
    with start_demo(checkout, sources) as demo:
        said, complaints = demo.communicate(timeout=50)
    assert demo.returncode == 0, complaints
    assert "5 jobs in" in said
    assert running(checkout) == []
    assert (checkout / ".demo" / "server.json").exists()

    commands = [line.strip() for line in said.splitlines() if "bin/minirq" in line]
    names = [command.partition("bin/minirq ")[2].split()[0] for command in commands]
    assert names == ["server", "info", "job", "requeue", "worker", "server"]
    printed = []
    for command in commands:
        environ = {**os.environ, "MINIRQ_REDIS_URL": "redis://localhost:1", "MINIRQ_EMBEDDED": "1"}
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, cwd=checkout, env=environ, timeout=30
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        printed.append(done.stdout + done.stderr)
    assert "Started" in printed[0]
    assert "default" in printed[1]
    assert "SyntaxError" in printed[2]
    assert "Requeued 1 job" in printed[3]
    assert "1 run, 1 failed" in printed[4]
    assert running(checkout) == []


def test_an_interrupted_demo_leaves_nothing_running(checkout: Path) -> None:
    with start_demo(checkout) as demo:  # of the whole standard library
        until(lambda: any("report.py" in line for line in running(checkout)))
        until(lambda: any(" worker " in line for line in running(checkout)))
        os.killpg(demo.pid, signal.SIGINT)
        demo.communicate(timeout=20)
    assert demo.returncode == 130
    assert running(checkout) == []


def test_a_demo_that_does_not_get_through_says_why(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "no-sources").mkdir()
    with start_demo(checkout, tmp_path / "no-sources") as demo:
        _, complaints = demo.communicate(timeout=50)
    assert demo.returncode == 1
    assert "holds no Python sources" in complaints
    assert "did not get through" in complaints
    assert running(checkout) == []
