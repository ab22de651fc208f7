"""`minirq worker`, as who starts it and who stops it see it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import redis as redis_py
from support.command_line import OnTerminal, Run
from support.waits import until
from support.worker import StartWorker

from minirq import Queue, __version__
from minirq.connection import ensure_server


@pytest.fixture(autouse=True)
def _empty_server(redis: redis_py.Redis) -> None:
    """Every test begins with nothing in Redis."""


def test_the_first_line_names_the_file_that_configured_it(start_worker: StartWorker, folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.minirq.worker]\nburst = true\n")
    worker = start_worker()
    assert worker.wait() == 0
    assert worker.log.splitlines()[0].endswith(f", configured by {folder / 'pyproject.toml'}")


def test_a_burst_runs_what_waits_and_exits_with_0(
    queue: Queue, redis: redis_py.Redis, redis_url: str, start_worker: StartWorker
) -> None:
    jobs = [queue.enqueue("tasks.add", n, 1) for n in range(3)]
    mail = Queue("emails", redis).enqueue("tasks.add", 20, 2)

    worker = start_worker("default", "emails", "--burst")

    assert worker.wait() == 0
    assert [job.result for job in [*jobs, mail]] == [1, 2, 3, 22]
    first_line = worker.log.splitlines()[0]
    assert first_line.endswith(f" minirq {__version__} serves default, emails at {redis_url}")


def test_without_queues_it_serves_default(queue: Queue, start_worker: StartWorker) -> None:
    job = queue.enqueue("tasks.add", 1, 2)
    assert start_worker("-b").wait() == 0
    assert job.is_finished


def test_a_failed_job_is_no_failure_of_the_worker(queue: Queue, start_worker: StartWorker) -> None:
    queue.enqueue("tasks.fail")
    worker = start_worker("-b")
    assert worker.wait() == 0
    assert "ValueError: no" in worker.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_the_job_end_and_it_exits_with_0(
    queue: Queue, start_worker: StartWorker, folder: Path, number: int
) -> None:
    running = queue.enqueue("tasks.wait_for", str(folder / "gate"))
    waiting = queue.enqueue("tasks.add", 1, 2)
    worker = start_worker()
    until((folder / "gate.started").exists)

    worker.signal(number)
    worker.wait_for_log("stopping")
    (folder / "gate").touch()

    assert worker.wait() == 0
    assert running.result == "opened"
    assert waiting.is_queued


def test_the_second_signal_cuts_the_job_off_and_it_exits_with_0(
    queue: Queue, start_worker: StartWorker, folder: Path
) -> None:
    job = queue.enqueue("tasks.wait_for", str(folder / "gate"))
    worker = start_worker()
    until((folder / "gate.started").exists)

    worker.signal(signal.SIGTERM)
    worker.wait_for_log("stopping")
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    assert job.is_queued


def test_the_stop_timeout_cuts_the_job_off(queue: Queue, start_worker: StartWorker, folder: Path) -> None:
    job = queue.enqueue("tasks.wait_for", str(folder / "gate"))
    worker = start_worker("--stop-timeout", "100ms")
    until((folder / "gate.started").exists)
    worker.signal(signal.SIGTERM)
    assert worker.wait(5) == 0
    assert job.is_queued


def test_max_jobs(queue: Queue, start_worker: StartWorker) -> None:
    for _ in range(5):
        queue.enqueue("tasks.add", 1, 2)
    assert start_worker("--max-jobs", "3").wait() == 0
    assert queue.count == 2


def test_processes_and_name_are_shown_to_others(start_worker: StartWorker, run: Run) -> None:
    start_worker("-p", "2", "--name", "web-1", "--lease", "0.5", "default", "emails")

    def shown() -> list[dict[str, object]]:
        workers = json.loads(run("info", "--json").stdout)["workers"]
        return workers if workers and len(workers[0]["processes"]) == 2 else []

    [worker] = until(shown)
    assert worker["name"] == "web-1"
    assert worker["queues"] == ["default", "emails"]


def test_paths_come_first(queue: Queue, start_worker: StartWorker, folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other" / "tasks.py").write_text("def add(a, b): return 'the other one'\n")
    job = queue.enqueue("tasks.add", 1, 2)
    assert start_worker("-b", "-P", "other", "-P", ".").wait() == 0
    assert job.result == "the other one"


@pytest.mark.parametrize(("options", "status"), [((), "queued"), (("--allow", "os.getpid"), "finished")])
def test_allow_opens_a_function(
    queue: Queue, start_worker: StartWorker, options: tuple[str, ...], status: str
) -> None:
    with pytest.warns(UserWarning, match="workers refuse os.getpid"):
        job = queue.enqueue("os.getpid")
    assert start_worker("-b", *options).wait() == 0
    assert job.get_status() == status


@pytest.mark.parametrize(("options", "status"), [((), "failed"), (("--accept", "pickle"), "finished")])
def test_accept_opens_a_serializer(
    redis: redis_py.Redis, start_worker: StartWorker, options: tuple[str, ...], status: str
) -> None:
    job = Queue(connection=redis, serializer="pickle").enqueue("tasks.add", 1, 2)
    assert start_worker("-b", *options).wait() == 0
    assert job.get_status() == status


# --- where settings come from -----------------------------------------------------------------


def test_settings_come_from_the_command_line_the_environment_and_pyproject_in_this_order(
    redis: redis_py.Redis, start_worker: StartWorker, folder: Path
) -> None:
    (folder / "pyproject.toml").write_text(
        '[tool.minirq.worker]\nqueues = ["emails"]\nmax_jobs = 1\nprocesses = 1\nlog_format = "json"\n'
    )
    queue = Queue("emails", redis)
    for _ in range(6):
        queue.enqueue("tasks.add", 1, 2)

    assert start_worker().wait() == 0
    assert queue.count == 5
    worker = start_worker(MINIRQ_WORKER_MAX_JOBS="2", MINIRQ_WORKER_PROCESES="4")
    assert worker.wait() == 0
    assert "MINIRQ_WORKER_PROCESES: the worker has no such option" in worker.log
    assert "MINIRQ_WORKER_MAX_JOBS" not in worker.log
    assert queue.count == 3
    worker = start_worker("--max-jobs", "3", MINIRQ_WORKER_MAX_JOBS="2")
    assert worker.wait() == 0
    assert queue.count == 0
    assert json.loads(worker.log.splitlines()[0])["level"] == "INFO"


def test_queues_can_come_from_the_environment(redis: redis_py.Redis, start_worker: StartWorker) -> None:
    job = Queue("b", redis).enqueue("tasks.add", 1, 2)
    assert start_worker("-b", MINIRQ_WORKER_QUEUES="a b").wait() == 0
    assert job.is_finished


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("proceses = 2", "tool.minirq.worker.proceses: no such key; known are accept, allow, allow_eviction"),
        ('burst = "no"', "tool.minirq.worker.burst is 'no': write true or false"),
        ("processes = true", "tool.minirq.worker.processes is True: write a number"),
        ("processes = 0", "tool.minirq.worker.processes: 0 is not in the range"),
        ('allow = "os.*"', "tool.minirq.worker.allow is 'os.*': write a list of texts"),
        ('lease = "soon"', "tool.minirq.worker.lease: 'soon' is not a duration"),
    ],
)
def test_a_mistake_in_pyproject_is_one_line_that_names_the_key(
    run: Run, folder: Path, line: str, said: str
) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.minirq.worker]\n{line}\n")
    done = run("worker", "--burst")
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- the log ----------------------------------------------------------------------------------


def test_json_logs_carry_the_facts_of_a_job(queue: Queue, start_worker: StartWorker) -> None:
    queue.enqueue("tasks.add", 1, 2, job_id="good")
    queue.enqueue("tasks.fail", "a\nb", job_id="bad")
    worker = start_worker("-b", "--log-format", "json", "-n", "w")
    assert worker.wait() == 0

    lines = [json.loads(line) for line in worker.log.splitlines()]
    assert all({"ts", "level", "logger", "message"} <= line.keys() for line in lines)
    started, finished = (line for line in lines if line.get("job_id") == "good")
    facts = {"job_id": "good", "queue": "default", "func": "tasks.add", "attempt": 1, "worker": "w"}
    assert facts.items() <= started.items()
    assert "seconds" not in started
    assert facts.items() <= finished.items()
    assert 0 <= finished["seconds"] < 5
    failed = [line for line in lines if line.get("job_id") == "bad"][-1]
    assert (failed["level"], failed["func"]) == ("ERROR", "tasks.fail")
    assert failed["exc_type"] == "ValueError"


def test_a_job_that_has_died_too_often_is_an_error(queue: Queue, start_worker: StartWorker) -> None:
    queue.enqueue("tasks.die", job_id="poison", on_worker_lost=1)
    worker = start_worker("-b", "--log-format", "json", "-n", "w", "--lease", "1")
    assert worker.wait() == 0
    lines = [json.loads(line) for line in worker.log.splitlines()]
    about = [line for line in lines if "poison" in line["message"]]
    assert "queued, deaths of its process so far: 1" in "".join(line["message"] for line in about)
    [dead] = [line for line in about if line["level"] == "ERROR"]
    facts = {"job_id": "poison", "queue": "default", "exc_type": "WorkerLost", "worker": "w"}
    assert facts.items() <= dead.items()
    assert "job poison failed: WorkerLost: the process was killed by SIGKILL" in dead["message"]


def test_quiet_leaves_the_errors(queue: Queue, start_worker: StartWorker) -> None:
    queue.enqueue("tasks.add", 1, 2)
    queue.enqueue("tasks.fail", job_id="bad")
    worker = start_worker("-b", "-q")
    assert worker.wait() == 0
    [line] = worker.log.splitlines()
    assert " ERROR job bad failed: " in line


def test_an_error_message_cannot_forge_a_line(queue: Queue, start_worker: StartWorker) -> None:
    queue.enqueue("tasks.fail", "no\n2030-01-01 00:00:00 job other finished\x1b[2J")
    worker = start_worker("-b")
    assert worker.wait() == 0
    assert not any(line.startswith("2030") for line in worker.log.splitlines())
    assert "\x1b" not in worker.log


def test_levels_are_coloured_on_a_terminal_only(
    queue: Queue, on_terminal: OnTerminal, start_worker: StartWorker
) -> None:
    def once(**environ: str) -> str:
        queue.enqueue("tasks.fail")
        return on_terminal("worker", "-b", "-q", **environ)

    assert "\x1b[31mERROR\x1b[0m job" in once(NO_COLOR="")
    assert " ERROR job" in once(NO_COLOR="1")
    queue.enqueue("tasks.fail")
    worker = start_worker("-b", "-q")
    worker.wait()
    assert " ERROR job" in worker.log


def test_the_applications_own_logging_is_its_own(
    queue: Queue, start_worker: StartWorker, folder: Path
) -> None:
    (folder / "chatty.py").write_text(
        "import logging\n"
        "logging.basicConfig(level='INFO', format='mine: %(message)s')\n"
        "def talk(): logging.getLogger('app').info('hello')\n"
    )
    queue.enqueue("chatty.talk")
    worker = start_worker("-b")
    assert worker.wait() == 0
    assert worker.log.count("mine: ") == worker.log.count("mine: hello") == 1


# --- a Redis that is away ---------------------------------------------------------------------


def test_a_server_that_starts_later_is_waited_for_and_that_is_said_once(
    start_worker: StartWorker, home: Path
) -> None:
    url = f"unix://{home}/redis.sock"
    worker = start_worker("-b", url=url)
    worker.wait_for_log("waiting for it")
    ensure_server(home)
    assert worker.wait() == 0
    assert worker.log.count("waiting for it") == 1
    assert worker.log.count("Redis is back") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_it_waits_for_the_server_exits_with_0(
    start_worker: StartWorker, tmp_path: Path, number: int
) -> None:
    worker = start_worker(url=f"unix://{tmp_path}/nobody.sock")
    worker.wait_for_log("waiting for it")
    worker.signal(number)
    assert worker.wait() == 0
    assert "Traceback" not in worker.log
