"""Fault points: named places at which a test has this process die, freeze or raise.

`MINIRQ_FAULT=claimed:kill:3` kills a process at its third pass of `claimed`; the number is 1 if left out.
With `MINIRQ_FAULT_ONCE=/path` only the first process that comes so far is struck: it leaves the file
there. Without the variable nothing happens, for the price of one comparison.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from minirq.connection.config import load_fault
from minirq.exceptions import ConfigError

#: BLMOVE has brought a payload that no claim knows yet; a claim was answered with jobs; a job's function is
#: about to run; it has returned and nothing was sent; a settlement was answered and the answer not used
POINTS = ("brought", "claimed", "started", "ended", "settled")
_KINDS = ("kill", "stop", "raise")


class Plan:
    """What is to happen: where, what, at which pass, and whether only once for all processes."""

    def __init__(self, text: str, once: Path | None = None) -> None:
        point, _, rest = text.partition(":")
        kind, _, number = rest.partition(":")
        if point not in POINTS or kind not in _KINDS or not (number or "1").isdigit():
            raise ConfigError(
                f"MINIRQ_FAULT is {text!r}: write POINT:KIND or POINT:KIND:PASS"
                f" with a point of {', '.join(POINTS)} and a kind of {', '.join(_KINDS)}"
            )
        self.point = point
        self._kind = kind
        self._left = int(number or 1)
        self._once = once

    def passed(self) -> None:
        """The point was passed once more."""
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


def _planned() -> Plan | None:
    found = load_fault()
    return None if found is None else Plan(*found)


_plan = _planned()


def fault(point: str) -> None:
    """Pass a point."""
    if _plan is not None and _plan.point == point:
        _plan.passed()
