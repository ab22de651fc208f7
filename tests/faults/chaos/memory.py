"""How much memory the processes take that live through a campaign."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


class Memory:
    """Samples of the resident memory of named processes, from `start` on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._samples: dict[str, list[tuple[float, int, float]]] = {}

    def sample(self, what: str, pid: int) -> None:
        """Note what a process takes now. A name may go from one process to its successor."""
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return
        sample = (time.monotonic() - self._began, pid, pages * _PAGE_MIB)
        self._samples.setdefault(what, []).append(sample)

    def report(self) -> list[str]:
        """A line for each name: its longest-lived process after a tenth, the half and all of its time."""
        return [_line(what, samples) for what, samples in self._samples.items()]


def _line(what: str, samples: list[tuple[float, int, float]]) -> str:
    [(longest, _)] = Counter(pid for _, pid, _ in samples).most_common(1)
    own = [(seconds, mib) for seconds, pid, mib in samples if pid == longest]
    picked = [own[len(own) // 10], own[len(own) // 2], own[-1]]
    said = ", ".join(f"{mib:.1f} MiB after {seconds:.0f} s" for seconds, mib in picked)
    return f"memory of {what}".ljust(26) + said
