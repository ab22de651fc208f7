"""Commands to workers that are at it. The names are RQ's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minirq.exceptions import InvalidJobOperation, NoSuchJobError
from minirq.protocol import operations, procedures
from minirq.store import Store
from minirq.text import safe_text

if TYPE_CHECKING:
    import redis

__all__ = ["send_stop_job_command"]


def send_stop_job_command(
    connection: redis.Redis | str | None,
    job_id: str,
    serializer: object = None,
    *,
    namespace: str | None = None,
) -> None:
    """Interrupt a job that runs: it ends as stopped, and is not tried again. As `Job.cancel` in all else.

    `serializer` is there for RQ's sake. Raises InvalidJobOperation if the job does not run, NoSuchJobError.
    """
    store = Store(connection, namespace)
    [found] = store.sender.run(procedures.find(store.keys, [job_id]))
    status = store.sender.send(operations.stop(store.keys.of(found.queue), job_id)) if found else ""
    if not status:
        raise NoSuchJobError(f"no job has the id {safe_text(job_id)!r}")
    if status != "started":
        raise InvalidJobOperation(f"job {safe_text(job_id)} does not run: it is {status}")
