"""No call stops the server for long, whatever has piled up: a million of everything.

The server counts wall time, and what else runs on the machine counts with it: what is compared is the median
of several calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median

import pytest
import redis as redis_py
from stage import Stage, ids, payload, settlement
from support.own_server import OwnServer

from minirq.protocol import commands, queries
from minirq.protocol.keys import Keys

pytestmark = pytest.mark.slow

MILLION = 1_000_000
#: what one call may take, ms
MOST = 5.0
_ZADD = """
for first = ARGV[1], ARGV[2], 1000 do
  local entries = {}
  for i = first, first + 999 do
    entries[#entries + 1] = i - ARGV[3]
    entries[#entries + 1] = i
  end
  redis.call("ZADD", KEYS[1], unpack(entries))
end
"""
_LPUSH = """
for i = ARGV[1], ARGV[2] do
  redis.call("LPUSH", KEYS[1], string.char(0x96, 0xd9, 8) .. string.format("%08d", i) .. ARGV[3])
end
"""


@pytest.fixture
def stage() -> Iterator[Stage]:
    server = OwnServer(fsync=None)
    with redis_py.Redis(unix_socket_path=server.socket, socket_timeout=60) as client:
        stage = Stage(client, "q")
        stage.register("a")
        yield stage
    server.kill()


def fill(stage: Stage, script: str, key: str, count: int, more: bytes | int) -> None:
    for first in range(0, count, 10_000):
        stage.client.eval(script, 1, key, first, first + 9999, more)


def milliseconds(stage: Stage, call: Callable[[], object], times: int = 15) -> float:
    """The median of what the server needs for one script."""

    def spent() -> tuple[int, int]:
        scripts = stage.client.info("commandstats")["cmdstat_evalsha"]
        return scripts["usec"], scripts["calls"]

    readings = [spent()]
    for _ in range(times):
        call()
        readings.append(spent())
    each = [(after - before) / (n - m) for (before, m), (after, n) in pairwise(readings)]
    return median(each) / 1000


def test_a_million_dead_owners(stage: Stage) -> None:
    now_ms = stage.now_ms()
    fill(stage, _ZADD, stage.keys.owners, MILLION, now_ms)
    assert milliseconds(stage, stage.sweep) < MOST
    assert milliseconds(stage, lambda: stage.beat("a")) < MOST
    assert milliseconds(stage, lambda: stage.promote(trim=True)) < MOST
    assert milliseconds(stage, lambda: stage.claim("a")) < MOST
    assert stage.client.zcard(stage.keys.owners) < MILLION


def test_a_million_ended_jobs_to_trim(stage: Stage) -> None:
    for status in ("finished", "failed"):
        fill(stage, _ZADD, stage.keys.index(status), 600_000, stage.now_ms())
    before = stage.client.zcard(stage.keys.index("finished")) + stage.client.zcard(stage.keys.index("failed"))
    assert milliseconds(stage, lambda: stage.promote(trim=True)) < MOST
    after = stage.client.zcard(stage.keys.index("finished")) + stage.client.zcard(stage.keys.index("failed"))
    assert before - after == 15 * 1000


def test_a_million_waiting_jobs(stage: Stage) -> None:
    rest = payload("x").removeprefix(b"\x96\xa1x")
    fill(stage, _LPUSH, stage.keys.queue, MILLION, rest)
    assert ids(stage.claim("a", 1)) == ["00000000"]
    assert milliseconds(stage, lambda: stage.claim("a", 1, in_hand=[])) < MOST
    assert milliseconds(stage, lambda: stage.enqueue("new")) < MOST
    assert milliseconds(stage, lambda: stage.enqueue("next", place="front")) < MOST
    assert milliseconds(stage, stage.promote) < MOST
    assert milliseconds(stage, lambda: stage.send(commands.empty(stage.keys, "queue"))) < MOST


def test_a_thousand_dead_workers_with_their_hands_full(stage: Stage) -> None:
    """A data centre is lost: 64,000 jobs are taken back, a part with each call."""
    owners = [f"o{n}" for n in range(1000)]
    stage.register(*owners)
    for owner in owners[:100]:
        stage.enqueue(*(f"{owner}-{n}" for n in range(64)))
        assert len(ids(stage.claim(owner, 64))) == 64
    stage.client.zadd(stage.keys.owners, dict.fromkeys(owners, stage.now_ms() - 1))
    assert milliseconds(stage, stage.sweep) < MOST


def test_a_million_jobs_that_are_due(stage: Stage) -> None:
    jobs = [f"job-{n}" for n in range(10_000)]
    for first in range(0, len(jobs), 1000):
        stage.enqueue(*jobs[first : first + 1000], place="delay", ms=3_600_000)
    fill(stage, _ZADD, stage.keys.index("scheduled"), MILLION, -stage.now_ms())
    stage.make_due(*jobs)
    assert milliseconds(stage, stage.promote) < MOST
    assert milliseconds(stage, lambda: stage.beat("a")) < MOST


def test_a_hundred_thousand_queues(stage: Stage) -> None:
    keys = Keys("minirq-test")
    fill(stage, _ZADD, keys.maintenance, 100_000, stage.now_ms())
    handed = milliseconds(stage, lambda: stage.send(commands.maintain(keys, most=1000, pause=20)))
    assert handed < MOST
    assert stage.send(queries.maintain_from(keys, ["q"], 0, is_new=True)) == 1


def test_a_batch_that_ends(stage: Stage) -> None:
    stage.enqueue(*map(str, range(2000)))

    def run() -> None:
        jobs = stage.claim("a", 64).jobs
        stage.finish("a", *(settlement(job.id, job.run) for job in jobs))

    assert milliseconds(stage, run) < MOST
