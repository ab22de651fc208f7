"""Which job this thread or task is running, for those who ask from inside it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis


@dataclass(slots=True)  # not frozen: made for every job
class Running:
    """A job under way: where it is, which run, and a connection that its code may use."""

    id: str
    queue: str
    run: int
    payload: bytes
    connection: redis.Redis | None
    namespace: str
    serializer: str


running: ContextVar[Running | None] = ContextVar("minirq_running", default=None)
