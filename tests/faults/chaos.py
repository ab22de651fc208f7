"""A campaign: producers, workers, and a hand that hurts them at random. `bin/chaos` runs it.

The server writes its append-only file at every command (`appendfsync always`): what a producer was told is
there must be there after the server was killed, or the count would prove nothing about minirq.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from faults.conftest import HurtWorker
from faults.server import OwnServer

from minirq import Queue, Retry
from minirq.connection import connect
from minirq.exceptions import MinirqError

QUEUES = ("high", "low")
LEASE = 1.0
#: after the last wound: until everything has to be over, seconds
SETTLE = 60.0


@dataclass
class Count:
    """What a campaign ends with."""

    enqueued: int = 0
    finished: int = 0
    failed: int = 0
    lost: int = 0
    left: int = 0
    run_again: int = 0
    runs: int = 0
    slowest_second: float = 0.0
    slowest_next: float = 0.0
    wounds: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        wounds = ", ".join(f"{count} {what}" for what, count in sorted(self.wounds.items()))
        return "\n".join(
            [
                f"wounds                    {sum(self.wounds.values())}: {wounds}",
                f"enqueued                  {self.enqueued}",
                f"finished                  {self.finished}",
                f"failed                    {self.failed}",
                f"lost                      {self.lost}",
                f"left in processing lists  {self.left}",
                f"run more than once        {self.run_again} jobs ({self.runs} runs in all)",
                f"slowest recovery          {self.slowest_second:.2f} s from one run to the next of a job",
                f"longest standstill        {self.slowest_next:.2f} s from a wound to the next end of a job",
            ]
        )


class Campaign:
    """Everything of one campaign."""

    def __init__(self, seconds: float, seed: int, processes: int, workers: int = 3) -> None:
        self._seconds = seconds
        self._random = random.Random(seed)
        self._processes = processes
        self._folder = Path(tempfile.mkdtemp(prefix="minirq-chaos-"))
        self._trace = self._folder / "trace"
        self._trace.touch()
        self._server = OwnServer()
        self._workers = [self._start(number) for number in range(workers)]
        self._started = workers
        self._accepted: set[tuple[str, str]] = set()
        self._over = threading.Event()
        self._frozen: list[tuple[float, list[int]]] = []
        self._wounds: list[float] = []
        self.count = Count()

    def run(self) -> Count:
        """Wound, heal, count."""
        producers = [threading.Thread(target=self._produce, args=(number,)) for number in range(2)]
        for producer in producers:
            producer.start()
        ends = time.monotonic() + self._seconds
        while time.monotonic() < ends:
            time.sleep(self._random.uniform(0.1, 0.8))
            self._wound()
        self._over.set()
        for producer in producers:
            producer.join()
        self._heal()
        self._thaw(everything=True)
        self._wait_for_the_end()
        self._take_stock()
        for worker in self._workers:
            worker.kill_all()
        self._server.close()
        return self.count

    # --- the victims --------------------------------------------------------------------------

    def _start(self, number: int) -> HurtWorker:
        log = self._folder / f"worker-{number}.log"
        return HurtWorker(
            self._server.url, QUEUES, log, {}, processes=self._processes, name=f"worker-{number}", lease=LEASE
        )

    def _produce(self, number: int) -> None:
        dice = random.Random(number)
        queues = [Queue(name, connection=self._server.url) for name in QUEUES]
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
                    case 0:
                        queue.enqueue("chaos_jobs.die_at_times", *args, **options)
                    case 1:
                        queue.enqueue("chaos_jobs.fail_at_times", *args, retry=Retry(50), **options)
                    case 2:
                        queue.enqueue_in(dice.uniform(0.1, 2), "chaos_jobs.work", *args, **options)
                    case _:
                        queue.enqueue("chaos_jobs.work", *args, **options)
            except MinirqError:
                continue  # it may have arrived: the same id again, until it is known
            self._accepted.add((queue.name, job_id))
            count += 1
            time.sleep(dice.expovariate(50))

    # --- the hand -----------------------------------------------------------------------------

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
        return self._random.choice(self._workers)

    def _child(self) -> int:
        children = self._victim().children
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
                self._workers[at] = self._start(self._started)
                self._started += 1

    def _heal(self) -> None:
        self._replace_the_dead()

    # --- the count ----------------------------------------------------------------------------

    def _wait_for_the_end(self) -> None:
        deadline = time.monotonic() + SETTLE
        with connect(self._server.url) as client:
            while time.monotonic() < deadline:
                keys = [f"minirq:{{{name}}}:{what}" for name in QUEUES for what in ("queue", "scheduled")]
                if not client.exists(*keys) and not list(client.scan_iter("*:processing:*", count=10_000)):
                    return
                time.sleep(0.1)

    def _take_stock(self) -> None:
        runs: dict[str, list[float]] = {}
        for line in self._trace.read_text().splitlines():
            job, _, started = line.rpartition(" ")
            runs.setdefault(job, []).append(float(started))
        ends: list[float] = []
        with connect(self._server.url) as client:
            for queue, job_id in self._accepted:
                status, ended = client.hmget(f"minirq:{{{queue}}}:job:{job_id}", "status", "ended_ms")
                has_run = f"{queue} {job_id}" in runs
                self.count.finished += status == b"finished" and has_run
                self.count.failed += status == b"failed"
                self.count.lost += not (status == b"failed" or (status == b"finished" and has_run))
                ends.append(float(ended or 0) / 1000)
            for key in client.scan_iter("*:processing:*", count=10_000):
                self.count.left += client.llen(key)
        self.count.enqueued = len(self._accepted)
        self.count.runs = sum(map(len, runs.values()))
        self.count.run_again = sum(len(starts) > 1 for starts in runs.values())
        gaps = [later - start for starts in runs.values() for start, later in pairwise(sorted(starts))]
        self.count.slowest_second = max(gaps, default=0.0)
        ends.sort()
        for wound in self._wounds:
            after = next((end for end in ends if end >= wound), wound)
            self.count.slowest_next = max(self.count.slowest_next, after - wound)

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost and nothing is left."""
        return self.count.enqueued > 0 and not self.count.lost and not self.count.left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=30, help="how long wounds are made (30)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the wounds; their effects depend on timing (1)"
    )
    parser.add_argument("--processes", type=int, default=2, help="of each of the three workers (2)")
    options = parser.parse_args()
    campaign = Campaign(options.seconds, options.seed, options.processes)
    print(f"bin/chaos --seconds {options.seconds:g} --seed {options.seed} --processes {options.processes}")
    print(campaign.run(), flush=True)
    sys.exit(0 if campaign.is_good else 1)


if __name__ == "__main__":
    main()
