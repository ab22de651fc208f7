"""How many files of the package one act enters: what a reader has to open to follow it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_TRIP = """
import sys
from pathlib import Path
import minirq

package, entered = str(Path(minirq.__file__).parent) + "/", {}

def note(frame, event, _):
    file = frame.f_code.co_filename
    if event == "call" and file.startswith(package):
        entered[file.removeprefix(package)] = None

def act():
    pass

trips = []

def from_here_to_the_next():
    sys.setprofile(None)
    trips.append(tuple(entered))
    start()

def start():
    entered.clear()
    sys.setprofile(note)

def stop():
    sys.setprofile(None)
"""
_SETUP = """
import logging, sys, trip
from collections import Counter
from minirq import *
queue = Queue(connection=sys.argv[1])
"""
_ENQUEUE = """
queue.enqueue(trip.act)
trip.start()
queue.enqueue(trip.act)
trip.stop()
print(*trip.entered)
"""
_RUN = """
logging.disable()
for _ in range(300):
    queue.enqueue(trip.from_here_to_the_next)
SimpleWorker([queue], connection=queue.connection).work(burst=True)
trip.stop()
[(entered, times)] = Counter(trip.trips).most_common(1)
assert times > 200
print(*entered)
"""


def files_entered(code: str, url: str, folder: Path) -> list[str]:
    """Run the code in a process of its own: there is nothing that other tests have left behind."""
    (folder / "trip.py").write_text(_TRIP)
    code = f"{_SETUP}{code}"
    ran = subprocess.run(
        [sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True, check=True, cwd=folder
    )
    return ran.stdout.split()


def test_one_enqueue_enters_nine_files(redis_url: str, tmp_path: Path) -> None:
    entered = files_entered(_ENQUEUE, redis_url, tmp_path)
    assert 2 < len(entered) <= 9, " ".join(entered)


def test_the_run_of_a_short_job_in_a_batch_enters_few_files(redis_url: str, tmp_path: Path) -> None:
    """From the body of one job to the body of the next one in the same batch.

    Of 300 jobs that are claimed in batches most are followed by one that was claimed with them, so what most
    trips enter is one without the request that settles a batch and claims the next. The log is off.
    """
    entered = files_entered(_RUN, redis_url, tmp_path)
    assert 2 < len(entered) <= 10, " ".join(entered)
