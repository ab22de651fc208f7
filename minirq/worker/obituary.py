"""An obituary: what the log says of a child that has died."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from minirq.text import safe_text
from minirq.worker.board import Slot
from minirq.worker.process import Death

logger = logging.getLogger(__name__)

#: jobs that are named when a process died with many
_MOST_NAMED = 5


def of_lost(pid: int, death: Death, ran: Sequence[Slot]) -> None:
    """Say that a process died by itself, while it ran these jobs."""
    if not ran:
        logger.warning("process %d %s while it ran no job", pid, death)
        return
    shown = ", ".join(safe_text(slot.id) for slot in ran[:_MOST_NAMED])
    more = f" and {len(ran) - _MOST_NAMED} more" if len(ran) > _MOST_NAMED else ""
    jobs = "jobs" if len(ran) > 1 else "job"
    logger.warning("process %d %s while it ran %s %s%s", pid, death, jobs, shown, more)


def of_unfit(pid: int, last: Slot) -> None:
    """Say that a process ended because its last job has left something behind that it could not put right."""
    logger.warning("process %d is replaced: job %s has left it unfit", pid, safe_text(last.id))
