"""A campaign: producers, workers, and a hand that hurts them at random. `bin/chaos` runs it.

The server writes its append-only file at every command (`appendfsync always`): what a producer was told is
there must be there after the server was killed, or the count would prove nothing about minirq.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import redis as redis_py
from faults.chaos_count import Accepted, Count, Outage, left, take_stock
from faults.chaos_memory import Memory
from faults.conftest import HurtWorker
from faults.server import OwnServer

from minirq import Queue, Retry
from minirq.connection import connect
from minirq.exceptions import MinirqError

QUEUES = ("high", "low")
#: no job of this one kills its process, and its worker suffers only what happens to the server
CALM = "calm"
LEASE = 1.0
#: after the last wound: so long without any job that ends, and nothing more is waited for, seconds
STANDSTILL = 30.0


@dataclass(frozen=True)
class Plan:
    """What a campaign is to be; `rate` is jobs a second that the two producers try to enqueue."""

    seconds: float = 30
    seed: int = 1
    processes: int = 2
    concurrency: int = 1
    rate: float = 100
    outage: float = 0
    drain: float = 600


class Campaign:
    """Everything of one campaign."""

    def __init__(self, plan: Plan, workers: int = 3) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._folder = Path(tempfile.mkdtemp(prefix="minirq-chaos-"))
        self._trace = self._folder / "trace"
        self._trace.touch()
        self._server = OwnServer()
        # the supervisor of the first one is spared: its memory is of interest
        self._workers = [self._start(f"worker-{number}", QUEUES) for number in range(workers)]
        self._calm = self._start("calm", (CALM,))
        self._started = workers
        self._memory = Memory()
        self._accepted: Accepted = set()
        self._over = threading.Event()
        self._frozen: list[tuple[float, list[int]]] = []
        self._wounds: list[float] = []
        self.count = Count()

    def run(self) -> Count:
        """Wound, heal, count."""
        producers = [threading.Thread(target=self._produce, args=(number,)) for number in range(2)]
        for producer in producers:
            producer.start()
        self._wound_for(self._plan.seconds / 2)
        if self._plan.outage:
            self._be_away()
        self._wound_for(self._plan.seconds / 2)
        self._over.set()
        for producer in producers:
            producer.join()
        self._heal()
        with connect(self._server.url) as client:
            self._wait_for_the_end(client)
            self._sample()
            self.count.memory = self._memory.report()
            take_stock(self.count, client, self._accepted, self._trace, self._wounds)
        for worker in (*self._workers, self._calm):
            worker.kill_all()
        self._server.close()
        if self.count.is_good:
            shutil.rmtree(self._folder)
        else:
            self.count.cases.append(f"the workers' logs are in {self._folder}")
        return self.count

    # --- the victims --------------------------------------------------------------------------

    def _start(self, name: str, queues: tuple[str, ...]) -> HurtWorker:
        log = self._folder / f"{name}.log"
        size = {"processes": 1}
        if queues == QUEUES:
            size = {"processes": self._plan.processes, "concurrency": self._plan.concurrency}
        return HurtWorker(self._server.url, queues, log, {}, name=name, lease=LEASE, **size)

    def _produce(self, number: int) -> None:
        dice = random.Random(number)
        calm = Queue(CALM, connection=self._server.url)
        queues = [calm, *(Queue(name, connection=self._server.url) for name in QUEUES * 4)]
        count = 0
        while not self._over.is_set():
            queue, job_id = dice.choice(queues), f"{number}-{count}"
            options = {"job_id": job_id, "result_ttl": -1, "failure_ttl": -1}
            args = (
                str(self._trace),
                f"{queue.name} {job_id}",
                dice.choice([0, 0, 0, 0.002, 0.002, 0.02, 0.02, 0.2]),
            )
            try:
                match dice.randrange(20):
                    case 0 if queue is not calm:
                        queue.enqueue("chaos_jobs.die_at_times", *args, **options)
                    case 1:
                        queue.enqueue("chaos_jobs.fail_at_times", *args, retry=Retry(50), **options)
                    case 2:
                        queue.enqueue("chaos_jobs.fail_at_times_and_await", *args, retry=Retry(50), **options)
                    case 3:
                        queue.enqueue_in(dice.uniform(0.1, 2), "chaos_jobs.work", *args, **options)
                    case even if even % 2 == 0:
                        queue.enqueue("chaos_jobs.await_work", *args, **options)
                    case _:
                        queue.enqueue("chaos_jobs.work", *args, **options)
            except MinirqError:
                continue  # it may have arrived: the same id again, until it is known
            self._accepted.add((queue.name, job_id))
            count += 1
            time.sleep(dice.expovariate(self._plan.rate / 2))

    # --- the hand -----------------------------------------------------------------------------

    def _wound_for(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(self._random.uniform(0.1, 0.8))
            self._wound()
            self._sample()

    def _wound(self) -> None:
        self._thaw()
        self._replace_the_dead()
        wounds = {
            self._kill_a_child: 6,
            self._kill_a_supervisor: 2,
            self._kill_a_worker: 2,
            self._freeze_a_child: 3,
            self._freeze_a_worker: 2,
            self._end_all_connections: 3,
            self._kill_the_server: 2,
            self._forget_scripts: 1,
            self._hang_up: 1,
        }
        [wound] = self._random.choices(list(wounds), list(wounds.values()))
        with suppress(OSError):
            self._wounds.append(time.time())
            wound()
            self.count.wounds[wound.__name__.strip("_").replace("_", " ")] += 1

    def _victim(self) -> HurtWorker:
        return self._random.choice(self._workers[1:])

    def _child(self) -> int:
        children = self._random.choice(self._workers).children
        if not children:
            raise ProcessLookupError
        return self._random.choice(children)

    def _kill_a_child(self) -> None:
        os.kill(self._child(), signal.SIGKILL)

    def _kill_a_supervisor(self) -> None:
        self._victim().signal(signal.SIGKILL)

    def _kill_a_worker(self) -> None:
        self._victim().kill_all()

    def _freeze_a_child(self) -> None:
        child = self._child()
        os.kill(child, signal.SIGSTOP)
        self._frozen.append((time.monotonic() + self._random.uniform(0.1, 2.5), [child]))

    def _freeze_a_worker(self) -> None:
        frozen = self._victim().freeze()
        self._frozen.append((time.monotonic() + self._random.uniform(0.1, 3 * LEASE), frozen))

    def _hang_up(self) -> None:
        self._victim().signal(signal.SIGHUP)

    def _end_all_connections(self) -> None:
        with connect(self._server.url) as client:
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def _forget_scripts(self) -> None:
        with connect(self._server.url) as client:
            client.script_flush()

    def _kill_the_server(self) -> None:
        self._server.kill()
        time.sleep(self._random.uniform(0, 1.5 * LEASE))
        self._server.start()

    def _thaw(self, *, everything: bool = False) -> None:
        for when, pids in list(self._frozen):
            if everything or time.monotonic() >= when:
                self._frozen.remove((when, pids))
                for pid in reversed(pids):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)

    def _replace_the_dead(self) -> None:
        for at, worker in enumerate(self._workers):
            if worker.process.poll() is not None:
                self._workers[at] = self._start(f"worker-{self._started}", QUEUES)
                self._started += 1

    def _heal(self) -> None:
        self._replace_the_dead()
        self._thaw(everything=True)

    def _be_away(self) -> None:
        """Have the server be away for long, with nothing else wrong; see what that does to the workers."""
        self._heal()
        time.sleep(2 * LEASE)
        workers = [*self._workers, self._calm]
        self._server.kill()
        until = time.monotonic() + self._plan.outage
        while time.monotonic() < until:
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))
            self._sample()
        before = self._trace.stat().st_size
        self._server.start()
        back = time.monotonic()
        while self._trace.stat().st_size == before and time.monotonic() - back < STANDSTILL:
            time.sleep(0.005)
        self.count.outage = Outage(
            self._plan.outage,
            workers=len(workers),
            dead=sum(worker.process.poll() is not None for worker in workers),
            first_run=time.monotonic() - back,
        )

    def _sample(self) -> None:
        self._memory.sample("a supervisor", self._workers[0].pid)
        self._memory.sample("its peer", self._calm.pid)
        for child in self._calm.children:
            self._memory.sample("a peer's child", child)

    # --- the end ------------------------------------------------------------------------------

    def _wait_for_the_end(self, client: redis_py.Redis) -> None:
        began = moved = time.monotonic()
        self.count.backlog = fewest = left(client, (*QUEUES, CALM))
        while (
            fewest and time.monotonic() - moved < STANDSTILL and time.monotonic() - began < self._plan.drain
        ):
            time.sleep(0.1)
            now_left = left(client, (*QUEUES, CALM))
            if now_left < fewest:
                fewest, moved = now_left, time.monotonic()
        self.count.drained_in = time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    plan = Plan()
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="how long wounds are made (30)")
    parser.add_argument(
        "--seed", type=int, help="of the wounds; their effects depend on timing (a random one, printed)"
    )
    parser.add_argument(
        "--processes", type=int, default=plan.processes, help="of each of the three workers (2)"
    )
    parser.add_argument(
        "--concurrency",
        type=int,
        default=plan.concurrency,
        help="jobs at once in each of those processes (1)",
    )
    parser.add_argument("--rate", type=float, default=plan.rate, help="jobs enqueued a second, at most (100)")
    parser.add_argument(
        "--outage", type=float, default=0, help="in the middle the server is away for so long, seconds (0)"
    )
    parser.add_argument(
        "--drain", type=float, default=plan.drain,
        help="how long the workers may take for what is left after the last wound, seconds (600)",
    )  # fmt: skip
    given = vars(parser.parse_args())
    if given["seed"] is None:
        given["seed"] = secrets.randbelow(10_000)
    plan = Plan(**given)
    print("bin/chaos", *(f"--{name} {value:g}" for name, value in given.items()), flush=True)
    count = Campaign(plan).run()
    print(count, flush=True)
    sys.exit(0 if count.is_good else 1)


if __name__ == "__main__":
    main()
