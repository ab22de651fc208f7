"""Fault points: named places in a worker at which a test kills, freezes or breaks the process.

`MINIRQ_FAULT=claimed:kill:3` kills a process at its third pass of `claimed`; the number is 1 if left out.
With `MINIRQ_FAULT_ONCE=/path` only the first process that gets there is struck: it leaves the file there.
`install` wraps the worker's methods in the supervisor's process; its children are forked from that.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minirq.connection.client import Sender
from minirq.protocol.commands import Call, Settled, Settlement
from minirq.worker.concurrent import ConcurrentExecutor
from minirq.worker.executor import Executor
from minirq.worker.link import Link
from minirq.worker.scoreboard import Scoreboard

#: BLMOVE has brought a payload that no claim knows yet; a claim was answered with jobs; a job's function is
#: about to run; it has returned and nothing was sent; a settlement was answered and the answer not used
POINTS = ("brought", "claimed", "started", "ended", "settled")
KINDS = ("kill", "stop", "raise")


class Plan:
    """What is to happen: where, what, at which pass, and whether only once for all processes."""

    def __init__(self, text: str, once: Path | None = None) -> None:
        self.point, _, rest = text.partition(":")
        self._kind, _, number = rest.partition(":")
        assert self.point in POINTS, text
        assert self._kind in KINDS, text
        self._left = int(number or 1)
        self._once = once

    def passed(self, point: str) -> None:
        """Strike, if this is the point and the pass that was planned."""
        if point != self.point:
            return
        self._left -= 1
        if self._left == 0 and self._is_first():
            self._strike()

    def _is_first(self) -> bool:
        try:
            if self._once is not None:
                self._once.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _strike(self) -> None:
        if self._kind == "raise":
            raise RuntimeError(f"MINIRQ_FAULT struck at {self.point}")
        os.kill(os.getpid(), signal.SIGKILL if self._kind == "kill" else signal.SIGSTOP)


def install() -> None:
    """Wrap the methods at the five points, if `MINIRQ_FAULT` says so."""
    text, once = os.environ.get("MINIRQ_FAULT"), os.environ.get("MINIRQ_FAULT_ONCE")
    if not text:
        return
    plan = Plan(text, Path(once) if once else None)
    _before(Executor, "run", lambda: plan.passed("started"))
    _before(ConcurrentExecutor, "attend", lambda: plan.passed("started"))
    _after(Scoreboard, "end", lambda reply, given: plan.passed("ended"))
    brought: list[bool] = []

    def replied(reply: Any, given: tuple[Sender, Call[Any]]) -> None:
        if given[1].args[0] in ("BLMOVE", "BZPOPMIN"):
            brought[:] = [reply]

    def waited(_: None, given: object) -> None:
        if brought == [True]:
            plan.passed("brought")

    _after(Sender, "send", replied)
    _after(Link, "wait", waited)

    def answered(settled: Settled, given: tuple[Link, Sequence[Settlement]]) -> None:
        if given[1]:
            plan.passed("settled")
        if settled.claim.jobs:
            plan.passed("claimed")

    _after(Link, "settle", answered)


def _before(owner: type, name: str, act: Callable[[], None]) -> None:
    method = getattr(owner, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        act()
        return method(*given, **named)

    setattr(owner, name, wrapped)


def _after(owner: type, name: str, act: Callable[[Any, Any], None]) -> None:
    method = getattr(owner, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        reply = method(*given, **named)
        act(reply, given)
        return reply

    setattr(owner, name, wrapped)
