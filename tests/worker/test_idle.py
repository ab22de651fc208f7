"""A worker with nothing to do costs next to nothing: neither CPU nor commands."""

import os
import time
from pathlib import Path

import pytest
from redis import Redis
from support.waits import until
from support.worker import StartWorker

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of what it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def test_an_idle_worker_sleeps(redis: Redis, start_worker: StartWorker) -> None:
    """Also while it cannot know yet whether others' leases prove anything, which is its first seconds."""
    worker = start_worker(lease=15.0)
    until(lambda: redis.client_list() and any(client["cmd"] == "blmove" for client in redis.client_list()))
    processes = [worker.pid, *worker.children]
    calls_before, cpu_before = commands(redis), sum(map(cpu_seconds, processes))
    time.sleep(2)  # what is measured is a stretch of time
    assert sum(map(cpu_seconds, processes)) - cpu_before < 0.1
    # a beat, looking after queues, and the wait itself
    assert commands(redis) - calls_before < 20


def commands(redis: Redis) -> int:
    return int(redis.info("stats")["total_commands_processed"])
