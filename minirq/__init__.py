"""minirq: a job queue on plain Redis that does not lose jobs.

from minirq import Queue
job = Queue().enqueue("myapp.tasks.count_words", "moby.txt")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from minirq.exceptions import MinirqError
    from minirq.job import Job, JobStatus, cancel_job, get_current_job, requeue_job
    from minirq.queue import Queue
    from minirq.retry import Retry
    from minirq.worker import SimpleWorker, Worker

__all__ = [
    "Job", "JobStatus", "MinirqError", "Queue", "Retry", "SimpleWorker", "Worker",
    "cancel_job", "get_current_job", "requeue_job",
]  # fmt: skip

#: the module of each name that is not in `job`
_MODULES = {
    "MinirqError": "exceptions", "Queue": "queue", "Retry": "retry",
    "SimpleWorker": "worker", "Worker": "worker",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    # imported when first asked for: the command line starts without Redis, a producer without workers
    if name not in __all__:
        raise AttributeError(f"module 'minirq' has no attribute {name!r}")
    return getattr(import_module(f"minirq.{_MODULES.get(name, 'job')}"), name)
