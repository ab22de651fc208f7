"""The command: bin/chaos."""

from __future__ import annotations

import argparse
import secrets
import sys

from faults.chaos.campaign import Campaign, Plan

_HELP = {
    "seconds": "how long faults strike (30)",
    "processes": "of the first worker (2)",
    "concurrency": "jobs at once in each of those processes (1)",
    "rate": "jobs enqueued a second, at most (100)",
    "again": "share of the calls whose id has been used before (0.05)",
    "meddling": "what is done to jobs and queues, times a second: cancel, delete, requeue, pause, wait (10)",
    "outage": "in the middle the server is away for so long, seconds (0)",
    "drain": "how long the workers may take for what is left after the last fault, seconds (600)",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        "bin/chaos", description="Jobs, and everything that can happen to them at once."
    )
    plan = Plan()
    parser.add_argument(
        "--seed", type=int, help="of the faults; their effects depend on timing (a random one, printed)"
    )
    for name, text in _HELP.items():
        default = getattr(plan, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
    given = vars(parser.parse_args())
    if given["seed"] is None:
        given["seed"] = secrets.randbelow(10_000)
    print("bin/chaos", *(f"--{name} {value:g}" for name, value in given.items()), flush=True)
    report = Campaign(Plan(**given)).run()
    print(report, flush=True)
    sys.exit(0 if report.is_good else 1)


if __name__ == "__main__":
    main()
