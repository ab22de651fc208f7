"""Programs that end without a complaint, and queues that outlive their event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import jobs
import pytest
import redis as redis_py
from redis.asyncio import Redis as AsyncRedis

from minirq.aio import AsyncQueue
from minirq.exceptions import InvalidOption

PROGRAM = """
import asyncio, sys
import redis
from minirq.aio import AsyncJob, AsyncQueue

LOOP = sys.argv[2]

def waited_for(job_id):
    return redis.Redis.from_url(sys.argv[1]).hget(f"minirq:{{default}}:job:{job_id}", "waiters")

async def main():
    async with AsyncQueue(connection=sys.argv[1]) as queue:
        made = await asyncio.gather(*(queue.enqueue("jobs.add", n) for n in range(200)))
        waiting = [asyncio.create_task(job.wait()) for job in made[:5]]
        for _ in range(20):
            await asyncio.sleep(0.005)
        waiting[0].cancel()
        for n in range(2):
            try:
                await asyncio.wait_for(queue.wait_many(made), 0.05)
            except TimeoutError:
                pass
        await made[9].cancel()
        async for job in queue.as_completed(made[9:20]):
            break
        ending = asyncio.create_task(made[21].wait())
        while not waited_for(made[21].id):
            await asyncio.sleep(0.005)
        await made[21].cancel()
        await asyncio.gather(ending, return_exceptions=True)
        assert (await AsyncJob.fetch(made[30].id, sys.argv[1])) == made[30]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert await queue.count() == 198

if LOOP == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
print("done")
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_program_that_closes_its_queue_ends_without_a_complaint(
    redis: redis_py.Redis, redis_url: str, loop: str
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, redis_url, loop],
        capture_output=True,
        text=True,
        cwd=Path(jobs.__file__).parent,
        env={"PYTHONASYNCIODEBUG": "1", "PATH": ""},
        timeout=50,
    )
    # asyncio's debug mode also tells of steps that took long, on a machine that is busy
    complaints = [line for line in done.stderr.splitlines() if "took" not in line]
    assert (done.stdout, complaints) == ("done\n", [])
    assert redis.keys("*mailbox*") == []
    assert not any(redis.hexists(key, "waiters") for key in redis.keys("*:job:*"))


def test_a_queue_with_a_url_is_used_in_one_loop_after_the_other(
    redis: redis_py.Redis, redis_url: str
) -> None:
    queue = AsyncQueue(connection=redis_url)

    async def enqueue() -> None:
        async with queue:
            await asyncio.gather(*(queue.enqueue(jobs.add, n) for n in range(10)))

    for _ in range(3):
        asyncio.run(enqueue())
    assert redis.llen("minirq:{default}:queue") == 30


NOT_CLOSED = """
import asyncio, sys
import redis.asyncio
from minirq.aio import AsyncQueue

url, kind = sys.argv[1:]
queue = AsyncQueue(connection=url if kind == "url" else redis.asyncio.Redis.from_url(url))
for n in range(3):
    asyncio.run(queue.count())
print("done")
"""


def not_closed(redis_url: str, kind: str) -> subprocess.CompletedProcess[str]:
    # in a process of its own: Python complains of connections that were open when their loop ended
    code = [sys.executable, "-c", NOT_CLOSED, redis_url, kind]
    return subprocess.run(code, capture_output=True, text=True, timeout=30)


def test_a_queue_with_a_url_works_in_the_next_loop_also_when_it_was_not_closed(redis_url: str) -> None:
    done = not_closed(redis_url, "url")
    assert done.stdout == "done\n", done.stderr


def test_a_given_client_whose_loop_has_ended_is_refused_with_the_way_out(redis_url: str) -> None:
    done = not_closed(redis_url, "client")
    assert "InvalidOption: the connections of the redis.asyncio.Redis that was given belong" in done.stderr
    assert done.stdout == ""


def test_a_given_client_that_was_closed_works_in_the_next_loop(redis: redis_py.Redis, redis_url: str) -> None:
    client = AsyncRedis.from_url(redis_url)
    queue = AsyncQueue(connection=client)

    async def look() -> int:
        try:
            return await queue.count()
        finally:
            await queue.close()
            await client.connection_pool.disconnect()

    assert [asyncio.run(look()) for _ in range(2)] == [0, 0]


async def test_two_loops_at_once_are_refused(redis: redis_py.Redis, redis_url: str) -> None:
    caught: list[BaseException] = []
    async with AsyncQueue(connection=redis_url) as queue:
        await queue.count()

        def look() -> None:
            try:
                asyncio.run(queue.count())
            except InvalidOption as error:
                caught.append(error)

        await asyncio.to_thread(look)
        assert await queue.count() == 0
    assert "in use in another event loop" in str(caught[0])


def test_an_embedded_server_is_started_without_stopping_the_loop(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIRQ_HOME", str(home))
    monkeypatch.setenv("MINIRQ_EMBEDDED", "1")
    ticks: list[float] = []

    async def main() -> int:
        async def tick() -> None:
            while True:
                ticks.append(asyncio.get_running_loop().time())
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        async with AsyncQueue() as queue:
            counts = await asyncio.gather(*(queue.count() for _ in range(3)))
        ticking.cancel()
        return sum(counts)

    began, threads = time.monotonic(), threading.active_count()
    assert asyncio.run(main()) == 0
    assert threading.active_count() - threads < 10
    # starting takes ten milliseconds or seconds; imports do stop the loop meanwhile, for less than half of it
    taken = time.monotonic() - began
    assert max(b - a for a, b in pairwise(ticks)) < max(0.5, taken / 2)
    assert len(ticks) > taken / 0.005 / 20
