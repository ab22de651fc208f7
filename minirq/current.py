"""Which job the current thread or task is running, for `get_current_job`."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis


@dataclass(slots=True)  # not frozen: made for every job
class Running:
    """A running job: its queue, its run, its payload, and a connection that its code may use."""

    id: str
    queue: str
    run: int
    payload: bytes
    connection: redis.Redis | None
    namespace: str
    serializer: str


running: ContextVar[Running | None] = ContextVar("minirq_running", default=None)
