"""Shared memory in which a child shows its supervisor which jobs it runs.

There is a slot for each job that may run at once: run, id, queue, start, deadline. Blame, timeouts, stop
requests, the evidence of a death and `minirq info` come from it; no other part knows which jobs ran when a
process died. Times are monotonic, which all processes of a host share. The child writes and the supervisor
reads; only stop requests go the other way: one for the child, and one for each slot, which names a run.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minirq.protocol.defaults import MAX_ID_BYTES

STARTING, WAITING, BUSY = 0, 1, 2
#: jobs of a worker that are shown to people at once
MOST_SHOWN = 100

# state, flags (stop, wait, failing), slots ever used, jobs done and failed; then the columns: sequences, stop
# requests (the sequence that they are for), deadlines, and the rest of each slot
_STATE, _STOP, _WAIT, _FAILING = 0, 1, 2, 3
_USED = struct.Struct("<I")
_USED_AT = 4
_COUNTS = struct.Struct("<QQ")
_COUNTS_AT = 8
_COLUMNS_AT = 32
_SLOT = struct.Struct(f"<QdHH{MAX_ID_BYTES}s")
_STARTED, _STARTED_AT = struct.Struct("<d"), 8
_READ_TRIES = 1000
#: in place of a deadline: nothing has run in this slot; the run has ended, and its outcome may not have been
#: sent; the run has no deadline
_UNUSED, _ENDED, _NO_DEADLINE = 0.0, -1.0, float("inf")


@dataclass(frozen=True, slots=True)
class Slot:
    """A job that runs, or ran last. `deadline` is 0 without a timeout; `sequence` tells runs apart."""

    id: str
    run: int
    queue: int
    started: float
    deadline: float
    number: int
    sequence: int


class Scoreboard:
    """The shared memory of one child. Made before the fork, so both sides have it."""

    def __init__(self, slots: int = 1) -> None:
        words = _COLUMNS_AT + slots * 8
        self._slots_at = words + slots * 16
        self._memory = mmap.mmap(-1, self._slots_at + slots * _SLOT.size)
        self._view = memoryview(self._memory)
        self._sequences = self._view[_COLUMNS_AT:words].cast("Q")
        self._requests = self._view[words : words + slots * 8].cast("Q")
        self._deadlines = self._view[words + slots * 8 : self._slots_at].cast("d")
        self._used = 0
        self._done = self._failed = 0
        self._unanswered_until = 0.0

    # --- the child's side ---------------------------------------------------------------------

    def set_state(self, state: int) -> None:
        """Show whether the child waits for work. A waiting child can be killed without harm."""
        self._memory[_STATE] = state

    def set_failing(self, is_failing: bool) -> None:
        """Show whether Redis answers the child with errors."""
        self._memory[_FAILING] = is_failing

    def wait_begins(self) -> None:
        """Show that from now on the server may move a job to this child without another request."""
        self._memory[_WAIT] = 1

    def wait_ends(self, unanswered_for: float = 0.0) -> None:
        """Show that the server has answered; or that it has not, and may still act for so many seconds."""
        now = time.monotonic()
        self._unanswered_until = max(self._unanswered_until, now + unanswered_for)
        self._memory[_WAIT] = now < self._unanswered_until

    def start(
        self, job_id: str, run: int, queue: int, started: float, deadline: float, number: int = 0
    ) -> None:
        """Show the job that is read, and then runs, in a slot from now on; a `deadline` of 0 is none."""
        raw = job_id.encode("utf-8", "surrogateescape")
        # an odd sequence number: the slot is being written
        sequence = self._sequences[number] + 1
        self._sequences[number] = sequence
        at = self._slots_at + number * _SLOT.size
        _SLOT.pack_into(self._memory, at, run, started, queue, len(raw), raw)
        self._deadlines[number] = deadline or _NO_DEADLINE
        self._sequences[number] = sequence + 1
        if number >= self._used:
            self._used = number + 1
            _USED.pack_into(self._memory, _USED_AT, self._used)

    def hold(self, number: int = 0) -> None:
        """Show that the job in a slot was read and has not begun: it is neither timed nor blamed."""
        self._deadlines[number] = _UNUSED

    def begin(self, started: float, deadline: float, number: int = 0) -> None:
        """Show that the job that was read begins; a `deadline` of 0 is none."""
        _STARTED.pack_into(self._memory, self._slots_at + number * _SLOT.size + _STARTED_AT, started)
        self._deadlines[number] = deadline or _NO_DEADLINE

    def end(self, *, failed: bool, number: int = 0) -> None:
        """Show that nothing runs in a slot any more, and count the run."""
        self._deadlines[number] = _ENDED
        self._done += 1
        self._failed += failed
        _COUNTS.pack_into(self._memory, _COUNTS_AT, self._done, self._failed)

    def is_run_asked_to_stop(self, number: int = 0) -> bool:
        """Whether the run in this slot is asked to stop, and not one before it."""
        return self._requests[number] == self._sequences[number] != 0

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether the child is asked to end after its running jobs."""
        return self._memory[_STOP] == 1

    # --- the supervisor's side ----------------------------------------------------------------

    def ask_to_stop(self) -> None:
        """Ask the child to end after its running jobs."""
        self._memory[_STOP] = 1

    def ask_run_to_stop(self, slot: Slot) -> None:
        """Ask this run, and no later one, to stop. A signal has to make the child look."""
        self._requests[slot.number] = slot.sequence

    @property
    def state(self) -> int:
        """STARTING, WAITING or BUSY."""
        return self._memory[_STATE]

    @property
    def is_failing(self) -> bool:
        """Whether Redis answers the child with errors."""
        return self._memory[_FAILING] == 1

    @property
    def may_be_served(self) -> bool:
        """Whether a wait has begun that the server has not answered."""
        return self._memory[_WAIT] == 1

    @property
    def counts(self) -> tuple[int, int]:
        """Jobs done, and how many of them failed."""
        done, failed = _COUNTS.unpack_from(self._memory, _COUNTS_AT)
        return int(done), int(failed)

    @property
    def next_deadline(self) -> float:
        """The earliest deadline of the running jobs; infinite without any."""
        return min((d for d in self._deadlines[: self._slots_used] if d > 0), default=_NO_DEADLINE)

    def running(self) -> list[Slot]:
        """The jobs that run."""
        return [slot for slot in self._read() if slot.deadline != _ENDED]

    def find(self, queue: int, job_id: str, run: int, numbers: range) -> Slot | None:
        """Return the slot, one of these, in which a run is under way."""
        for number in numbers[: max(self._slots_used - numbers.start, 0)]:
            slot = self._slot(number)
            if slot and (slot.queue, slot.id, slot.run) == (queue, job_id, run) and slot.deadline != _ENDED:
                return slot
        return None

    def latest(self) -> list[Slot]:
        """The job that runs or ran last in each slot. One that has ended may not have been settled."""
        return list(self._read())

    def is_current(self, slot: Slot) -> bool:
        """Whether this run is still under way."""
        number = slot.number
        return self._sequences[number] == slot.sequence and self._deadlines[number] != _ENDED

    def overdue(self, before: float) -> list[Slot]:
        """The runs whose deadline is not later than that."""
        late = [n for n, d in enumerate(self._deadlines[: self._slots_used]) if 0 < d <= before]
        return [slot for n in late if (slot := self._slot(n)) and 0 < slot.deadline <= before]

    @property
    def _slots_used(self) -> int:
        return int(_USED.unpack_from(self._memory, _USED_AT)[0])

    def _read(self) -> Iterator[Slot]:
        for number in range(self._slots_used):
            slot = self._slot(number)
            if slot is not None:
                yield slot

    def _slot(self, number: int) -> Slot | None:
        at = self._slots_at + number * _SLOT.size
        for _ in range(_READ_TRIES):
            before = self._sequences[number]
            run, started, queue, length, raw = _SLOT.unpack_from(self._memory, at)
            deadline = self._deadlines[number]
            if before == self._sequences[number] and before % 2 == 0:
                break
        if deadline == _UNUSED:
            return None
        job_id = raw[:length].decode("utf-8", "surrogateescape")
        return Slot(
            job_id, run, queue, started, 0.0 if deadline == _NO_DEADLINE else deadline, number, before
        )

    def close(self) -> None:
        """Give the memory back."""
        for view in (self._sequences, self._requests, self._deadlines, self._view):
            view.release()
        self._memory.close()


def busiest(slots: Sequence[Slot], queues: Sequence[str]) -> list[list[Any]]:
    """Return id, queue and seconds of running jobs for people, the longest first."""
    now = time.monotonic()
    longest = sorted(slots, key=lambda slot: slot.started)[:MOST_SHOWN]
    return [[slot.id, queues[slot.queue], round(now - slot.started, 3)] for slot in longest]
