"""The systems: one file each."""

from __future__ import annotations

from bench.systems import celery, dramatiq, floor, huey, minirq, rq, taskiq
from bench.systems.system import System, Unsupported

ALL: tuple[System, ...] = (
    *minirq.SYSTEMS,
    *rq.SYSTEMS,
    *celery.SYSTEMS,
    *dramatiq.SYSTEMS,
    *huey.SYSTEMS,
    *taskiq.SYSTEMS,
    *floor.SYSTEMS,
)

__all__ = ["ALL", "System", "Unsupported", "named"]


def named(name: str) -> System:
    """Return the system of this name."""
    return next(system for system in ALL if system.name == name)
