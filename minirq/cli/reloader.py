"""The helper of `minirq worker --reload`: a process that tells the worker when sources have changed.

It runs beside the worker as `python -m minirq.cli.reloader PID DIRECTORY...`, because nothing in the
worker's own process may hold up its beats. It ends with the worker.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from minirq.exceptions import InvalidOption

#: how often it looks whether the worker is still there, ms
_LOOK_EVERY_MS = 500


@contextmanager
def reloading(directories: Sequence[str]) -> Iterator[None]:
    """Have the processes of this worker replaced while inside, whenever a source below these changes."""
    if find_spec("watchfiles") is None:
        raise InvalidOption("--reload needs the package watchfiles: pip install 'minirq[reload]'")
    # -P: no module of the working directory stands in for one of ours
    command = [sys.executable, "-P", "-m", "minirq.cli.reloader", str(os.getpid()), *directories]
    # a session of its own: Ctrl-C is for the worker
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as helper:
        try:
            yield
        finally:
            helper.terminate()


def main() -> None:
    """Send SIGHUP to the process that is named first, whenever a *.py below the directories changes."""
    from watchfiles import PythonFilter, watch  # of an extra

    worker, directories = int(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    for changes in watch(
        *directories,
        watch_filter=PythonFilter(),
        rust_timeout=_LOOK_EVERY_MS,
        yield_on_timeout=True,
    ):
        if os.getppid() != worker:
            return
        if changes:
            os.kill(worker, signal.SIGHUP)


if __name__ == "__main__":
    main()
