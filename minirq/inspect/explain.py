"""Why a job does not run: what is known of it is read, and said in plain sentences with what to do.

Reading takes few round trips (and a search while the job waits) and changes nothing. `reasons` decides
from the facts alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from minirq.client.store import Store
from minirq.durations import span
from minirq.exceptions import NoSuchJobError
from minirq.inspect.overview import LATE_BEAT, QueueView, WorkerView, overview
from minirq.protocol import queries
from minirq.protocol.record import ENDED, Failure, JobStatus, Record
from minirq.text import counted, safe_text, shell_word

__all__ = ["Explanation", "Reason", "explain"]

#: a job that is due is moved within this, if there is any worker, seconds
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
    """A job, its status, and why it does not run; the reason that comes first in front."""

    id: str
    queue: str
    status: str
    func: str
    reasons: tuple[Reason, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a job at `now`. Unless its status says that there is one, a field is None or empty.

    `workers` serve its queue. `position` is its place in the queue, 0 runs next. `due_at` is when it is to
    run. `lease_end` is when the lease of the owner that runs it ends, in ms of Redis' time, negative after
    its burial.
    `is_being_cleared`: its payload has not been found in the queue since it was canceled.
    """

    id: str
    record: Record
    now: datetime
    queue: QueueView
    workers: tuple[WorkerView, ...]
    position: int | None = None
    due_at: datetime | None = None
    lease_end: float | None = None
    is_being_cleared: bool = False
    errors: tuple[Failure, ...] = ()


def explain(store: Store, job_id: str) -> Explanation:
    """Say why a job does not run. Raises NoSuchJobError."""
    sight = look(store, job_id)
    return Explanation(
        job_id, sight.queue.name, str(sight.record.status), sight.record.function, tuple(reasons(sight))
    )


def look(store: Store, job_id: str) -> Sight:
    """Read what `reasons` decides on. Raises NoSuchJobError."""
    [found] = store.sender.run(queries.find(store.keys, [job_id]))
    if found is None:
        raise NoSuchJobError(
            f"no job has the id {safe_text(job_id)!r}: it never existed, or its record has expired"
        )
    keys, record = store.keys.of(found.queue), found.record
    waiting = store.sender.run(queries.locate(keys, job_id)) if record.status == JobStatus.QUEUED else None
    calls: list[Any] = [
        queries.server_time(),
        queries.index_score(keys, str(record.status), job_id),
        queries.lease_end(keys, record.owner),
        queries.kept_ms(keys, job_id),
        queries.errors(keys, job_id),
    ]
    now_ms, score, lease_end, kept_ms, errors = store.sender.send_all(calls)
    seen = overview(store, [found.queue])
    return Sight(
        id=job_id,
        record=record,
        now=datetime.fromtimestamp(now_ms / 1000, UTC),
        queue=seen.queues[0],
        workers=tuple(worker for worker in seen.workers if worker.serves(found.queue)),
        position=waiting.position if waiting else None,
        due_at=_time(score) if record.status == JobStatus.SCHEDULED else None,
        lease_end=lease_end if record.status == JobStatus.STARTED else None,
        is_being_cleared=record.status == JobStatus.CANCELED and score is None and kept_ms == -1,
        errors=tuple(errors),
    )


def reasons(sight: Sight) -> Iterator[Reason]:
    """Say what keeps the job from running, the first obstacle first."""
    match sight.record.status:
        case JobStatus.QUEUED:
            yield from _queued(sight)
        case JobStatus.SCHEDULED:
            yield from _scheduled(sight)
        case JobStatus.STARTED:
            yield from _started(sight)
        case JobStatus.DEFERRED:
            yield Reason("deferred", "It waits for other jobs.")
        case status if status in ENDED:
            yield _ended(sight)
        case "unknown":
            yield Reason(
                "set-aside",
                "One of its keys could not be read, so it was set aside.",
                f"Mend the key that the log of the workers names, then: minirq requeue {_job_word(sight)}",
            )
        case status:
            yield Reason(
                "unknown-status",
                f"Its status {safe_text(str(status))!r} was written by a newer minirq.",
                "Look at it with that version.",
            )


# --- jobs that wait ---------------------------------------------------------------------------


def _queued(sight: Sight) -> Iterator[Reason]:
    yield from _obstacles(sight)
    if sight.record.lost:
        yield Reason(
            "alone",
            f"It ran when {counted(sight.record.lost, 'process', 'processes')} died, so it does not run"
            " beside others: a busy process skips it for at most 10 s, then takes nothing until it is free.",
        )
    if sight.position is None:
        yield Reason(
            "moving",
            "It is not in the waiting list: a worker takes it just now, or somebody has removed it by hand.",
            "Look again; if it stays so, run: minirq doctor",
        )
    elif sight.workers and not sight.queue.is_paused:
        yield _place(sight, sight.position)


def _place(sight: Sight, position: int) -> Reason:
    processes = sum(len(worker.processes) for worker in sight.workers)
    places = sum(worker.places for worker in sight.workers)
    busy = sum(worker.running for worker in sight.workers)
    serving = f"{counted(processes, 'process serves', 'processes serve')} the queue"
    serving += (
        f", {busy:,} of them busy." if places == processes else f", {busy:,} of {places:,} places busy."
    )
    others = {name for worker in sight.workers for name in _served_before(worker, sight.queue.name)}
    if others:
        serving += f" {', '.join(safe_text(name) for name in sorted(others))} may be served first."
    if position == 0:
        return Reason("next", f"It runs next. {serving}", "Wait.")
    more = f"Wait, or start another worker: minirq worker {_queue_word(sight)}"
    return Reason("behind", f"{counted(position, 'job runs', 'jobs run')} before it. {serving}", more)


def _scheduled(sight: Sight) -> Iterator[Reason]:
    record, due_at = sight.record, sight.due_at or sight.now
    wait = (due_at - sight.now).total_seconds()
    when = f"in {span(wait)}" if wait > 0 else "now"
    if record.missed_at:
        yield Reason(
            "missed",
            f"No worker that took it knew or allowed its function {safe_text(record.function)}, for"
            f" {span((sight.now - record.missed_at).total_seconds())} now. It is tried again {when},"
            " and fails after a minute. The log of the workers says which it was.",
            "Deploy the function, or start a worker where it can be imported, with --allow if installed:"
            f" minirq worker --path DIRECTORY {_queue_word(sight)}",
        )
    elif sight.errors and sight.errors[0].kind == "lost":
        yield Reason(
            "pause", f"Its process has died {record.lost:,} times, so it pauses. It runs again {when}."
        )
    elif record.attempts:
        failure = f" The last error: {safe_text(sight.errors[0].summary)}" if sight.errors else ""
        yield Reason("retry", f"Attempt {record.attempts:,} failed, and it is tried again {when}.{failure}")
    else:
        yield Reason("delayed", f"It was enqueued with a delay, and is due {when}.")
    if wait < -_PROMOTED_WITHIN:
        yield Reason(
            "late",
            f"It was due {span(-wait)} ago: no worker has moved it into the queue.",
            "Start a worker, or read the log of the one that runs.",
        )
    yield from _obstacles(sight)


def _obstacles(sight: Sight) -> Iterator[Reason]:
    """What keeps every job of the queue from running."""
    queue = sight.queue
    if queue.is_paused:
        until = queue.paused_until
        end = f"until {until.astimezone():%Y-%m-%d %H:%M:%S}" if until else "until it is resumed"
        yield Reason(
            "paused", f"Its queue is suspended {end}.", f"Go on with: minirq resume {_queue_word(sight)}"
        )
    if not sight.workers:
        yield Reason(
            "no-worker",
            "No worker serves its queue.",
            f"Start one: minirq worker {_queue_word(sight)}",
        )
    elif all(worker.silence(sight.now) >= LATE_BEAT for worker in sight.workers):
        least = min(worker.silence(sight.now) for worker in sight.workers)
        yield Reason(
            "late-workers",
            f"Its workers have not been heard of for {span(least)}: they may be dead or cut off from Redis.",
            f"See them with: minirq info {_queue_word(sight)}",
        )


# --- jobs that run or have ended --------------------------------------------------------------


def _started(sight: Sight) -> Iterator[Reason]:
    record = sight.record
    worker = safe_text(record.owner.rsplit(":", 2)[0] or "unknown")
    ran = span((sight.now - record.started_at).total_seconds()) if record.started_at else "some time"
    lease_end, now_ms = sight.lease_end, sight.now.timestamp() * 1000
    others = "" if sight.workers else f"Start a worker: minirq worker {_queue_word(sight)}"
    if lease_end is None or lease_end < 0:
        yield Reason(
            "dead",
            f"The process of worker {worker} that ran it is dead. It is about to be taken back.",
            others or "Wait a minute; if it stays so, run: minirq doctor",
        )
    elif lease_end <= now_ms:
        yield Reason(
            "frozen",
            f"Worker {worker} runs it and has not been heard of: its lease ran out"
            f" {span((now_ms - lease_end) / 1000)} ago. It is dead, frozen or cut off from Redis,"
            " and another worker takes the job back.",
            others or "Wait; the job runs again.",
        )
    elif record.is_asked_to_stop:
        yield Reason(
            "canceled-running",
            f"It has been running on worker {worker} for {ran} and was canceled: it is interrupted, and"
            " killed if it goes on.",
            "Wait.",
        )
    else:
        yield Reason("running", f"It has been running on worker {worker} for {ran}.", "Nothing to do.")


def _ended(sight: Sight) -> Reason:
    again = f"Run it again: minirq requeue {_job_word(sight)}"
    ago = f" {span((sight.now - sight.record.ended_at).total_seconds())} ago" if sight.record.ended_at else ""
    match sight.record.status:
        case JobStatus.FINISHED:
            return Reason(
                "finished", f"It has run, and finished{ago}.", f"See it: minirq job {_job_word(sight)}"
            )
        case JobStatus.FAILED:
            return _failed(sight, ago, again)
        case JobStatus.CANCELED if sight.is_being_cleared:
            return Reason(
                "clearing",
                f"It was canceled{ago} while it waited. A worker that meets it in the queue clears it away.",
            )
        case JobStatus.EXPIRED:
            return Reason("expired", "No worker took it within its ttl, so it has expired.", again)
        case JobStatus.STOPPED:
            return Reason("stopped", f"It was stopped{ago} while it ran.", again)
    return Reason("canceled", f"It was canceled{ago}.", again)


def _failed(sight: Sight, ago: str, again: str) -> Reason:
    last = sight.errors[0] if sight.errors else Failure("no error is on record", "")
    text = f"It failed{ago}: {safe_text(last.summary, 500)}"
    if last.exc_type == _UNKNOWN_FUNCTION:
        return Reason("unknown-function", text, f"Deploy the function. {again}")
    return Reason(
        "failed",
        text,
        f"See the traceback: minirq job {_job_word(sight)}; run it again: minirq requeue {_job_word(sight)}",
    )


def _served_before(worker: WorkerView, queue: str) -> tuple[str, ...]:
    return worker.queues[: worker.queues.index(queue)] if queue in worker.queues else ()


def _queue_word(sight: Sight) -> str:
    return shell_word(sight.queue.name, "QUEUE")


def _job_word(sight: Sight) -> str:
    return shell_word(sight.id, "ID")


def _time(ms: float | None) -> datetime | None:
    try:
        return None if ms is None else datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
    except OverflowError:
        return None
