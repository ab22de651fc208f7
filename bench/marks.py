"""Marks: what jobs note down of themselves, in files that the processes share by mmap.

Each process that runs jobs has a board of its own, so that nothing is locked. A mark costs about a fifth
of a microsecond and no system call; whoever measures reads all boards. The first job of each process waits
for the gate, which opens when all processes have begun one: starting up is not part of what is measured.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER_VARIABLE = "BENCH_MARKS"
SLOTS = 16_384
# the words of a board: jobs counted, when the first of them began, when the last was counted
_COUNT, _FIRST, _LAST, _HEAD = 0, 1, 2, 8
_SIZE = (_HEAD + SLOTS) * 8
_GATE = "gate"

_board: memoryview | None = None
_opening = threading.Lock()


def count() -> None:
    """Count a job."""
    board = _board or _open()
    # no call in this line, so no thread is switched to within it
    board[_COUNT] += 1
    board[_LAST] = time.monotonic_ns()


def note(*values: int) -> None:
    """Count a job and keep a value or a few of it."""
    board = _board or _open()
    index = board[_COUNT]
    board[_COUNT] = index + 1
    board[_LAST] = time.monotonic_ns()
    at = _HEAD + index * len(values)
    for value in values:
        if at < _HEAD + SLOTS:
            board[at] = value
        at += 1


def tally(slot: int) -> None:
    """Add one to a slot."""
    board = _board or _open()
    board[_HEAD + slot] += 1


def warm() -> None:
    """Open this process' board and wait for the gate, so that what is timed next is the job alone."""
    _board or _open()


def _forget() -> None:
    global _board, _opening
    _board, _opening = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def _open() -> memoryview:
    global _board
    with _opening:
        if _board is None:
            _board = _made()
    return _board


def _made() -> memoryview:
    folder = Path(os.environ[FOLDER_VARIABLE])
    path = folder / f"{os.getpid()}.board"
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.truncate(_SIZE)
        board = memoryview(mmap.mmap(file.fileno(), _SIZE)).cast("Q")
        board[_FIRST] = time.monotonic_ns()
        # visible only once it is whole
        Path(file.name).rename(path)
    while not (folder / _GATE).exists():
        time.sleep(0.001)
    return board


class Marks:
    """The boards of one measurement, as whoever measures sees them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._boards: dict[str, memoryview] = {}
        self.opened_ns = 0

    def open_gate(self) -> None:
        self.opened_ns = time.monotonic_ns()
        (self.folder / _GATE).touch()

    def boards(self) -> list[memoryview]:
        """The boards there are by now."""
        for path in self.folder.glob("*.board"):
            if path.name not in self._boards:
                with path.open("rb") as file:
                    mapped = mmap.mmap(file.fileno(), _SIZE, prot=mmap.PROT_READ)
                    self._boards[path.name] = memoryview(mapped).cast("Q")
        return list(self._boards.values())

    def counted(self) -> int:
        return sum(board[_COUNT] for board in self.boards())

    def first_ns(self) -> int:
        return min(board[_FIRST] for board in self.boards())

    def last_ns(self) -> int:
        return max(board[_LAST] for board in self.boards())

    def notes(self) -> list[int]:
        """All values noted, one a job."""
        return [value for board in self.boards() for value in _signed(board, board[_COUNT])]

    def pairs(self) -> Iterator[list[tuple[int, int]]]:
        """The pairs noted, by process."""
        for board in self.boards():
            values = _signed(board, 2 * board[_COUNT])
            yield list(zip(values[::2], values[1::2], strict=True))

    def tallies(self, slots: range) -> list[int]:
        """What was added up in slots, over all processes."""
        return [sum(board[_HEAD + slot] for board in self.boards()) for slot in slots]


def _signed(board: memoryview, values: int) -> list[int]:
    return board[_HEAD : _HEAD + min(values, SLOTS)].cast("B").cast("q").tolist()
