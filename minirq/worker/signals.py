"""Signals as something that can be waited for: a descriptor, and the numbers that came."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any


class Signals:
    """Hears the named signals while it is open, and gives them back afterwards.

    Only the main thread can hear signals: elsewhere there is no descriptor and nothing comes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = [name for name in names if hasattr(signal, name)]
        self._came: list[int] = []
        self._old: dict[int, Any] = {}
        self._ends: tuple[int, int] | None = None
        self._old_fd = -1

    def open(self) -> None:
        """Begin to hear."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._ends = os.pipe()
        for end in self._ends:
            os.set_blocking(end, False)
        self._old_fd = signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
        for name in self._names:
            number = getattr(signal, name)
            self._old[number] = signal.signal(number, lambda received, frame: self._came.append(received))

    @property
    def fd(self) -> int | None:
        """A descriptor that becomes readable when a signal comes."""
        return self._ends[0] if self._ends else None

    def taken(self) -> list[int]:
        """Return the numbers that came since the last call."""
        if self._ends:
            with suppress(BlockingIOError):
                os.read(self._ends[0], 4096)
        came = list(self._came)
        del self._came[: len(came)]
        return came

    def close(self) -> None:
        """Give the signals back."""
        if self._ends is None:
            return
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        for end in self._ends:
            os.close(end)
        self._ends = None
