"""RQ: its default worker, which forks for each job, and SimpleWorker, which does not."""

from __future__ import annotations

from bench.systems.system import System, redis_url
from bench.systems.vocabulary import RqVocabulary

_ONE_AT_A_TIME = "it runs one job at a time in each process"


class Rq(RqVocabulary):
    name = "rq"
    family = "rq"
    title = "RQ Worker"
    settings = "`rq worker -q --with-scheduler`, a fork for each job; two processes: `rq worker-pool -q -n 2`"
    speed = 80
    missing = {"sleeps": _ONE_AT_A_TIME, "sleeps-async": _ONE_AT_A_TIME}
    options: tuple[str, ...] = ()

    def worker_command(self, url: str, processes: int, concurrency: int) -> list[str]:
        common = ["-u", url, "-q", *self.options, "default"]
        if processes == 1:
            return ["-m", "rq.cli", "worker", "--with-scheduler", *common]
        return ["-m", "rq.cli", "worker-pool", "-n", str(processes), *common]

    def connect(self) -> None:
        from redis import Redis
        from rq import Queue

        self._queue = Queue(connection=Redis.from_url(redis_url()))


class Simple(Rq):
    name = "rq-simple"
    title = "RQ SimpleWorker"
    settings = "`rq worker -q -w rq.SimpleWorker`: jobs run in the worker's own process"
    speed = 400
    cases = frozenset({"drain", "drain-1k", "latency", "mixed", "burn"})
    options = ("-w", "rq.worker.SimpleWorker")


SYSTEMS: tuple[System, ...] = (Rq(), Simple())
