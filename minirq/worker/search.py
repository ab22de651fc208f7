"""The search for owners that hold jobs and that no index knows: a step at a time through all keys.

The index may be lost while processing lists are not. Who is met gets a lease: one that lives renews it, and
a sweep takes back what the others hold. It knows nothing of beats and sweeps.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from typing import Any

from minirq.connection.sender import Sender
from minirq.protocol import reads
from minirq.protocol.keys import Keys
from minirq.text import safe_text

logger = logging.getLogger(__name__)

#: so many keys a step, with this pause: a step takes the server 2 ms
COUNT = 2000
PAUSE = 0.5


class Search:
    """Where the search is. `lease` is what an owner is given that is met, seconds."""

    def __init__(self, sender: Sender, keys: Keys, lease: float) -> None:
        self._sender = sender
        self._keys = keys
        self._lease = lease
        self._cursor = 0

    def step(self, known: Container[str], *, now_ms: float) -> float | None:
        """Look at the next keys; `known` owners are no news. Return the pause until more, None at the end."""
        self._cursor, met = self._sender.send(reads.scan_owners(self._keys, self._cursor, COUNT))
        self._list([(queue, owner) for queue, owner in met if owner not in known], now_ms)
        return PAUSE if self._cursor else None

    def _list(self, met: list[tuple[str, str]], now_ms: float) -> None:
        end_ms = int(now_ms + self._lease * 1000)
        calls: list[Any] = [reads.list_owner(self._keys.of(queue), owner, end_ms) for queue, owner in met]
        for (queue, owner), reply in zip(met, self._sender.send_each(calls), strict=True):
            if reply == 1:
                logger.warning(
                    "queue %s: %s holds jobs and was not known", safe_text(queue), safe_text(owner)
                )
                self._sender.send(reads.know_queues(self._keys, [queue]))
                self._sender.send(reads.maintain_from(self._keys, [queue], int(now_ms), is_new=True))
