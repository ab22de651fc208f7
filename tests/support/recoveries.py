"""How long recoveries took in this run of the tests; printed at its end."""

from __future__ import annotations

RECOVERIES: dict[str, list[float]] = {}


def recovered(what: str, seconds: float, limit: float) -> None:
    """Note how long a recovery took: at most `limit`."""
    RECOVERIES.setdefault(what, []).append(seconds)
    assert seconds < limit, f"{what}: {seconds:.2f} s, and {limit:g} s are promised"
