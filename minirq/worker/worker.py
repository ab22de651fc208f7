"""What Python code starts to run jobs: Worker and SimpleWorker, named and called as in RQ."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minirq.connection.client import check_server
from minirq.connection.config import load_config
from minirq.connection.connect import connect, safe_url
from minirq.exceptions import InvalidOption, ServerUnavailable, UnsuitableServer
from minirq.worker.interrupts import BaseDeathPenalty
from minirq.worker.link import Outage
from minirq.worker.logs import set_up_logs_unless_done
from minirq.worker.settings import SAFE_SERIALIZERS, WorkerSettings
from minirq.worker.simple import SimpleWork

if TYPE_CHECKING:
    import redis

    from minirq.worker.supervisor import Supervisor

__all__ = ["SimpleWorker", "Worker"]

logger = logging.getLogger(__name__)


class Worker:
    """Takes jobs from queues and runs them in child processes of this process.

    `queues` are names or Queue objects, served in strict order. `connection` is a redis.Redis, a URL or
    None: that of the first Queue, or else of the configuration. Each of `processes` runs `concurrency` jobs
    at once: with more than one, coroutines on an event loop and functions in threads.
    Jobs may call the application's functions: those in `paths`, or without `paths` those on sys.path outside
    site-packages. `allow` permits others by pattern ("os.getpid", "installed_app.*"), `only` allows no others
    than those that match; `accept` names serializers to read beyond msgpack and json. `WorkerSettings`
    describes the other options, which `minirq worker` has too; `allow_eviction` accepts a Redis that may
    evict jobs. Raises InvalidOption.
    """

    #: `minirq worker --no-batch` claims jobs one by one
    is_batching = True

    def __init__(  # noqa: PLR0913 - RQ's, and one per option
        self,
        queues: Any,
        name: str | None = None,
        connection: redis.Redis | str | None = None,
        *,
        processes: int = 1,
        concurrency: int = 1,
        allow: Sequence[str] = (),
        only: Sequence[str] = (),
        accept: Sequence[str] = (),
        paths: Sequence[str] = (),
        lease: float = 15.0,
        stop_timeout: float = 8.0,
        kill_grace: float = 5.0,
        loss_pause: float = 3.0,
        max_jobs_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        preload: Sequence[str] = (),
        allow_eviction: bool = False,
        namespace: str | None = None,
    ) -> None:
        given = [queues] if isinstance(queues, str) or hasattr(queues, "name") else list(queues)
        first = next((queue for queue in given if hasattr(queue, "connection")), None)
        if connection is None and first is not None:
            connection = first.connection
        config = load_config(
            namespace=namespace or getattr(first, "namespace", None), needs_url=connection is None
        )
        self._connection, self._config = connection, config
        self._allow_eviction = allow_eviction
        self._options: dict[str, Any] = {
            "queues": tuple(getattr(queue, "name", queue) for queue in given),
            "namespace": config.namespace, "max_payload": config.max_payload, "processes": processes,
            "concurrency": concurrency, "preload": tuple(preload), "paths": tuple(paths),
            "allow": _patterns("allow", allow), "only": _patterns("only", only),
            "accept": (*SAFE_SERIALIZERS, *accept), "lease": lease, "stop_timeout": stop_timeout,
            "kill_grace": kill_grace, "loss_pause": loss_pause, "max_jobs_per_child": max_jobs_per_child,
            "max_memory_per_child": max_memory_per_child, **({"name": name} if name else {}),
        }  # fmt: skip
        self._work: SimpleWork | Supervisor | None = None
        WorkerSettings(**self._options)

    @property
    def name(self) -> str:
        """The worker's name: host and pid unless it was given one."""
        return WorkerSettings(**self._options).name

    @property
    def queue_names(self) -> list[str]:
        """The names of its queues, in the order in which they are served."""
        return list(self._options["queues"])

    def work(
        self,
        burst: bool = False,
        max_jobs: int | None = None,
        with_scheduler: bool = True,
        logging_level: int | str = "INFO",
    ) -> bool:
        """Run jobs until a signal or `stop()`; with `burst` until the queues are empty. True if any ran.

        The first SIGINT or SIGTERM lets running jobs end, the second cuts them off: they go back to the
        queue. Delayed jobs are always promoted (`with_scheduler` is accepted as RQ has it). While Redis is
        unreachable, the worker waits; with `burst` for 30 s, then it raises ServerUnavailable.
        Raises AccessDenied, UnsuitableServer, InvalidOption.
        """
        settings = WorkerSettings(
            **self._options, is_burst=burst, max_jobs=max_jobs, is_batching=self.is_batching
        )
        set_up_logs_unless_done(logging_level)
        client = connect(self._connection, self._config)
        info = _wait_for(client, Outage(limit=settings.patience))
        _check_persistence(client, info, allow_eviction=self._allow_eviction)
        self._work = self._make(client, settings)
        self._work.run()
        return self._work.counts[0] > 0

    def stop(self) -> None:
        """End `work` after the running jobs. Callable from any thread."""
        if self._work is not None:
            self._work.stop()

    def _make(self, client: redis.Redis, settings: WorkerSettings) -> SimpleWork | Supervisor:
        if not hasattr(os, "fork"):
            raise InvalidOption("this system has no fork, which Worker needs: use SimpleWorker")
        from minirq.worker.supervisor import Supervisor  # it cannot be imported where there is no fork

        return Supervisor(client, settings)


class SimpleWorker(Worker):
    """Runs jobs in this process, one at a time: for tests, debuggers and systems without fork.

    A second thread sends the heartbeats: a job that holds the interpreter for longer than the lease may be
    taken over by another worker. A subclass may set `death_penalty_class`.
    """

    death_penalty_class: type[BaseDeathPenalty] | None = None

    def _make(self, client: redis.Redis, settings: WorkerSettings) -> SimpleWork:
        if settings.processes > 1 or settings.concurrency > 1:
            raise InvalidOption("a SimpleWorker runs one job at a time: use Worker")
        return SimpleWork(client, settings, self.death_penalty_class)


def _patterns(option: str, given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):  # each of its characters would be a pattern, and "*" opens everything
        raise InvalidOption(f"{option} is {given!r}: give a list of patterns")
    return tuple(given)


def _wait_for(client: redis.Redis, outage: Outage) -> dict[str, Any]:
    """Wait until Redis answers; return its INFO. Raises UnsuitableServer below 6.2."""
    while True:
        try:
            info = check_server(client)
            outage.succeeded()
            return info
        except ServerUnavailable as error:
            time.sleep(outage.failed(error))


def _check_persistence(client: redis.Redis, info: dict[str, Any], *, allow_eviction: bool) -> None:
    """Refuse a server that may evict jobs, and warn about one that loses them when it restarts.

    The volatile policies only evict keys with a TTL: records of ended jobs.
    """
    policy = str(info.get("maxmemory_policy", ""))
    if policy.startswith("allkeys") and not allow_eviction:
        raise UnsuitableServer(
            f"{safe_url(client)} evicts jobs when memory is short (policy {policy}):"
            " set it to noeviction, or pass --allow-eviction and accept that jobs get lost"
        )
    if not info.get("aof_enabled"):
        logger.warning(
            "%s keeps no append-only file: jobs enqueued since its last snapshot are lost if it dies"
            " (set appendonly yes)",
            safe_url(client),
        )
