"""Child processes: replaced for new code, after so many jobs, after so much memory."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from pathlib import Path

import jobs
import pytest
import redis as redis_py
from support.waits import until
from support.worker import StartWorker, lines

from minirq import JobStatus, Queue, SimpleWorker


def test_hangup_replaces_all_processes_while_work_goes_on(queue: Queue, start_worker: StartWorker) -> None:
    worker = start_worker(processes=2)
    until(lambda: len(worker.children) == 2)
    old = set(worker.children)
    work = [queue.enqueue(jobs.nap, 0.02) for _ in range(50)]
    worker.signal(signal.SIGHUP)
    until(lambda: len(worker.children) == 2 and not old & set(worker.children))
    assert [job.wait(10) for job in work] == [0.02] * 50
    for job in work:
        job.refresh()
        assert (job.attempts, job.lost) == (1, 0)


def test_hangup_brings_new_code(queue: Queue, start_worker: StartWorker, tmp_path: Path) -> None:
    module = tmp_path / "fresh_code.py"
    module.write_text("def version():\n    return 1\n")
    worker = start_worker(paths=[str(tmp_path)])
    assert queue.enqueue("fresh_code.version").wait(10) == 1
    old = worker.children
    module.write_text("def version():\n    return 'two'\n")
    worker.signal(signal.SIGHUP)
    until(lambda: worker.children and worker.children != old)
    assert queue.enqueue("fresh_code.version").wait(10) == "two"


def test_a_process_is_replaced_after_so_many_jobs(queue: Queue, start_worker: StartWorker) -> None:
    start_worker(max_jobs_per_child=3)
    pids = [queue.enqueue("jobs.my_pid").wait(10) for _ in range(9)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]


def test_a_process_that_has_grown_is_replaced(queue: Queue, start_worker: StartWorker) -> None:
    start_worker(max_memory_per_child=100 * 1024 * 1024)
    first = queue.enqueue("jobs.my_pid").wait(10)
    assert queue.enqueue("jobs.my_pid").wait(10) == first
    queue.enqueue("jobs.grow", 120 * 1024 * 1024).wait(10)
    assert queue.enqueue("jobs.my_pid").wait(10) != first


def test_modules_are_imported_before_the_first_job(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    (tmp_path / "heavy.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
    start_worker(paths=[str(tmp_path)], preload=["heavy"])
    until((tmp_path / "imported").exists)


def test_a_burst_goes_on_after_a_process_was_replaced(queue: Queue, start_worker: StartWorker) -> None:
    for n in range(7):
        queue.enqueue(jobs.add, n)
    worker = start_worker(max_jobs_per_child=2, work={"burst": True})
    assert worker.wait() == 0
    assert queue.count == 0


def test_a_function_that_is_not_known_yet_is_left_to_other_workers(
    queue: Queue, redis: redis_py.Redis, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(paths=[str(tmp_path)])
    job = queue.enqueue("deployed_later.f")
    until(lambda: job.get_status() == JobStatus.SCHEDULED)
    until(lambda: "No module named 'deployed_later'" in worker.log)
    assert f"job {job.id} is left to other workers, and tried again in 0.5 s" in worker.log
    until(lambda: int(redis.hget(f"minirq:{{default}}:job:{job.id}", "run") or 0) >= 3)
    assert worker.log.count(f"job {job.id} is left") == 1  # the other ones are at DEBUG, with their pauses
    assert f"job {job.id} started" not in worker.log
    (tmp_path / "deployed_later.py").write_text("def f():\n    return 'here'\n")
    assert job.wait(10) == "here"
    job.refresh()
    assert job.attempts == 1


def test_a_function_that_stays_unknown_has_pauses_that_are_true_and_one_error(
    queue: Queue, redis: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "minirq")
    job = queue.enqueue("no_such_module.f")
    worker = SimpleWorker([queue], lease=1.0)

    def miss(first_seconds_ago: float) -> logging.LogRecord:
        """Have the job's function missed, for the first time so long ago; return the line about it."""
        caplog.clear()
        if first_seconds_ago:
            first_ms = int((time.time() - first_seconds_ago) * 1000)
            redis.hset(f"minirq:{{default}}:job:{job.id}", "missed", f"{first_ms} 0")
            redis.zadd("minirq:{default}:scheduled", {job.id: 1})
        worker.work(max_jobs=1)
        [line] = [record for record in caplog.records if getattr(record, "job_id", "") == job.id]
        return line

    first = miss(0)
    assert (first.levelname, "tried again in 0.5 s" in first.message) == ("WARNING", True)
    again = miss(20)
    assert again.levelname == "DEBUG"
    assert re.search(r"tried again in 2\d(\.\d)? s", again.message)
    last = miss(61)
    assert last.levelname == "ERROR"
    assert last.exc_type == "minirq.exceptions.FunctionNotFound"  # type: ignore[attr-defined]
    assert job.is_failed


@pytest.mark.parametrize("concurrency", [1, 4])
def test_two_projects_with_bursts_on_one_queue_run_their_own_jobs(
    queue: Queue, start_worker: StartWorker, tmp_path: Path, concurrency: int
) -> None:
    for project in ("alpha", "beta"):
        (tmp_path / project).mkdir()
        (tmp_path / project / f"{project}_tasks.py").write_text("def name():\n    return __name__\n")
    theirs = [queue.enqueue("alpha_tasks.name") for _ in range(3)]
    ours = queue.enqueue("beta_tasks.name")

    def burst(project: str) -> str:
        options = {"paths": [str(tmp_path / project)], "concurrency": concurrency, "work": {"burst": True}}
        worker = start_worker(**options)
        assert worker.wait() == 0
        return worker.log

    log = burst("beta")
    assert [job.get_status() for job in theirs] == [JobStatus.QUEUED] * 3
    assert ours.result == "beta_tasks"
    assert f"job {theirs[0].id} goes back to the queue: " in log
    assert "No module named 'alpha_tasks'" in log
    burst("alpha")  # at once: it need not wait for a delay to end
    assert [job.result for job in theirs] == ["alpha_tasks"] * 3
    assert [job.attempts for job in theirs] == [1] * 3


def test_a_burst_of_a_simple_worker_gives_back_what_it_cannot_import(queue: Queue) -> None:
    job = queue.enqueue("no_such_module.f")
    SimpleWorker([queue]).work(burst=True)
    assert job.get_status() == JobStatus.QUEUED
    assert job.refresh() is None
    assert (job.attempts, job.errors) == (0, [])


def test_an_import_that_kills_the_process_is_blamed_on_the_job(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    (tmp_path / "deadly.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    start_worker(paths=[str(tmp_path)])
    job = queue.enqueue("deadly.f")
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert job.lost == 3


def test_an_exit_code_of_a_job_is_not_taken_for_the_workers_own(
    queue: Queue, start_worker: StartWorker
) -> None:
    worker = start_worker()
    ended = [queue.enqueue(jobs.quick_exit, code) for code in (75, 76, 77)]
    for job in ended:
        until(lambda job=job: job.get_status() == JobStatus.FAILED)
    assert worker.process.poll() is None
    assert queue.enqueue(jobs.add, 1).wait(10) == 1


def test_the_copy_of_a_job_that_forks_does_not_go_on_as_a_worker(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker()
    trace = tmp_path / "trace"
    job = queue.enqueue("jobs.fork_and_return", str(trace))
    job.wait(10)
    after = queue.enqueue("jobs.my_pid").wait(10)
    until(lambda: len(lines(trace)) == 2)
    copies = {int(line) for line in lines(trace)} - {after}
    for pid in copies:
        until(lambda pid=pid: _is_gone(pid))
    job.refresh()
    assert job.attempts == 1


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_module_that_cannot_be_preloaded_ends_the_worker_with_one_line(
    queue: Queue, start_worker: StartWorker
) -> None:
    worker = start_worker(preload=["no_such_module"])
    assert worker.wait() == 1
    assert "--preload no_such_module: it cannot be imported" in worker.log


def test_a_memory_limit_below_what_a_process_takes_is_no_endless_replacement(
    queue: Queue, start_worker: StartWorker
) -> None:
    job = queue.enqueue(jobs.add, 1, 2)
    worker = start_worker(max_memory_per_child=5, work={"burst": True})
    assert worker.wait() == 0
    assert job.result == 3
