"""Commands to running workers. The names are RQ's."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from minirq.client.store import Store
from minirq.exceptions import InvalidJobOperation, MinirqError, NoSuchJobError, NoSuchWorkerError
from minirq.inspect.overview import WorkerView, overview
from minirq.protocol import commands, queries
from minirq.text import safe_text

if TYPE_CHECKING:
    import redis

__all__ = ["send_shutdown_command", "send_stop_job_command"]

#: how many workers a message names at most
_MOST_NAMED = 10


def send_shutdown_command(
    connection: redis.Redis | str | None, worker_name: str, *, now: bool = False, namespace: str | None = None
) -> None:
    """Ask a worker to stop, as SIGTERM does; with `now`, as a second SIGTERM does.

    This asks all workers of that name, or the one with that id. A worker that cannot reach Redis stops once
    it can. Raises NoSuchWorkerError.
    """
    store = Store(connection, namespace)
    shut_down(store, workers_named(store, worker_name), now=now)


def workers_named(store: Store, name: str) -> list[WorkerView]:
    """Return the workers with this name or id. Raises NoSuchWorkerError."""
    running = overview(store, []).workers
    found = [worker for worker in running if name in (worker.name, worker.id)]
    if not found:
        names = ", ".join(safe_text(one) for one in sorted({worker.name for worker in running})[:_MOST_NAMED])
        raise NoSuchWorkerError(
            f"no worker {safe_text(name)!r} is running" + (f"; running are {names}" if names else "")
        )
    return found


def shut_down(store: Store, workers: Iterable[WorkerView], *, now: bool = False) -> None:
    """Ask these workers to stop."""
    for worker in workers:
        written, hint = queries.ask_to_shut_down(store.keys, worker.id, "now" if now else "warm")
        store.sender.send(written)
        with suppress(
            MinirqError
        ):  # if it may not publish, the worker finds the request at its next heartbeat
            store.sender.send(hint)


def send_stop_job_command(
    connection: redis.Redis | str | None,
    job_id: str,
    serializer: object = None,
    *,
    namespace: str | None = None,
) -> None:
    """Interrupt a running job: it ends as stopped and is not retried. Otherwise the same as `Job.cancel`.

    `serializer` is not used: RQ has it. Raises InvalidJobOperation if the job is not running, NoSuchJobError.
    """
    store = Store(connection, namespace)
    [found] = store.sender.run(queries.find(store.keys, [job_id]))
    status = store.sender.send(commands.stop(store.keys.of(found.queue), job_id)) if found else ""
    if not status:
        raise NoSuchJobError.of(job_id)
    if status != "started":
        raise InvalidJobOperation(f"job {safe_text(job_id)} is not running: it is {status}")
