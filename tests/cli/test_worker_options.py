"""Options of `minirq worker` about its processes, its pid file and its sources."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis as redis_py
from support.command_line import Run, minirq
from support.waits import until
from support.worker import StartWorker

from minirq import Queue
from minirq.cli.pidfile import pid_file
from minirq.exceptions import InvalidOption

MORE_TASKS = """
import os
import sys

_kept = []


def pid():
    return os.getpid()


def grow(size):
    _kept.append(b"x" * size)
    return os.getpid()


def is_loaded(module):
    return module in sys.modules
"""


@pytest.fixture(autouse=True)
def _more(redis: redis_py.Redis, folder: Path) -> None:
    """Start with nothing in Redis, and a second module of jobs."""
    (folder / "more.py").write_text(MORE_TASKS)
    (folder / "big.py").write_text("")


def in_a_burst(
    queue: Queue, start_worker: StartWorker, *options: str, **environ: str
) -> Callable[..., list[object]]:
    def run(function: str, *args: object, times: int = 1) -> list[object]:
        jobs = [queue.enqueue(function, *args) for _ in range(times)]
        worker = start_worker("--burst", *options, **environ)
        assert worker.wait() == 0, worker.log
        return [job.result for job in jobs]

    return run


# --- processes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "environ", "settings"),
    [
        (("--max-jobs-per-child", "2"), {}, ""),
        ((), {"MINIRQ_WORKER_MAX_JOBS_PER_CHILD": "2"}, ""),
        ((), {}, "max_jobs_per_child = 2"),
    ],
)
def test_a_process_is_replaced_after_so_many_jobs(
    queue: Queue,
    start_worker: StartWorker,
    folder: Path,
    options: tuple[str, ...],
    environ: dict[str, str],
    settings: str,
) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.minirq.worker]\n{settings}\n")
    pids = in_a_burst(queue, start_worker, *options, **environ)("more.pid", times=4)
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_process_is_replaced_when_it_has_grown(queue: Queue, start_worker: StartWorker) -> None:
    limited = in_a_burst(queue, start_worker, "--max-memory-per-child", "150M")
    pids = limited("more.grow", 100_000_000, times=4)
    assert len(set(pids)) > 1
    assert len(set(limited("more.pid", times=3))) == 1


@pytest.mark.parametrize(
    ("settings", "environ"),
    [('preload = ["big", "more"]', {}), ("", {"MINIRQ_WORKER_PRELOAD": "big more"})],
)
def test_modules_are_imported_before_the_first_job(
    queue: Queue, start_worker: StartWorker, folder: Path, settings: str, environ: dict[str, str]
) -> None:
    assert in_a_burst(queue, start_worker)("more.is_loaded", "big") == [False]
    assert in_a_burst(queue, start_worker, "--preload", "big")("more.is_loaded", "big") == [True]
    (folder / "pyproject.toml").write_text(f"[tool.minirq.worker]\n{settings}\n")
    assert in_a_burst(queue, start_worker, **environ)("more.is_loaded", "big") == [True]


def test_a_job_that_ignores_its_timeout_is_killed_after_the_grace(
    queue: Queue, start_worker: StartWorker, folder: Path
) -> None:
    (folder / "stubborn.py").write_text(
        "import time\n"
        "def stay():\n"
        "    while True:\n"
        "        try: time.sleep(60)\n"
        "        except BaseException: pass\n"
    )
    job = queue.enqueue("stubborn.stay", job_timeout=0.2)
    worker = start_worker("--kill-grace", "200ms", "--max-jobs", "1")
    worker.wait_for_log("ignores its timeout")
    until(lambda: job.is_failed)


def test_jobs_can_be_claimed_one_by_one(
    queue: Queue, start_worker: StartWorker, redis: redis_py.Redis
) -> None:
    def claims(*options: str) -> int:
        queue.enqueue_many([Queue.prepare_data("more.pid")] * 200)
        redis.config_resetstat()
        assert start_worker("--burst", *options).wait() == 0
        return int(redis.info("commandstats")["cmdstat_evalsha"]["calls"])

    assert claims() < 150
    assert claims("--no-batch") > 200


def test_a_redis_that_evicts_is_refused_unless_it_is_allowed(
    queue: Queue, redis: redis_py.Redis, start_worker: StartWorker
) -> None:
    job = queue.enqueue("more.pid")
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        refused = start_worker("--burst")
        assert refused.wait() == 1
        assert "pass --allow-eviction" in refused.log
        assert start_worker("--burst", "--allow-eviction").wait() == 0
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
    assert job.is_finished


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-memory-per-child", "much"), "'much'"),
        (("--max-jobs-per-child", "0"), "0 is not in the range"),
        (("--kill-grace", "-1"), "is negative"),
        (("--config", "no-such-file"), "no-such-file"),
    ],
)
def test_wrong_usage(run: Run, options: tuple[str, ...], said: str) -> None:
    done = run("worker", *options)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]


# --- the pid file -----------------------------------------------------------------------------


def test_the_pid_file_is_there_while_the_worker_runs(start_worker: StartWorker, folder: Path) -> None:
    file = folder / "worker.pid"
    file.write_text("999999999\n")  # left behind by one that was killed
    worker = start_worker("--pid", "worker.pid")
    worker.wait_for_log("serves default at")
    assert file.read_text() == f"{worker.process.pid}\n"

    second = start_worker("--pid", "worker.pid")
    assert second.wait() == 1
    assert f"names process {worker.process.pid}, which is running" in second.log
    assert file.read_text() == f"{worker.process.pid}\n"

    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert not file.exists()


def test_a_pid_file_of_somebody_else_stays(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with pid_file(file):
        file.write_text("1\n")
    assert file.read_text() == "1\n"
    file.write_text("no number")
    with pid_file(file):
        assert int(file.read_text()) == os.getpid()
    assert not file.exists()


@pytest.mark.parametrize("kind", ["link", "second name", "pipe", "directory"])
def test_what_was_planted_for_a_pid_file_is_left_alone(tmp_path: Path, kind: str) -> None:
    important, planted = tmp_path / "important", tmp_path / "pid"
    important.write_text("thesis")
    match kind:
        case "link":
            planted.symlink_to(important)
        case "second name":
            planted.hardlink_to(important)
        case "pipe":
            os.mkfifo(planted)
        case _:
            planted.mkdir()
    with pytest.raises(InvalidOption, match="the pid file"), pid_file(planted):
        pytest.fail("it went on")
    assert important.read_text() == "thesis"
    assert os.path.lexists(planted)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_pid_file_that_a_stranger_can_change_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pid").touch()
    os.chown(tmp_path / "pid", 65534, 65534)
    with pytest.raises(InvalidOption, match="not a file of this user alone"), pid_file(tmp_path / "pid"):
        pytest.fail("it went on")


def test_a_pid_file_that_cannot_be_written(tmp_path: Path) -> None:
    where = pid_file(tmp_path / "gone" / "pid")
    with pytest.raises(InvalidOption, match="cannot be written: No such file"), where:
        pytest.fail("it went on")


# --- sources ----------------------------------------------------------------------------------


@pytest.mark.parametrize("environ", [{}, {"MINIRQ_WORKER_RELOAD": "1"}])
def test_reload_names_the_command_that_restarts_the_worker(run: Run, environ: dict[str, str]) -> None:
    done = run("worker", *([] if environ else ["--reload"]), **environ)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("watchfiles 'minirq worker' .")
    assert "--reload" not in run("worker", "--help").stdout


# --- a settings file --------------------------------------------------------------------------


def test_a_settings_file_holds_for_the_worker_and_for_its_jobs(
    redis: redis_py.Redis, redis_url: str, folder: Path
) -> None:
    (folder / "chain.py").write_text(
        "from minirq import Queue\ndef first(): return Queue('next').enqueue('tasks.add', 1, 2).id\n"
    )
    (folder / "settings.toml").write_text(
        f'[tool.minirq]\nredis_url = "{redis_url}"\nnamespace = "mine"\n'
        '[tool.minirq.worker]\nqueues = ["default", "next"]\nburst = true\n'
    )
    Queue(connection=redis, namespace="mine").enqueue("chain.first")
    done = minirq("worker", "--config", "settings.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert redis.zcard("mine:{next}:finished") == 1
