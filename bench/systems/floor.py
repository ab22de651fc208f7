"""The floor: bare redis-py loops without retries, timeouts, heartbeats or recovery.

What they reach is what redis-py and Redis leave room for.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench import jobs
from bench.systems.system import System, redis_url

_QUEUE, _PROCESSING = "floor:queue", "floor:processing"
_CHUNK = 1000

#: the bytes of minirq's enqueue, and the least that could be done with them: a status and a place in the list
_ENQUEUE = """
local jobs = cmsgpack.unpack(ARGV[1])
for i = 1, #jobs, 7 do
  redis.call("HSET", "floor:job:" .. jobs[i], "status", "queued")
  redis.call("LPUSH", KEYS[1], jobs[i + 1])
end
return 1
"""
#: KEYS queue, processing; ARGV how many to take, then the payloads that are done. No status, no results
_DONE_AND_TAKE = """
for i = 2, #ARGV do redis.call("LREM", KEYS[2], -1, ARGV[i]) end
local taken = redis.call("LRANGE", KEYS[1], -ARGV[1], -1)
if #taken > 0 then
  redis.call("LPUSH", KEYS[2], unpack(taken))
  redis.call("LTRIM", KEYS[1], 0, -#taken - 1)
end
return taken
"""


class Lists(System):
    name = "floor-list"
    family = "floor"
    title = "floor: LPUSH, BLMOVE + LREM"
    settings = "LPUSH (in bulk pipelined); BLMOVE, body, LREM: no status, no result"
    has_status = False
    speed = 10_000
    cases = frozenset({"enqueue", "drain", "drain-1k", "latency", "burn"})
    #: the loops with scripts send minirq's bytes, which minirq makes
    home = "minirq"

    def worker_command(self, url: str, processes: int, concurrency: int) -> list[str]:
        return ["-m", "bench.producer", "work", self.name, str(processes), str(concurrency)]

    def connect(self) -> None:
        import msgpack
        import redis

        self._pack, self._unpack = msgpack.packb, msgpack.unpackb
        self.client = redis.Redis.from_url(redis_url(), socket_timeout=None)

    def enqueue(self, job: str, *args: Any) -> None:
        self.client.lpush(_QUEUE, self._pack([job, args]))

    def enqueue_bulk(self, job: str, calls: Sequence[tuple[Any, ...]]) -> None:
        for some in _chunks(calls):
            with self.client.pipeline(transaction=False) as pipeline:
                for args in some:
                    pipeline.lpush(_QUEUE, self._pack([job, args]))
                pipeline.execute()

    def work(self, processes: int, concurrency: int) -> None:
        _in_processes(processes, self._loop)

    def _loop(self) -> None:
        self.connect()
        functions = _functions()
        while True:
            payload: Any = self.client.blmove(_QUEUE, _PROCESSING, 0, "RIGHT", "LEFT")
            name, args = self._unpack(payload)
            functions[name](*args)
            self.client.lrem(_PROCESSING, 1, payload)


class Scripts(Lists):
    name = "floor-script"
    title = "floor: one EVALSHA a job"
    settings = (
        "EVALSHA with the bytes of minirq's enqueue; EVALSHA that takes one job off and brings the next"
    )
    speed = 10_000
    cases = frozenset({"enqueue", "drain", "burn"})
    at_once = 1

    def connect(self) -> None:
        super().connect()
        self._enqueue_script = self.client.script_load(_ENQUEUE)
        self._take_script = self.client.script_load(_DONE_AND_TAKE)
        self._template: tuple[str, str, bytes] = ("", "", b"")

    def prepared(self, job: str, calls: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        return [(self._words(job, args), args) for args in calls]

    def enqueue_each(self, job: str, calls: Sequence[Any]) -> None:
        for words, _ in calls:
            self.client.evalsha(self._enqueue_script, 1, _QUEUE, words)

    def enqueue_bulk(self, job: str, calls: Sequence[Any]) -> None:
        super().enqueue_bulk(job, [args for _, args in calls])

    def _words(self, job: str, args: tuple[Any, ...]) -> bytes:
        """What minirq would send of this call, with an id of its own."""
        from minirq.protocol import commands
        from minirq.protocol.keys import Keys
        from minirq.protocol.serializers import resolve_serializer
        from minirq.protocol.submission import JobDefaults, Submission

        key = job + repr(args)
        if key != self._template[0]:
            submission = Submission(getattr(jobs, job), args)
            new = submission.job(JobDefaults(resolve_serializer("msgpack"), max_payload=1 << 24))
            words = commands.enqueue(Keys().of("default"), [new]).args[-1]
            assert isinstance(words, bytes)
            self._template = (key, new.id, words)
        _, old, words = self._template
        return words.replace(old.encode(), str(uuid.uuid4()).encode())

    def _loop(self) -> None:
        self.connect()
        functions = _functions()
        taken: Any = []
        while True:
            taken = self.client.evalsha(self._take_script, 2, _QUEUE, _PROCESSING, self.at_once, *taken)
            for payload in taken:
                name, args = self._unpack(payload)
                functions[name](*args)
            if not taken:
                time.sleep(0.001)


class TenAtOnce(Scripts):
    name = "floor-script10"
    title = "floor: one EVALSHA for ten jobs"
    settings = "the same script for ten jobs at once"
    speed = 40_000
    cases = frozenset({"drain"})
    also = frozenset({"growth"})
    at_once = 10


class Bare(Lists):
    name = "floor-bare"
    title = "floor: Python alone"
    settings = "the same function in a bare loop, without Redis"
    speed = 2_000
    cases = frozenset({"burn"})

    def enqueue_bulk(self, job: str, calls: Sequence[tuple[Any, ...]]) -> None:
        """There is no queue."""

    def _loop(self) -> None:
        while True:
            jobs.burn()


def _functions() -> dict[str, Callable[..., Any]]:
    return {job.__name__: job for job in jobs.PLAIN}


def _chunks(calls: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    for at in range(0, len(calls), _CHUNK):
        yield calls[at : at + _CHUNK]


def _in_processes(processes: int, loop: Callable[[], None]) -> None:
    for _ in range(processes - 1):
        if os.fork() == 0:
            break
    loop()


SYSTEMS: Sequence[System] = (Lists(), Scripts(), TenAtOnce(), Bare())
