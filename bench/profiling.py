"""Profiling: where the time of a no-op job goes, in the worker and in the server.

`python -m bench.profiling`, in an environment with minirq. Server and worker share one core, as in the pinned
cases. The shares of the worker come from cProfile, which makes small functions look slower than they are; the
times per job come from a second run without it.
"""

from __future__ import annotations

import cProfile
import io
import logging
import os
import pstats
import time
from typing import Any

from bench.server import Server
from minirq import Queue, SimpleWorker

_JOBS = 50_000


def _nothing() -> None:
    """A job."""


def main() -> None:
    """Drain twice, and print what was seen."""
    logging.disable(logging.WARNING)
    server = Server()
    try:
        if hasattr(os, "sched_setaffinity"):
            for pid in (0, server.pid):
                os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})
        _drain(server, None)  # loads what is loaded once
        print(_costs(server, *_drain(server, None)))
        profile = cProfile.Profile()
        _drain(server, profile)
        print(_shares(profile))
    finally:
        server.close()


def _drain(server: Server, profile: cProfile.Profile | None) -> tuple[float, float]:
    """Return the CPU seconds of server and worker."""
    server.empty()
    queue = Queue("profile", server.client)
    queue.enqueue_many(Queue.prepare_data("bench.profiling._nothing") for _ in range(_JOBS))
    server.client.config_resetstat()
    worker = SimpleWorker([queue], connection=server.client)
    in_server, here = _cpu(server), time.process_time()
    if profile is None:
        worker.work(burst=True)
    else:
        profile.runcall(worker.work, burst=True)
    return _cpu(server) - in_server, time.process_time() - here


def _cpu(server: Server) -> float:
    about = server.info("cpu")
    return float(about["used_cpu_user"] + about["used_cpu_sys"])


def _costs(server: Server, in_server: float, here: float) -> str:
    stats: dict[str, Any] = {
        name.removeprefix("cmdstat_"): stat
        for name, stat in server.info("commandstats").items()
        if name not in ("cmdstat_info", "cmdstat_config|resetstat")
    }
    script = stats.pop("evalsha")
    commands = sum(stat["usec"] for stat in stats.values()) / _JOBS
    lines = [
        f"{in_server / _JOBS * 1e6:.1f} us a job in the server, of which",
        f"    {commands:.1f} us in {sum(stat['calls'] for stat in stats.values()) / _JOBS:.1f} commands",
        f"    {script['usec'] / _JOBS - commands:.1f} us in Lua and in calling them",
        f"{here / _JOBS * 1e6:.1f} us a job in the worker, at {script['calls'] / _JOBS:.3f} round trips",
        "the dearest commands, us a job:",
    ]
    dearest = sorted(stats.items(), key=lambda item: -item[1]["usec"])[:7]
    lines += [f"    {name:10} {stat['usec'] / _JOBS:5.2f}" for name, stat in dearest]
    return "\n".join(lines)


def _shares(profile: cProfile.Profile) -> str:
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(25)
    return "the worker, by the time in each function itself:\n" + text.getvalue()


if __name__ == "__main__":
    main()
