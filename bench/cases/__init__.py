"""The cases: what is measured."""

from __future__ import annotations

from bench.cases import crowd, delayed, drain, enqueue, fleet, growth, idle, kill, latency, mixed, traffic
from bench.cases.case import Case, Metric

ALL: tuple[Case, ...] = (
    drain.NOOP,
    drain.KIB,
    enqueue.CASE,
    latency.CASE,
    mixed.CASE,
    drain.BURN,
    drain.SLEEPS,
    drain.ASYNC_SLEEPS,
    crowd.CASE,
    delayed.CASE,
    traffic.CASE,
    idle.START,
    idle.IDLE,
    kill.CASE,
    growth.CASE,
    fleet.CASE,
)

__all__ = ["ALL", "Case", "Metric"]
