"""What reading a payload takes, and does to the process, is on the account of its job."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.waits import until
from support.worker import StartWorker

from minirq import JobStatus, Queue
from minirq.worker.scoreboard import Scoreboard

#: a payload that is slow or deadly to read, as nobody knows one any more
HOSTILE_READER = """
import os, signal, time
from minirq.worker import concurrent, executor, runner

decode = executor.payload.decode

class Reader:
    @staticmethod
    def decode(raw, *limits):
        if b"jobs.add" in raw:
            return decode(raw, *limits)
        {what}

executor.payload = Reader
runner.JOB_TIMEOUT = concurrent.JOB_TIMEOUT = 0.3
"""


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_payload_that_is_read_for_ever_is_timed_out(
    queue: Queue, start_worker: StartWorker, tmp_path: Path, concurrency: int
) -> None:
    (tmp_path / "reader.py").write_text(HOSTILE_READER.format(what="time.sleep(3600)"))
    start_worker(paths=[str(tmp_path)], preload=["reader"], concurrency=concurrency)
    job = queue.enqueue("jobs.nobody_reads_me")
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert job.errors[0].kind == "timeout"
    assert queue.enqueue("jobs.add", 1, 2).wait(10) == 3


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_payload_that_kills_its_reader_is_blamed(
    queue: Queue, start_worker: StartWorker, tmp_path: Path, concurrency: int
) -> None:
    (tmp_path / "reader.py").write_text(HOSTILE_READER.format(what="os.kill(os.getpid(), signal.SIGKILL)"))
    start_worker(paths=[str(tmp_path)], preload=["reader"], concurrency=concurrency)
    job = queue.enqueue("jobs.nobody_reads_me")
    until(lambda: job.get_status() == JobStatus.FAILED)
    assert job.lost == 3
    assert queue.enqueue("jobs.add", 1, 2).wait(10) == 3


def test_a_job_that_was_read_and_has_not_begun_is_not_blamed() -> None:
    board = Scoreboard(2)
    board.start("a", 1, 0, 10.0, 20.0, number=1)
    board.hold(1)
    assert (board.running(), board.latest(), board.next_deadline) == ([], [], float("inf"))
    board.begin(15.0, 0.0, 1)
    [slot] = board.running()
    assert (slot.id, slot.run, slot.started, slot.deadline) == ("a", 1, 15.0, 0.0)
    board.begin(15.0, 25.0, 1)
    assert [slot.deadline for slot in board.overdue(25.0)] == [25.0]
