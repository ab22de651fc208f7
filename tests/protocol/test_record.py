"""Records: a job's hash read into types, whatever it holds."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage import Stage

from minirq.protocol import queries, record
from minirq.protocol.record import Failure, JobStatus, read_record


def test_a_hash_without_a_status_is_no_record() -> None:
    assert read_record({}) is None
    assert read_record({b"func": b"f"}) is None


def test_a_job_that_has_run_is_read_from_redis(stage: Stage) -> None:
    stage.enqueue("x", fields={"func": "app.function"})
    stage.claim("a")
    stage.settle("a", "x", 1, blob=b"42")
    record = stage.send(queries.record(stage.keys, "x"))
    assert record.status is JobStatus.FINISHED
    assert record.has_ended
    assert (record.function, record.result, record.owner) == ("app.function", b"42", "a")
    assert (record.run, record.attempts, record.lost) == (1, 1, 0)
    assert record.created_at <= record.started_at <= record.ended_at
    assert record.enqueued_at == record.created_at
    assert record.created_at.tzinfo is UTC
    assert stage.send(queries.record(stage.keys, "nobody")) is None


def test_a_delayed_job_has_not_been_enqueued_yet(stage: Stage) -> None:
    stage.enqueue("x", place="delay", ms=60_000)
    record = stage.send(queries.record(stage.keys, "x"))
    assert record.enqueued_at is None
    stage.make_due("x")
    stage.promote()
    record = stage.send(queries.record(stage.keys, "x"))
    assert record.enqueued_at >= record.created_at


def test_past_its_ttl_a_waiting_job_is_shown_as_expired() -> None:
    record = read_record({b"status": b"queued", b"expires_ms": b"5000"})
    assert record is not None
    assert record.seen_at(4999).status == JobStatus.QUEUED
    assert record.seen_at(5000).status == JobStatus.EXPIRED


def test_past_its_ttl_a_started_job_is_shown_as_started() -> None:
    record = read_record({b"status": b"started", b"expires_ms": b"5000"})
    assert record is not None
    assert record.seen_at(6000).status == JobStatus.STARTED


def test_a_status_of_a_newer_version_is_shown_as_it_is() -> None:
    record = read_record({b"status": b"levitating"})
    assert record is not None
    assert record.status == "levitating"
    assert not record.has_ended


@settings(max_examples=200, database=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [b"created_ms", b"ended_ms", b"expires_ms", b"run", b"attempts", b"lost", b"owner", b"func"]
        ),
        st.binary(max_size=30) | st.integers().map(lambda number: b"%d" % number),
    )
)
def test_a_damaged_hash_is_readable(fields: dict[bytes, bytes]) -> None:
    record = read_record({b"status": b"queued", **fields})
    assert record is not None
    record.seen_at(0)


def test_a_failure_comes_back_with_its_time() -> None:
    written = Failure("ValueError", "no", "Traceback", "worker", "timeout")
    read = record.read_failure(b"1000 " + written.encode())
    assert read.at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert (read.summary, read.traceback, read.worker, read.kind) == (
        "ValueError: no", "Traceback", "worker", "timeout",
    )  # fmt: skip


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"x", b"12 \xc1", b"\xff\xff 12", b"99999999999999999999 " + Failure("E", "").encode()),
        b"12 " + Failure("E" * 2**20, "").encode(),
    ],
    ids=range(6),
)
def test_an_unreadable_failure_does_not_hide_the_job(raw: bytes) -> None:
    assert record.read_failure(raw).exc_type == "Unreadable"


def test_long_texts_are_cut_in_the_middle() -> None:
    cut = record.read_failure(b"1 " + Failure("E", "m" * 5000, "h" + "t" * 50_000 + "e").encode())
    assert len(cut.message) < 2100
    assert len(cut.traceback) < 17_000
    assert (cut.traceback[0], cut.traceback[-1]) == ("h", "e")
    assert "left out" in cut.traceback
