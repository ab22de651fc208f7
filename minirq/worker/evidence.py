"""Evidence: what is put on record about a process that died, or was killed, with a job in its hands."""

from __future__ import annotations

import signal

from minirq.exceptions import DeserializationError, JobTimeoutException
from minirq.protocol import payload
from minirq.protocol.failure import Failure
from minirq.protocol.operations import Claimed, Settlement
from minirq.worker.board import Slot
from minirq.worker.injection import timeout_message
from minirq.worker.outcome import after_error, settlement
from minirq.worker.process import Death


def of_death(death: Death, ran: float | None, worker: str, *, is_deliberate: bool = False) -> Failure:
    """Say how a process ended, after how many seconds of the job, and how much memory it had used."""
    how = "was ended by its worker" if is_deliberate else str(death)
    after = "" if ran is None else f" after {ran:.1f} s of the job"
    message = f"the process {how}{after}; its peak memory was {death.peak_mib:.0f} MiB"
    if not is_deliberate and death.signal == signal.SIGKILL and death.oom_kills > 0:
        message += "; possible OOM: the kernel has killed in its control group for lack of memory meanwhile"
    return Failure("WorkerLost", message, worker=worker, kind="lost")


def of_silence() -> Failure:
    """Say that a worker stopped beating; nobody knows why."""
    return Failure("WorkerLost", "the worker that ran the job stopped beating", kind="lost")


def of_stop(worker: str) -> Failure:
    """Say that a worker was stopped: on record only where it cut off a job that must not run again."""
    return Failure("WorkerLost", "the worker was stopped", worker=worker, kind="lost")


def overdue(
    slot: Slot, raw: bytes, attempts: int, lost: int, worker: str, what: str = "was killed"
) -> Settlement | None:
    """Return what follows for a job that ignored its timeout and `what`: the end, or a retry.

    None for a payload that cannot be read: it is taken back like any other.
    """
    try:
        options = payload.decode(raw).options
    except DeserializationError:
        return None
    error = JobTimeoutException(f"{timeout_message(options.timeout)}, ignored it, and {what}")
    failure = Failure("minirq.exceptions.JobTimeoutException", str(error), "", worker, "timeout")
    claimed = Claimed(slot.queue, slot.id, raw, slot.run, attempts, lost)
    return settlement(claimed, after_error(error, failure, claimed, options))
