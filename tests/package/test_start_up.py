"""What must not pay for what it does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("redis", "asyncio", "msgpack", "tomllib", "zoneinfo", "pickle")


def imported_by(code: str) -> set[str]:
    """Run the code in a new process and return which of the heavy modules it has imported."""
    report = f"import sys; sys.stderr.write(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    script = f"try:\n    {code}\nexcept SystemExit:\n    pass\n{report}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_the_probe_sees_what_is_imported() -> None:
    assert imported_by("import redis") >= {"redis", "asyncio"}


@pytest.mark.parametrize("argument", ["--help", "-h", "--version"])
def test_help_and_version_import_neither_redis_nor_asyncio(argument: str) -> None:
    code = f"import sys; sys.argv = ['minirq', '{argument}']; from minirq.cli.main import main; main()"
    assert imported_by(code) == set()


def test_importing_minirq_imports_neither_redis_nor_asyncio() -> None:
    assert imported_by("import minirq") == set()


def test_a_worker_imports_what_its_jobs_use_and_no_more() -> None:
    code = "import minirq.cli.worker, minirq.worker.supervisor, minirq.worker.child"
    needed_anyway = imported_by("import redis, msgpack")
    assert imported_by(code) == needed_anyway
