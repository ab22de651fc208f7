"""Batches: short jobs are claimed together, and nothing waits for a long one."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import jobs
import redis as redis_py
from support.timing import within
from support.waits import until
from support.worker import StartWorker, lines

from minirq import JobStatus, Queue, SimpleWorker


def claims(redis: redis_py.Redis) -> int:
    return int(redis.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def test_short_jobs_take_a_fraction_of_a_round_trip_each(queue: Queue, redis: redis_py.Redis) -> None:
    queue.enqueue_many(Queue.prepare_data(jobs.nothing) for _ in range(2000))
    before = claims(redis)
    SimpleWorker([queue]).work(burst=True)
    assert claims(redis) - before < 400


def test_a_queue_that_an_older_minirq_made_without_batches_is_served_one_by_one(
    queue: Queue, redis: redis_py.Redis
) -> None:
    redis.hset("minirq:{default}:meta", "batch", 0)
    queue.enqueue_many(Queue.prepare_data(jobs.nothing) for _ in range(200))
    before = claims(redis)
    SimpleWorker([queue]).work(burst=True)
    assert claims(redis) - before >= 200


def test_jobs_of_one_process_run_in_their_order(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    queue.enqueue_many(Queue.prepare_data(jobs.append, (str(trace), str(n))) for n in range(500))
    worker = start_worker(work={"burst": True})
    worker.wait()
    assert lines(trace) == [str(n) for n in range(500)]


def warmed_up(queue: Queue, switch: Path) -> None:
    """Have the worker measure `sometimes_long` as short."""
    queue.enqueue_many(Queue.prepare_data(jobs.sometimes_long, (str(switch), 0)) for _ in range(300))
    until(lambda: queue.count == 0)
    queue.enqueue(jobs.nothing).wait(10)


def test_neither_a_result_nor_a_job_waits_for_one_that_turns_out_long(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    switch = tmp_path / "switch"
    start_worker()
    warmed_up(queue, switch)
    before = [Queue.prepare_data(jobs.sometimes_long, (str(tmp_path / "no"), 0)) for _ in range(8)]
    after = [Queue.prepare_data(jobs.sometimes_long, (str(tmp_path / "no"), 0)) for _ in range(8)]
    switch.touch()
    made = queue.enqueue_many([*before, Queue.prepare_data(jobs.sometimes_long, (str(switch), 10)), *after])
    until(lambda: lines(Path(f"{switch}.started")))
    began = time.monotonic()
    # results of the jobs before it are there, and those behind it are back in the queue, in their order
    until(lambda: all(job.is_finished for job in made[:8]), 1)
    until(lambda: queue.job_ids == [job.id for job in made[9:]], 1)
    assert within(0.5, began)
    for job in made[9:]:
        job.refresh()
        assert (job.attempts, job.lost) == (0, 0)
    # another, idle worker takes them
    start_worker()
    until(lambda: all(job.is_finished for job in made[9:]), 9)
    assert made[8].get_status() == JobStatus.STARTED


def test_a_job_that_was_claimed_behind_a_long_one_keeps_its_ttl(
    queue: Queue, redis: redis_py.Redis, start_worker: StartWorker, tmp_path: Path
) -> None:
    switch = tmp_path / "switch"
    start_worker()
    warmed_up(queue, switch)
    switch.touch()
    long, behind = queue.enqueue_many(
        [
            Queue.prepare_data(jobs.sometimes_long, (str(switch), 1)),
            Queue.prepare_data(jobs.sometimes_long, (str(tmp_path / "no"), 0), ttl=0.7),
        ]
    )
    long.wait(10)
    queue.enqueue(jobs.nothing).wait(10)
    assert (behind.get_status(), behind.attempts) == (JobStatus.EXPIRED, 0)
    assert redis.hget(f"minirq:{{default}}:job:{behind.id}", "run") == b"1"


def test_an_unknown_function_is_not_started_with_results_behind_it(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    switch = tmp_path / "switch"
    start_worker()
    warmed_up(queue, switch)
    made = queue.enqueue_many(
        [
            *[Queue.prepare_data(jobs.sometimes_long, (str(switch), 0)) for _ in range(8)],
            Queue.prepare_data(jobs.spin, (1.5,)),
        ]
    )
    until(lambda: made[-1].get_status() == JobStatus.STARTED)
    until(lambda: all(job.is_finished for job in made[:-1]), 0.5)


def test_a_kill_in_a_batch_blames_the_job_that_ran_and_no_other(
    queue: Queue, start_worker: StartWorker, tmp_path: Path
) -> None:
    switch = tmp_path / "switch"
    worker = start_worker()
    warmed_up(queue, switch)
    switch.touch()
    made = queue.enqueue_many(
        [
            Queue.prepare_data(jobs.sometimes_long, (str(switch), 5)),
            *[Queue.prepare_data(jobs.sometimes_long, (str(tmp_path / "no"), 0)) for _ in range(20)],
        ]
    )
    until(lambda: lines(Path(f"{switch}.started")))
    os.kill(worker.children[0], signal.SIGKILL)
    until(lambda: all(job.is_finished for job in made))
    for job in made:
        job.refresh()
    assert [job.lost for job in made] == [1] + [0] * 20


def test_a_long_running_thread_pool_of_waiters_is_told_at_once(
    queue: Queue, start_worker: StartWorker
) -> None:
    start_worker()
    queue.enqueue(jobs.nothing).wait(10)
    made = [queue.enqueue(jobs.nap, 0.05) for _ in range(4)]
    results: list[float] = []
    threads = [threading.Thread(target=lambda job=job: results.append(job.wait(10))) for job in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert results == [0.05] * 4
