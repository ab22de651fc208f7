"""Measure every module of Python's standard library, one job per file, and print a report.

    minirq worker -p 2 --path examples/stdlib_report     # in one terminal
    python examples/stdlib_report/report.py              # in another

Some of the library's test data is broken on purpose, so a few jobs fail. Where the system's packages
omit the test data, none does.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
import sysconfig
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tasks import measure

from minirq import Job, Queue
from minirq.exceptions import JobFailedError, MinirqError

LIBRARY = Path(sysconfig.get_path("stdlib"))
#: after this long without a result, there is probably no worker, seconds
PATIENCE = 30
BAR = 40


def main() -> None:
    arguments = parse_arguments()
    files = list(sources(arguments.directory))
    if not files:
        sys.exit(f"{arguments.directory} holds no Python sources")

    started = time.monotonic()
    queue = Queue()
    jobs = queue.enqueue_many(Queue.prepare_data(measure, [str(file)]) for file in files)
    print(f"Enqueued {len(jobs)} jobs, one for each source file in {arguments.directory}.")

    results: dict[Path, dict[str, int | str]] = {}
    failed: list[Job[object]] = []
    for done, (file, job) in enumerate(zip(files, jobs, strict=True), start=1):
        try:
            results[file] = job.wait(timeout=PATIENCE)
        except JobFailedError:
            failed.append(job)
        show_progress(done, len(jobs))
    seconds = time.monotonic() - started

    print(f"\n{len(jobs)} jobs in {seconds:.1f} s: {len(jobs) / seconds:.0f} jobs/s, {len(failed)} failed.")
    print_largest(results, arguments.directory)
    print_failures(failed, arguments.directory)
    print_next(failed, arguments.minirq)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Python sources with minirq.")
    parser.add_argument("directory", nargs="?", type=Path, default=LIBRARY, help=f"default: {LIBRARY}")
    parser.add_argument("--minirq", default="minirq", help="how to call minirq in the commands that it shows")
    return parser.parse_args()


def sources(directory: Path) -> Iterator[Path]:
    """The source files below this directory, without installed packages."""
    for file in sorted(directory.rglob("*.py")):
        if not {"site-packages", "dist-packages", "__pycache__"} & set(file.parts[len(directory.parts) :]):
            yield file


def show_progress(done: int, total: int) -> None:
    """A bar that moves on a terminal, ten plain lines anywhere else."""
    if sys.stdout.isatty():
        bar = ("#" * (BAR * done // total)).ljust(BAR, ".")
        print(f"\r[{bar}] {done}/{total}", end="" if done < total else "\n", flush=True)
    elif done * 10 // total > (done - 1) * 10 // total:
        print(f"{done}/{total}", flush=True)


def print_largest(results: dict[Path, dict[str, int | str]], directory: Path) -> None:
    largest = sorted(results.items(), key=lambda item: item[1]["lines"], reverse=True)[:10]
    names = [str(file.relative_to(directory)) for file, _ in largest]
    width = max(map(len, names), default=0)
    print(f"\n{'lines':>7} {'functions':>9}  {'module':{width}}  longest function")
    for name, (_, found) in zip(names, largest, strict=True):
        start = f"{found['lines']:>7} {found['functions']:>9}  {name:{width}}  "
        end = f" ({found['longest_lines']} lines)" if found["longest"] else ""
        print(start + cut(str(found["longest"] or "none"), line_width() - len(start + end)) + end)


def line_width() -> int:
    """The width of the terminal; lines in a file are not cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000


def cut(text: str, room: int) -> str:
    return text if len(text) <= max(room, 8) else text[: max(room, 8) - 1] + "…"


def print_failures(failed: list[Job[object]], directory: Path) -> None:
    """Group failed jobs by reason; the end of a SyntaxError's message is its place, and is left out."""
    groups: dict[str, list[Job[object]]] = defaultdict(list)
    for job in failed:
        groups[re.sub(r" \([^()]*, line \d+\)$", "", job.errors[0].summary)].append(job)
    if groups:
        print("\nFailed, and why:")
    for reason, jobs in sorted(groups.items(), key=lambda group: len(group[1]), reverse=True):
        print(f"{len(jobs):>7}  {reason}")
        for job in jobs:
            print(f"{'':>9}{Path(job.args[0]).relative_to(directory)}")
    if groups and directory == LIBRARY:
        print("This is expected: some of the library's test data is broken on purpose.")


def print_next(failed: list[Job[object]], minirq: str) -> None:
    here = shlex.quote(str(Path(__file__).parent))
    print("\nWhat to type next:")
    is_embedded = not {"MINIRQ_REDIS_URL", "REDIS_URL"} & os.environ.keys()
    if is_embedded:
        print(f"  start the embedded server, if it is not running\n    {minirq} server start")
    print(f"  see the queue\n    {minirq} info")
    if failed:
        print(f"  see a failed job with its traceback\n    {minirq} job {failed[0].id}")
        print(f"  put it back into the queue, and run the waiting jobs\n    {minirq} requeue {failed[0].id}")
        print(f"    {minirq} worker --burst --path {here}")
    if is_embedded:
        print(f"  stop the embedded server\n    {minirq} server stop")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ninterrupted")
    except TimeoutError as error:
        sys.exit(f"\n{error}: is a worker running? minirq worker --path {Path(__file__).parent}")
    except MinirqError as error:
        sys.exit(f"\n{error}")
