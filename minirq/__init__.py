"""minirq: a job queue on plain Redis that does not lose jobs.

from minirq import Queue
job = Queue().enqueue("myapp.tasks.count_words", "moby.txt")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from minirq.exceptions import MinirqError as MinirqError
    from minirq.job import Job as Job
    from minirq.job import JobStatus as JobStatus
    from minirq.job import cancel_job as cancel_job
    from minirq.job import get_current_job as get_current_job
    from minirq.job import requeue_job as requeue_job
    from minirq.queue import Queue as Queue
    from minirq.retry import Retry as Retry
    from minirq.worker import SimpleWorker as SimpleWorker
    from minirq.worker import Worker as Worker

_HOMES = {
    "Job": "minirq.job",
    "JobStatus": "minirq.job",
    "MinirqError": "minirq.exceptions",
    "Queue": "minirq.queue",
    "Retry": "minirq.retry",
    "SimpleWorker": "minirq.worker",
    "Worker": "minirq.worker",
    "cancel_job": "minirq.job",
    "get_current_job": "minirq.job",
    "requeue_job": "minirq.job",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - its keys are strings


def __getattr__(name: str) -> Any:
    # imported when first asked for: the command line starts without Redis, a producer without workers
    if name not in _HOMES:
        raise AttributeError(f"module 'minirq' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
