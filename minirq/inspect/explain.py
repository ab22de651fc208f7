"""Why does a job not run? What is known of it, turned into plain sentences that say what to do.

`reasons` decides from what was read, and reads nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from minirq.client.store import Store
from minirq.durations import span
from minirq.inspect.job_report import JobReport, report
from minirq.inspect.overview import LATE_BEAT, QueueView, WorkerView, overview
from minirq.protocol.record import ENDED, Failure, JobStatus, Record
from minirq.text import counted, safe_text, shell_word

__all__ = ["Explanation", "Reason", "explain"]

#: while any worker runs, jobs that are due are moved to the queue within this, seconds
_PROMOTED_WITHIN = 15.0
_UNKNOWN_FUNCTION = "minirq.exceptions.FunctionNotFound"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that keeps a job from running. `code` is for programs; `advice` may be empty."""

    code: str
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A job, its status, and the reasons why it does not run, the first obstacle first."""

    id: str
    queue: str
    status: str
    func: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Situation:
    """A job, its queue, and the workers that serve it."""

    job: JobReport
    queue: QueueView
    workers: tuple[WorkerView, ...]

    @property
    def record(self) -> Record:
        """What the job's hash says."""
        return self.job.record

    @property
    def job_word(self) -> str:
        """The job's id for a command line."""
        return shell_word(self.job.job.id, "ID")

    @property
    def queue_word(self) -> str:
        """The queue's name for a command line."""
        return shell_word(self.queue.name, "QUEUE")

    def age(self, when: datetime) -> str:
        """How long ago that was."""
        return span((self.job.now - when).total_seconds())


def explain(store: Store, job_id: str) -> Explanation:
    """Say why a job does not run. Raises NoSuchJobError."""
    job = report(store, job_id)
    seen = overview(store, [job.job.origin])
    [queue] = seen.queues
    workers = tuple(worker for worker in seen.workers if worker.serves(queue.name))
    found = tuple(reasons(Situation(job, queue, workers)))
    return Explanation(job_id, queue.name, str(job.record.status), job.record.function, found)


def reasons(seen: Situation) -> Iterator[Reason]:
    """Say what keeps the job from running, the first obstacle first."""
    match seen.record.status:
        case JobStatus.QUEUED:
            yield from _queued(seen)
        case JobStatus.SCHEDULED:
            yield from _scheduled(seen)
        case JobStatus.STARTED:
            yield _started(seen)
        case JobStatus.DEFERRED:
            yield Reason("deferred", "It waits for other jobs.")
        case status if status in ENDED:
            yield _ended(seen)
        case "unknown":
            yield Reason(
                "set-aside",
                "One of its keys could not be read, so it was set aside.",
                f"Repair the key that the workers' log names, then: minirq requeue {seen.job_word}",
            )
        case status:
            text = f"Its status {safe_text(str(status))!r} was written by a newer minirq."
            yield Reason("unknown-status", text, "Look at it with that version.")


# --- waiting jobs -----------------------------------------------------------------------------


def _queued(seen: Situation) -> Iterator[Reason]:
    yield from _obstacles(seen)
    if seen.record.lost:
        yield Reason(
            "alone",
            f"It was running when {counted(seen.record.lost, 'process', 'processes')} died, so it now runs"
            " alone: a busy process skips it for at most 10 s, then takes nothing else until it is free.",
        )
    position = seen.job.position
    if position is None:
        yield Reason(
            "moving",
            "It is not in the waiting list: a worker is just taking it, or somebody removed it by hand.",
            "Look again; if nothing changes, run: minirq doctor",
        )
    elif seen.workers and not seen.queue.is_paused:
        serving = _serving(seen)
        if position == 0:
            yield Reason("next", f"It runs next. {serving}", "Wait.")
        else:
            text = f"{counted(position, 'job runs', 'jobs run')} before it. {serving}"
            advice = f"Wait, or start another worker: minirq worker {seen.queue_word}"
            yield Reason("behind", text, advice)


def _serving(seen: Situation) -> str:
    """How many processes serve the queue, how busy they are, and which queues come first."""
    processes = sum(len(worker.processes) for worker in seen.workers)
    places = sum(worker.places for worker in seen.workers)
    busy = sum(worker.running for worker in seen.workers)
    of = "of them" if places == processes else f"of {places:,} places"
    text = f"{counted(processes, 'process serves', 'processes serve')} the queue, {busy:,} {of} busy."
    name = seen.queue.name
    others = {first for worker in seen.workers for first in worker.queues[: worker.queues.index(name)]}
    if others:
        text += f" {', '.join(safe_text(other) for other in sorted(others))} may be served first."
    return text


def _scheduled(seen: Situation) -> Iterator[Reason]:
    record, errors = seen.record, seen.job.errors
    wait = (seen.job.leaves_at - seen.job.now).total_seconds() if seen.job.leaves_at else 0.0
    when = f"in {span(wait)}" if wait > 0 else "now"
    if record.missed_at:
        yield Reason(
            "missed",
            f"No worker that took it could import its function {safe_text(record.function)} or was allowed to"
            f" run it, for {seen.age(record.missed_at)} now. It is tried again {when}, and fails after a"
            " minute. The workers' log says what was wrong.",
            "Deploy the function, or start a worker where it can be imported, with --allow if installed:"
            f" minirq worker --path DIRECTORY {seen.queue_word}",
        )
    elif errors and errors[0].kind == "lost":
        text = f"Its process has died {record.lost:,} times, so it pauses. It runs again {when}."
        yield Reason("pause", text)
    elif record.attempts:
        failure = f" The last error: {safe_text(errors[0].summary)}" if errors else ""
        yield Reason("retry", f"Attempt {record.attempts:,} failed, and it is tried again {when}.{failure}")
    else:
        yield Reason("delayed", f"It was enqueued with a delay, and is due {when}.")
    if wait < -_PROMOTED_WITHIN:
        text = f"It was due {span(-wait)} ago: no worker has moved it to the queue."
        yield Reason("late", text, "Start a worker, or read the log of the one that is running.")
    yield from _obstacles(seen)


def _obstacles(seen: Situation) -> Iterator[Reason]:
    """What keeps every job of the queue from running."""
    if seen.queue.is_paused:
        text = f"Its queue is suspended until {seen.queue.pause_end}."
        yield Reason("paused", text, f"To resume: minirq resume {seen.queue_word}")
    silence = [worker.silence(seen.job.now) for worker in seen.workers]
    if not silence:
        advice = f"Start one: minirq worker {seen.queue_word}"
        yield Reason("no-worker", "No worker serves its queue.", advice)
    elif min(silence) >= LATE_BEAT:
        yield Reason(
            "late-workers",
            f"Its workers have sent no heartbeat for {span(min(silence))}: they may be dead, or cut off from"
            " Redis.",
            f"Look at them: minirq info {seen.queue_word}",
        )


# --- jobs that run or have ended --------------------------------------------------------------


def _started(seen: Situation) -> Reason:
    record = seen.record
    worker = safe_text(seen.job.job.worker_name or "unknown")
    ran = seen.age(record.started_at) if record.started_at else "some time"
    end_ms, now_ms = seen.job.lease_end_ms, seen.job.now.timestamp() * 1000
    needs_worker = "" if seen.workers else f"Start a worker: minirq worker {seen.queue_word}"
    if end_ms is None or end_ms < 0:
        return Reason(
            "dead",
            f"The process of worker {worker} that ran it is dead. The job is about to be requeued.",
            needs_worker or "Wait a minute; if nothing changes, run: minirq doctor",
        )
    if end_ms <= now_ms:
        return Reason(
            "frozen",
            f"Worker {worker} runs it and has sent no heartbeat: its lease expired"
            f" {span((now_ms - end_ms) / 1000)} ago. The worker is dead, frozen or cut off from Redis, and"
            " another one takes the job over.",
            needs_worker or "Wait; the job runs again.",
        )
    text = f"It has been running on worker {worker} for {ran}"
    if record.is_asked_to_stop:
        text += " and was canceled: it is interrupted, and killed if it does not stop."
        return Reason("canceled-running", text, "Wait.")
    return Reason("running", f"{text}.", "Nothing to do.")


def _ended(seen: Situation) -> Reason:
    again = f"minirq requeue {seen.job_word}"
    ago = f" {seen.age(seen.record.ended_at)} ago" if seen.record.ended_at else ""
    match seen.record.status:
        case JobStatus.FINISHED:
            return Reason("finished", f"It ran and finished{ago}.", f"See it: minirq job {seen.job_word}")
        case JobStatus.FAILED:
            last = seen.job.errors[0] if seen.job.errors else Failure("no error is on record", "")
            text = f"It failed{ago}: {safe_text(last.summary, 500)}"
            if last.exc_type == _UNKNOWN_FUNCTION:
                return Reason("unknown-function", text, f"Deploy the function. Run it again: {again}")
            advice = f"See the traceback: minirq job {seen.job_word}; run it again: {again}"
            return Reason("failed", text, advice)
        case JobStatus.CANCELED if seen.job.is_being_cleared:
            text = f"It was canceled{ago} while it waited. The next worker removes it from the queue."
            return Reason("clearing", text)
        case JobStatus.EXPIRED:
            text = "No worker took it within its ttl, so it has expired."
            return Reason("expired", text, f"Run it again: {again}")
        case JobStatus.STOPPED:
            return Reason("stopped", f"It was stopped{ago} while it ran.", f"Run it again: {again}")
    return Reason("canceled", f"It was canceled{ago}.", f"Run it again: {again}")
