"""The board: a little memory that a child shares with its supervisor.

One slot says what runs: run, id, queue, start, deadline. From it come blame, timeouts, the evidence of a
death and `minirq info`; nobody else knows which job ran when a process died. Times are monotonic, which
all processes of a host share. The child writes, the supervisor reads; only the stop flag goes the other way.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minirq.protocol.payload import MAX_ID_BYTES

STARTING, WAITING, BUSY = 0, 1, 2

# state and stop flag, jobs done and failed, then the slot: sequence, run, start, deadline, queue, id
_STATE, _STOP = 0, 1
_COUNTS = struct.Struct("<QQ")
_COUNTS_AT = 8
_SEQUENCE = struct.Struct("<Q")
_SEQUENCE_AT = 32
_SLOT = struct.Struct(f"<QddHH{MAX_ID_BYTES}s")
_SLOT_AT = 40
_READ_TRIES = 1000
#: in place of a deadline: the run has ended, and its outcome may not have been sent
_ENDED = -1.0


@dataclass(frozen=True, slots=True)
class Slot:
    """A running job. `deadline` is 0 for a job without a timeout."""

    id: str
    run: int
    queue: int
    started: float
    deadline: float


class Board:
    """The shared memory of one child. Made before the fork, so both sides have it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._sequence = 0
        self._done = self._failed = 0
        self._slot = (0, 0.0, 0, b"")

    # --- the child's side ---------------------------------------------------------------------

    def set_state(self, state: int) -> None:
        """Say whether the child waits for work. A waiting child can be killed without harm."""
        self._memory[_STATE] = state

    def start(self, job_id: str, run: int, queue: int, started: float, deadline: float) -> None:
        """Say what runs from now on."""
        self._slot = (run, started, queue, job_id.encode("utf-8", "surrogateescape"))
        self._write(deadline)

    def _write(self, deadline: float) -> None:
        run, started, queue, raw = self._slot
        # an odd sequence number says that the slot is being written
        _SEQUENCE.pack_into(self._memory, _SEQUENCE_AT, self._sequence + 1)
        _SLOT.pack_into(self._memory, _SLOT_AT, run, started, deadline, queue, len(raw), raw)
        self._sequence += 2
        _SEQUENCE.pack_into(self._memory, _SEQUENCE_AT, self._sequence)

    def end(self, *, failed: bool) -> None:
        """Say that nothing runs any more, and count what did."""
        self._done += 1
        self._failed += failed
        _COUNTS.pack_into(self._memory, _COUNTS_AT, self._done, self._failed)
        self._write(_ENDED)

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether the child shall end after the current job."""
        return self._memory[_STOP] == 1

    # --- the supervisor's side ----------------------------------------------------------------

    def ask_to_stop(self) -> None:
        """Have the child end after the current job."""
        self._memory[_STOP] = 1

    @property
    def state(self) -> int:
        """STARTING, WAITING or BUSY."""
        return self._memory[_STATE]

    @property
    def counts(self) -> tuple[int, int]:
        """Jobs done, and how many of them failed."""
        done, failed = _COUNTS.unpack_from(self._memory, _COUNTS_AT)
        return int(done), int(failed)

    @property
    def current(self) -> Slot | None:
        """What runs, None if nothing does."""
        slot = self.latest
        return None if slot is None or slot.deadline == _ENDED else slot

    @property
    def latest(self) -> Slot | None:
        """What runs or ran last, None if nothing did. If it has ended, it may not have been settled."""
        for _ in range(_READ_TRIES):
            before = _SEQUENCE.unpack_from(self._memory, _SEQUENCE_AT)[0]
            run, started, deadline, queue, length, raw = _SLOT.unpack_from(self._memory, _SLOT_AT)
            after = _SEQUENCE.unpack_from(self._memory, _SEQUENCE_AT)[0]
            if before == after and before % 2 == 0:
                break
        if not run:
            return None
        job_id = raw[:length].decode("utf-8", "surrogateescape")
        return Slot(job_id, run, queue, started, deadline)

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()


def portrait(board: Board, queues: Sequence[str]) -> list[Any] | None:
    """What people get to see of a running job: id, queue and seconds; None while nothing runs."""
    slot = board.current
    if slot is None:
        return None
    return [slot.id, queues[slot.queue], round(time.monotonic() - slot.started, 3)]
