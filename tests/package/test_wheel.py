"""The wheel holds all that runs need: installed into an empty environment, it runs a job there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from support import ROOT

PACKAGE = ROOT / "minirq"

pytestmark = pytest.mark.slow

JOB = """
import minirq, sys
from minirq import Queue, Worker
job = Queue().enqueue("tasks.double", 21)
Worker(["default"]).work(burst=True)
print(minirq.__file__)
print(job.return_value())
"""


def run(*command: str | Path, **environ: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environ})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment of the wheel alone; its dependencies are found where the tests have them."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "-q", "--no-deps", "--no-index", wheel)
    [site_packages] = folder.glob("lib/python*/site-packages")
    specs = [importlib.util.find_spec(name) for name in ("redis", "click", "msgpack")]
    found = {Path(spec.origin).parent.parent for spec in specs if spec and spec.origin}
    # what a .pth file names is searched after the environment itself, and its own .pth files are not read
    (site_packages / "dependencies.pth").write_text("\n".join(map(str, found)) + "\n")
    return folder


def test_scripts_and_types_are_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    ours = [file for file in PACKAGE.rglob("*") if file.suffix in (".py", ".lua") or file.name == "py.typed"]
    assert len([file for file in ours if file.suffix == ".lua"]) > 10
    assert {str(file.relative_to(ROOT)) for file in ours} <= inside
    astray = [name for name in inside if not name.startswith(("minirq/", "minirq-"))]
    assert astray == []


def test_a_job_runs_from_the_wheel(
    environment: Path, redis_url: str, redis: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks.py").write_text("def double(number):\n    return number * 2\n")
    monkeypatch.chdir(tmp_path)
    printed = run(environment / "bin" / "python", "-c", JOB, MINIRQ_REDIS_URL=redis_url, PYTHONPATH="")
    where, result = printed.splitlines()
    assert Path(where).is_relative_to(environment)
    assert result == "42"


def test_the_command_is_installed(environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(environment / "bin" / "minirq", "--version", PYTHONPATH="").startswith("minirq ")
    assert "worker" in run(environment / "bin" / "minirq", "--help", PYTHONPATH="")
