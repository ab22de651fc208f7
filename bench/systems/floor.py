"""The floor: bare redis-py loops without retries, timeouts, heartbeats or recovery.

What they reach is what redis-py and Redis leave room for.
"""

from __future__ import annotations

import itertools
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
local at = 2
for _ = 1, tonumber(ARGV[1]) do
  local count = tonumber(ARGV[at + 5])
  redis.call("HSET", "floor:job:" .. ARGV[at], "status", "queued")
  redis.call("LPUSH", KEYS[1], ARGV[at + 6 + count])
  at = at + 7 + count
end
return 1
"""
#: KEYS queue, processing; ARGV how many to take, then id, payload, result of each job that was done
_FINISH_AND_TAKE = """
for i = 2, #ARGV, 3 do
  redis.call("HSET", "floor:job:" .. ARGV[i], "status", "finished", "result", ARGV[i + 2])
  redis.call("EXPIRE", "floor:job:" .. ARGV[i], 500)
  redis.call("LREM", KEYS[2], 1, ARGV[i + 1])
end
local taken = {}
for i = 1, tonumber(ARGV[1]) do
  local payload = redis.call("LMOVE", KEYS[1], KEYS[2], "RIGHT", "LEFT")
  if not payload then break end
  redis.call("HSET", "floor:job:" .. string.sub(payload, 4, 39), "status", "started")
  taken[i] = payload
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
        return ["-m", "bench.hands", "work", self.name, str(processes), str(concurrency)]

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
        "EVALSHA with the bytes of minirq's enqueue; EVALSHA that ends a job and takes the next, with status"
    )
    speed = 10_000
    cases = frozenset({"enqueue", "drain", "drain-1k", "burn"})
    at_once = 1

    def connect(self) -> None:
        super().connect()
        self._enqueue_script = self.client.script_load(_ENQUEUE)
        self._take_script = self.client.script_load(_FINISH_AND_TAKE)
        self._templates: dict[str, tuple[str, list[Any]]] = {}

    def enqueue(self, job: str, *args: Any) -> None:
        self.enqueue_each(job, self.prepared(job, [args]))

    def prepared(self, job: str, calls: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        return [self._words(job, args) for args in calls]

    def enqueue_each(self, job: str, calls: Sequence[Any]) -> None:
        for words in calls:
            self.client.evalsha(self._enqueue_script, 1, _QUEUE, 1, *words)

    def enqueue_bulk(self, job: str, calls: Sequence[Any]) -> None:
        for some in _chunks(calls):
            words = itertools.chain.from_iterable(some)
            self.client.evalsha(self._enqueue_script, 1, _QUEUE, len(some), *words)

    def _words(self, job: str, args: tuple[Any, ...]) -> list[Any]:
        """What minirq would send of this call, with an id of its own."""
        from minirq.protocol import operations
        from minirq.protocol.keys import Keys
        from minirq.protocol.serializers import resolve_serializer
        from minirq.protocol.submission import Submission

        key = job + repr(args)
        if key not in self._templates:
            submission = Submission(getattr(jobs, job), args)
            new = submission.job(resolve_serializer("msgpack"), max_payload=1 << 24)
            # numkeys, the key and the number of jobs come first
            words: list[Any] = list(operations.enqueue(Keys().of("default"), [new]).args[3:])
            self._templates = {key: (new.id, words)}
        old, words = self._templates[key]
        fresh = str(uuid.uuid4())
        return [fresh, *words[1:-1], words[-1].replace(old.encode(), fresh.encode())]

    def _loop(self) -> None:
        self.connect()
        done: list[Any] = []
        functions = {f"bench.jobs.{name}": function for name, function in _functions().items()}
        while True:
            taken: Any = self.client.evalsha(self._take_script, 2, _QUEUE, _PROCESSING, self.at_once, *done)
            done = []
            for payload in taken:
                job_id, _, name, _, blob, *_ = self._unpack(payload)
                args = self._unpack(blob)[1] if blob else ()
                done += (job_id, payload, self._pack(functions[name](*args)))
            if not taken:
                time.sleep(0.001)


class TenAtOnce(Scripts):
    name = "floor-script10"
    title = "floor: one EVALSHA for ten jobs"
    settings = "the same script for ten jobs at once"
    speed = 40_000
    cases = frozenset({"drain", "drain-1k"})
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
