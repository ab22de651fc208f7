"""What a worker runs: the application's own functions, whoever asks; others only with --allow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import msgpack
import pytest
import redis as redis_py
from support import ROOT
from support.waits import until
from support.worker import StartWorker

from minirq import JobStatus, Queue
from minirq.protocol.serializers import resolve_serializer

#: shells that any installation has to offer: in a dependency, in pip, and in CPython's own tests
_ATTACKS = {
    "click.edit": (["x"], {"editor": "sh -c 'touch {file}; exit 0' --"}),
    "tasks.edit": (["x"], {"editor": "sh -c 'touch {file}; exit 0' --"}),
    "pip._internal.utils.subprocess.call_subprocess": ([["touch", "{file}"]], {"command_desc": "x"}),
    "_testcapi.run_in_subinterp": (["open('{file}', 'w')"], {}),
    "test.support.script_helper.assert_python_ok": (["-c", "open('{file}', 'w')"], {}),
}
#: some systems leave pip and CPython's own tests out
ATTACKS = {
    name: call for name, call in _ATTACKS.items() if name == "tasks.edit" or find_spec(name.split(".")[0])
}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "tasks.py").write_text("from click import edit\n\ndef add(a, b): return a + b\n")
    return folder


@pytest.fixture
def push(redis: redis_py.Redis, tmp_path: Path) -> Callable[[str], Path]:
    """LPUSH a payload with the function's name as its id; return the file that the attack leaves."""

    def push(name: str) -> Path:
        file = tmp_path / f"pwned-{name}"
        args, kwargs = json.loads(json.dumps(ATTACKS[name]).replace("{file}", str(file)))
        blob = resolve_serializer("msgpack").dumps([None, args, kwargs], "call")
        redis.lpush("minirq:{default}:queue", msgpack.packb([name, 1, name, "msgpack", blob, {}]))
        return file

    return push


def test_who_can_push_has_no_shell(
    redis: redis_py.Redis, start_worker: StartWorker, app: Path, push: Callable[[str], Path]
) -> None:
    files = [push(name) for name in ATTACKS]
    worker = start_worker(paths=[str(app)])
    for name in ATTACKS:
        until(lambda name=name: redis.hexists("minirq:{default}:job:" + name, "missed"))
        asked = "click.termui.edit" if name.endswith("edit") and name != "click.edit" else name
        # the line follows the answer
        until(lambda name=name: f"job {name} is left to other workers" in worker.log)
        assert f"--allow '{asked}'" in worker.log
    assert Queue(connection=redis).enqueue("tasks.add", 1, 2).wait(10) == 3
    assert not any(file.exists() for file in files)


@pytest.mark.parametrize("name", ["click.edit", "tasks.edit"])
def test_the_attack_is_real(
    start_worker: StartWorker, app: Path, push: Callable[[str], Path], name: str
) -> None:
    file = push(name)
    start_worker(paths=[str(app)], allow=["click.*"])
    until(file.exists)


def test_a_refused_function_is_left_to_a_worker_that_allows_it(
    redis: redis_py.Redis, start_worker: StartWorker, app: Path
) -> None:
    queue = Queue(connection=redis)
    strict = start_worker(paths=[str(app)])
    with pytest.warns(UserWarning, match="workers refuse os.getpid"):
        first, second = queue.enqueue("os.getpid"), queue.enqueue("os.getpid")
    for job in (first, second):
        until(lambda job=job: redis.hexists("minirq:{default}:job:" + job.id, "missed"))
    until(lambda: strict.log.count("FunctionRefused") >= 2)
    strict.signal(signal.SIGTERM)  # or they might meet again and again, after longer and longer pauses
    assert strict.wait() == 0
    start_worker(paths=[str(app)], allow=["os.getpid"])
    assert isinstance(first.wait(20), int)
    assert isinstance(second.wait(20), int)
    assert (first.attempts, first.errors) == (1, [])


def test_a_refused_function_fails_after_a_minute_with_the_way_out(
    redis: redis_py.Redis, start_worker: StartWorker, app: Path
) -> None:
    (app / "logs.py").write_text(
        "import logging\n"
        "shown = logging.Formatter('%(levelname)s %(message)s')\n"
        "logging.getLogger().handlers[0].setFormatter(shown)\n"
    )
    worker = start_worker(paths=[str(app)], preload=["logs"])
    with pytest.warns(UserWarning, match="workers refuse os.getpid"):
        job = Queue(connection=redis).enqueue("os.getpid")
    key = "minirq:{default}:job:" + job.id
    until(lambda: redis.hexists(key, "missed"))
    redis.hset(key, "missed", f"{round(time.time() * 1000) - 61_000} 0")  # as if a minute had passed
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert "--allow 'os.getpid'" in job.errors[0].message
    told = [line.split()[0] for line in worker.log.splitlines() if "is left to other workers" in line]
    assert told[0] == "ERROR"
    assert "ERROR" not in told[1:]


def test_only_narrows(redis: redis_py.Redis, start_worker: StartWorker, app: Path) -> None:
    (app / "mail.py").write_text("def send(): return 'sent'\n")
    queue = Queue(connection=redis)
    worker = start_worker(paths=[str(app)], only=["mail.*"])
    other, mail = queue.enqueue("tasks.add", 1, 2), queue.enqueue("mail.send")
    assert mail.wait(10) == "sent"
    until(lambda: "'tasks.add' may not run here" in worker.log)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    start_worker(paths=[str(app)])
    assert other.wait(20) == 3


RQ_STYLE = """
import multiprocessing, sys
from tasks import add
from minirq import Queue, SimpleWorker

class MyWorker(SimpleWorker):
    pass

def work(url):
    MyWorker(["default"], connection=url).work(burst=True)

if __name__ == "__main__":
    url, method = sys.argv[1:]
    job = Queue(connection=url).enqueue(add, 1, 2)
    process = multiprocessing.get_context(method).Process(target=work, args=(url,))
    process.start()
    process.join()
    print(job.result)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("how", ["a script", "-m"])
def test_simple_workers_in_processes_of_the_applications_own(
    redis: redis_py.Redis, redis_url: str, app: Path, method: str, how: str
) -> None:
    (app / "run.py").write_text(RQ_STYLE)
    started = ["run.py"] if how == "a script" else ["-m", "run"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *started, redis_url, method], cwd=app, env=environ, capture_output=True, text=True
    )
    assert done.stdout == "3\n", done.stderr


# --- installed applications -------------------------------------------------------------------

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "shop"
version = "1.0"
[tool.hatch.build.targets.wheel]
packages = ["src/shop"]
[tool.hatch.build]
dev-mode-dirs = ["src"]
"""


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """An environment into which a project `shop` is installed; where minirq is it has from a .pth file."""

    def install(*options: str) -> Path:
        folder = tmp_path_factory.mktemp("image")
        source = folder / "source"
        (source / "src" / "shop").mkdir(parents=True)
        (source / "pyproject.toml").write_text(PROJECT)
        (source / "src" / "shop" / "__init__.py").touch()
        (source / "src" / "shop" / "tasks.py").write_text("def add(a, b): return a + b\n")
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        python = folder / "venv" / "bin" / "python"
        [packages] = (folder / "venv").glob("lib/python*/site-packages")
        outside = [path for path in sys.path if Path(path).name == "site-packages"]
        (packages / "outside.pth").write_text("\n".join([str(ROOT), *outside]) + "\n")
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install")
        subprocess.run(
            [*pip, "-q", "--no-deps", "--no-index", "--no-build-isolation", *options, source], check=True
        )
        return python

    return install


def run_installed(python: Path, url: str, cwd: Path, *options: str) -> str:
    command = [python, "-m", "minirq", "worker", "--burst", "--url", url, *options]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environ, stderr=subprocess.PIPE, check=True, text=True).stderr


@pytest.mark.slow
def test_an_editable_install_runs(
    redis: redis_py.Redis, redis_url: str, install: Callable[..., Path], tmp_path: Path
) -> None:
    job = Queue(connection=redis).enqueue("shop.tasks.add", 1, 2)
    log = run_installed(install("-e"), redis_url, tmp_path)
    assert job.result == 3, log


@pytest.mark.slow
def test_an_image_with_the_application_installed_allows_it(
    redis: redis_py.Redis, redis_url: str, install: Callable[..., Path], tmp_path: Path
) -> None:
    python = install()
    job = Queue(connection=redis).enqueue("shop.tasks.add", 1, 2)
    assert "--allow 'shop.*'" in run_installed(python, redis_url, tmp_path)
    assert job.result is None
    run_installed(python, redis_url, tmp_path, "--allow", "shop.*")
    assert job.result == 3
