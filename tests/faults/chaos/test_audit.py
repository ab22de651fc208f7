"""The audit of bin/chaos: each of its rules finds what it is there for, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis as redis_py
from faults.chaos.audit import Audit
from faults.chaos.calls import ACCEPTED, REFUSED, Attempt, Call, Ledger
from faults.chaos.faults import Window
from faults.chaos.load import Second
from faults.chaos.report import Report
from faults.chaos.snapshot import Record, Snapshot
from faults.chaos.trace import Trace

from minirq import Queue

TOKEN = "high/a/1"
JOB = ("high", "a")


def accepted(token: str = TOKEN, answer: str = ACCEPTED, began: float = 9, **options: object) -> Attempt:
    kept = {"result_ttl": -1, "failure_ttl": -1, **options}
    return Attempt(Call(token, "work", 0, kept), answer, began, began + 0.1)


def finished(token: str = TOKEN, ended: float = 12) -> Record:
    return Record("finished", ended, 0, token, -1)


def audited(
    tmp_path: Path,
    trace: str,
    *calls: Attempt,
    records: dict[tuple[str, str], Record] | None = None,
    windows: tuple[Window, ...] = (),
    ended: dict[tuple[str, str], list[float]] | None = None,
) -> dict[str, list[str]]:
    """The rules that are broken."""
    (tmp_path / "trace").write_text(trace)
    ledger = Ledger(list(calls))
    ledger.ended.update(ended or {})
    report = Report()
    # places are looked at in tests of their own
    snapshot = Snapshot(records={JOB: finished()} if records is None else records)
    snapshot.misplaced = snapshot.leaked = list  # type: ignore[method-assign, assignment]
    Audit(ledger, Trace.read(tmp_path / "trace"), snapshot, list(windows), []).write(report)
    return {rule: cases for rule, cases in report.broken.items() if cases}


def run(number: int, started: float, ended: float | None, token: str = TOKEN, pid: int = 7) -> str:
    about = f"{pid} 1 {number} {token}"
    lines = f"start {started} {about}\n"
    return lines if ended is None else f"{lines}end {ended} {about}\n"


def test_a_job_that_ran_once_breaks_no_rule(tmp_path: Path) -> None:
    assert audited(tmp_path, run(1, 10, 11), accepted()) == {}


def test_an_accepted_job_that_never_ran_is_lost(tmp_path: Path) -> None:
    assert list(audited(tmp_path, "", accepted(), records={})) == ["lost"]
    # a run that ended before the call is no answer to it
    assert list(audited(tmp_path, run(1, 1, 2, "high/a/0"), accepted(), records={})) == ["lost"]


def test_a_job_that_has_run_and_left_no_record_is_lost(tmp_path: Path) -> None:
    assert list(audited(tmp_path, run(1, 10, None), accepted(), records={})) == ["lost"]
    assert audited(tmp_path, run(1, 10, None), accepted(failure_ttl=1), records={}) == {}


def test_who_canceled_a_job_before_the_call_has_not_ended_that_one(tmp_path: Path) -> None:
    assert audited(tmp_path, "", accepted(), records={}, ended={JOB: [9.5]}) == {}
    assert list(audited(tmp_path, "", accepted(), records={}, ended={JOB: [8.0]})) == ["lost"]


def test_a_refused_call_must_not_run(tmp_path: Path) -> None:
    assert list(audited(tmp_path, run(1, 10, 11), accepted(answer=REFUSED))) == ["refused, and run"]


def test_two_runs_at_once_are_seen_unless_a_fault_explains_them(tmp_path: Path) -> None:
    trace = run(1, 10, 12) + run(2, 11, 11.5, pid=8)
    assert list(audited(tmp_path, trace, accepted())) == ["overlapping"]
    frozen = Window("frozen", frozenset({7}), 10.2, 11.9)
    assert audited(tmp_path, trace, accepted(), windows=(frozen,)) == {}
    another = Window("frozen", frozenset({8}), 10.2, 11.9)
    assert list(audited(tmp_path, trace, accepted(), windows=(another,))) == ["overlapping"]
    too_early = Window("frozen", frozenset({7}), 1, 2)
    assert list(audited(tmp_path, trace, accepted(), windows=(too_early,))) == ["overlapping"]


def test_two_starts_with_one_number_are_seen(tmp_path: Path) -> None:
    assert list(audited(tmp_path, run(1, 10, 10.5) + run(1, 11, 12, pid=8), accepted())) == [
        "one run number twice"
    ]


def test_a_start_after_the_recorded_end_is_seen(tmp_path: Path) -> None:
    assert list(audited(tmp_path, run(2, 10, 11) + run(1, 13, 14), accepted())) == ["started after the end"]


def test_what_a_job_was_told_wrong_is_seen(tmp_path: Path) -> None:
    assert list(audited(tmp_path, run(1, 10, 11) + "wrong it is b\n", accepted())) == ["told wrong"]


def test_more_script_calls_than_jobs_explain_are_too_many() -> None:
    assert not Second(calls=700, lines=200, began=0).is_too_much
    assert Second(calls=1500, lines=200, began=0).is_too_much


# --- places and keys, on a real server ------------------------------------------------------------


@pytest.fixture
def queue(redis: redis_py.Redis) -> Queue:
    queue = Queue(connection=redis)
    queue.enqueue("jobs.add", 1, 2, job_id="a")
    queue.enqueue_in(60, "jobs.add", 1, 2, job_id="b")
    return queue


def test_a_job_in_its_place_is_in_order(redis: redis_py.Redis, queue: Queue) -> None:
    snapshot = Snapshot.of(redis)
    assert (snapshot.misplaced(), snapshot.leaked(), snapshot.left()) == ([], [], 2)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda redis: redis.lpush("minirq:{default}:queue", redis.lindex("minirq:{default}:queue", 0)),
        lambda redis: redis.delete("minirq:{default}:queue"),
        lambda redis: redis.zadd("minirq:{default}:failed", {"a": "inf"}),
        lambda redis: redis.delete("minirq:{default}:payload:b"),
        lambda redis: redis.zrem("minirq:{default}:scheduled", "b"),
        lambda redis: redis.hset("minirq:{default}:job:a", "status", "started"),
    ],
    ids=["twice in the list", "in no place", "in an index too", "no payload", "no entry", "another status"],
)
def test_a_job_in_two_places_or_in_none_is_seen(redis: redis_py.Redis, queue: Queue, spoil: object) -> None:
    spoil(redis)  # type: ignore[operator]
    assert len(Snapshot.of(redis).misplaced()) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda redis: redis.set("minirq:{default}:payload:gone", "x"),
        lambda redis: redis.rpush("minirq:{default}:errors:gone", "x"),
        lambda redis: redis.set("minirq:{default}:something", "x"),
        lambda redis: redis.set("minirq:something", "x"),
        lambda redis: redis.srem("minirq:queues", "default"),
        lambda redis: redis.hset("minirq:{default}:job:c", mapping={"status": "failed", "ended_ms": 5}),
    ],
    ids=["payload", "errors", "of a queue", "of all", "no queue", "no TTL"],
)
def test_a_key_without_a_ttl_or_an_owner_is_seen(redis: redis_py.Redis, queue: Queue, spoil: object) -> None:
    spoil(redis)  # type: ignore[operator]
    assert len(Snapshot.of(redis).leaked()) == 1
