"""A round: one call for each of some queues. One whose keys are broken keeps no other waiting."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from minirq.connection.sender import Sender
from minirq.exceptions import MinirqError
from minirq.text import safe_text

logger = logging.getLogger(__name__)


class Rounds:
    """Makes rounds. What is wrong with a queue is said once, until it is well again."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._unwell: set[tuple[str, str]] = set()

    def make(self, chore: str, names: Sequence[str], calls: list[Any]) -> Iterator[tuple[str, Any]]:
        """Send a call to each queue; yield the replies of those that could answer."""
        for name, reply in zip(names, self._sender.send_each(calls), strict=True):
            place = (chore, name)
            if not isinstance(reply, MinirqError):
                self._unwell.discard(place)
                yield name, reply
            elif place not in self._unwell:
                self._unwell.add(place)
                logger.error("queue %s: %s", safe_text(name), safe_text(str(reply), 500))
