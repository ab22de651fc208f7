"""Pace: how long functions take, and so how many jobs are worth claiming at once. Pure arithmetic."""

from __future__ import annotations

#: a batch is meant to hold this much work, seconds: it ends just before a result would be sent by itself
BATCH_SECONDS = 0.0049
#: jobs in a batch at most: what an owner may hold
MOST = 64
#: a function that takes less on average may run with unsent results behind it, seconds
SHORT_SECONDS = 0.002
#: what takes longer counts as this much, seconds: all of it is long, and one such run says little of the next
LONG_SECONDS = 0.005
#: how much the newest measurement counts
_WEIGHT = 0.2
#: functions that are remembered; beyond that all start anew
_MOST_FUNCTIONS = 1000


class Pace:
    """Moving averages of run times, per function and of all jobs. `most` 1 turns batches off."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._by_function: dict[str, float] = {}
        self._average = BATCH_SECONDS
        self._want = 1

    def ran(self, function: str, seconds: float) -> None:
        """Note how long a run took. A rare long one weighs little: the tick sees to what waits behind it."""
        seconds = min(seconds, LONG_SECONDS)
        known = self._by_function.get(function)
        if known is None:
            if len(self._by_function) >= _MOST_FUNCTIONS:
                self._by_function.clear()
            self._by_function[function] = seconds
        else:
            self._by_function[function] = known + (seconds - known) * _WEIGHT
        self._average += (seconds - self._average) * _WEIGHT

    def is_short(self, function: str) -> bool:
        """Whether this function was measured short. One that was never measured is not."""
        return self._by_function.get(function, 1.0) < SHORT_SECONDS

    def want(self) -> int:
        """How many jobs to claim: it doubles at most from one batch to the next."""
        fitting = int(BATCH_SECONDS / max(self._average, 1e-6))
        self._want = max(1, min(self._want * 2, fitting, self._most))
        return self._want
