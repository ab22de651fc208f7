"""Settling: each run once, by the owner that holds it, and whoever waits is told."""

from __future__ import annotations

import pytest
from stage import ERROR, Stage, ids, payload, settlement

from minirq.protocol.commands import DELETED, FENCED, MISSED_TOO_LONG, SETTLED, SETTLED_BEFORE
from minirq.protocol.record import Failure

HOUR_MS = 3_600_000


def started(stage: Stage, *job_ids: str, **options: object) -> None:
    stage.enqueue(*job_ids, **options)
    assert ids(stage.claim("a")) == list(job_ids)


def test_a_finished_job_keeps_its_result_for_its_ttl(stage: Stage) -> None:
    started(stage, "x")
    assert stage.settle("a", "x", 1, blob=b"42", seconds=500) == SETTLED
    job = stage.job("x")
    assert (job["status"], job["result"], job["attempts"]) == ("finished", "42", "1")
    assert stage.held("a") == []
    assert stage.index("finished") == ["x"]
    for key in (stage.keys.job("x"), stage.keys.payload("x")):
        assert 490_000 < stage.ttl_ms(key) <= 500_000


def test_a_result_can_be_kept_for_ever(stage: Stage) -> None:
    started(stage, "x")
    stage.settle("a", "x", 1, blob=b"42", seconds=-1)
    assert stage.ttl_ms(stage.keys.job("x")) == stage.ttl_ms(stage.keys.payload("x")) == -1
    stage.promote(trim=True)
    assert stage.index("finished") == ["x"]


def test_an_outcome_sent_twice_is_settled_once(stage: Stage) -> None:
    started(stage, "x")
    assert stage.settle("a", "x", 1, blob=b"first") == SETTLED
    assert stage.settle("a", "x", 1, blob=b"second") == SETTLED_BEFORE
    assert (stage.job("x")["result"], stage.job("x")["attempts"]) == ("first", "1")


@pytest.mark.parametrize("verb", ["retry", "release", "failed"])
def test_every_outcome_sent_twice_is_settled_once(stage: Stage, verb: str) -> None:
    started(stage, "x")
    assert stage.settle("a", "x", 1, verb) == SETTLED
    after = stage.job("x")
    assert stage.settle("a", "x", 1, verb) == SETTLED_BEFORE
    assert stage.job("x") == after
    assert stage.waiting() == (["x"] if verb != "failed" else [])


@pytest.mark.parametrize("verb", ["finished", "failed", "retry", "release"])
def test_an_old_request_cannot_settle_what_blmove_has_just_brought_back(stage: Stage, verb: str) -> None:
    started(stage, "x")
    stage.settle("a", "x", 1, "retry")
    stage.bring("a")
    before = stage.job("x")
    assert stage.settle("a", "x", 1, verb) == SETTLED_BEFORE
    assert stage.job("x") == before
    assert [job.run for job in stage.claim("a").jobs] == [2]


def test_an_old_request_cannot_settle_a_requeued_job_that_blmove_has_brought(stage: Stage) -> None:
    started(stage, "x")
    stage.settle("a", "x", 1, "failed")
    stage.requeue("x")
    stage.bring("a")
    assert stage.settle("a", "x", 1, "failed") == FENCED
    assert stage.status("x") == "queued"


def test_an_old_request_cannot_delete_a_new_job_of_a_deleted_jobs_id(stage: Stage) -> None:
    started(stage, "x")
    stage.cancel("x", keep=False)
    assert stage.settle("a", "x", 1) == DELETED
    stage.enqueue("x")
    stage.bring("a")
    assert stage.settle("a", "x", 1) == FENCED
    assert ids(stage.claim("a")) == ["x"]


def test_a_run_is_settled_by_its_owner_only(stage: Stage) -> None:
    started(stage, "x")
    stage.register("b")
    assert stage.settle("b", "x", 1) == FENCED
    assert stage.status("x") == "started"


def test_an_earlier_run_is_fenced(stage: Stage) -> None:
    started(stage, "x")
    stage.settle("a", "x", 1, "release")
    stage.claim("a")
    assert stage.settle("a", "x", 1, blob=b"late") == FENCED
    assert stage.status("x") == "started"
    assert stage.settle("a", "x", 2) == SETTLED


def test_a_buried_owners_result_is_fenced(stage: Stage) -> None:
    started(stage, "x")
    stage.bury("a")
    assert stage.settle("a", "x", 1) == FENCED
    assert (stage.status("x"), stage.waiting()) == ("queued", ["x"])


def test_a_buried_owners_result_is_fenced_though_a_late_blmove_brought_the_job_back(stage: Stage) -> None:
    started(stage, "x")
    stage.bury("a")
    stage.bring("a")
    assert stage.settle("a", "x", 1) == FENCED
    stage.sweep()
    assert stage.waiting() == ["x"]


def test_a_late_owner_that_nobody_has_buried_may_settle(stage: Stage) -> None:
    started(stage, "x")
    stage.let_lease_run_out("a")
    settled = stage.finish("a", settlement("x", 1), want=1)
    assert (settled.codes, settled.claim.state) == ([SETTLED], "late")


def test_an_unknown_job_is_fenced(stage: Stage) -> None:
    assert stage.settle("a", "nobody", 1) == FENCED
    assert stage.job("nobody") == {}


def test_a_job_deleted_while_it_ran_leaves_nothing(stage: Stage) -> None:
    started(stage, "x")
    stage.wait("x", "w")
    stage.cancel("x", keep=False)
    assert stage.status("x") == "started"
    assert stage.settle("a", "x", 1, blob=b"42") == DELETED
    assert (stage.job("x"), stage.held("a"), stage.index("finished")) == ({}, [], [])
    assert stage.mailbox("w") == ["x"]


def test_a_job_whose_record_has_gone_leaves_the_hands(stage: Stage) -> None:
    started(stage, "x")
    stage.client.delete(stage.keys.job("x"))
    assert stage.settle("a", "x", 1) == DELETED
    assert (stage.job("x"), stage.held("a")) == ({}, [])


def test_without_a_result_ttl_nothing_is_kept_but_a_tombstone(stage: Stage) -> None:
    started(stage, "x")
    assert stage.settle("a", "x", 1, blob=b"42", seconds=0) == SETTLED
    assert (stage.status("x"), stage.index("finished")) == ("finished", [])
    assert "result" not in stage.job("x")
    assert 50_000 < stage.ttl_ms(stage.keys.job("x")) <= 60_000
    assert stage.ttl_ms(stage.keys.payload("x")) == -2
    assert stage.settle("a", "x", 1, blob=b"42", seconds=0) == SETTLED_BEFORE


def test_a_result_that_somebody_waits_for_is_kept_without_a_ttl_too(stage: Stage) -> None:
    started(stage, "x")
    stage.wait("x", "w")
    stage.settle("a", "x", 1, blob=b"42", seconds=0)
    assert stage.job("x")["result"] == "42"
    assert 50_000 < stage.ttl_ms(stage.keys.job("x")) <= 60_000
    assert stage.mailbox("w") == ["x"]


def test_a_retry_with_a_delay_is_parked(stage: Stage) -> None:
    started(stage, "x")
    before_ms = stage.now_ms()
    assert stage.settle("a", "x", 1, "retry", seconds=60) == SETTLED
    assert (stage.status("x"), stage.waiting(), stage.held("a")) == ("scheduled", [], [])
    due_ms = stage.client.zscore(stage.keys.index("scheduled"), "x")
    assert before_ms + 60_000 <= due_ms <= stage.now_ms() + 60_000
    assert stage.client.get(stage.keys.payload("x")) == payload("x")
    assert stage.counters("x") == (1, 1, 0)
    stage.make_due("x")
    stage.promote()
    (job,) = stage.claim("a").jobs
    assert (job.run, job.attempts) == (2, 1)


@pytest.mark.parametrize(("place", "order"), [("queue", ["y", "x"]), ("front", ["x", "y"])])
def test_a_retry_at_once_waits_where_it_says(stage: Stage, place: str, order: list[str]) -> None:
    started(stage, "x")
    stage.enqueue("y")
    stage.bell_rings()
    stage.settle("a", "x", 1, "retry", place=place)
    assert stage.waiting() == order
    assert stage.bell_rings()
    assert stage.counters("x") == (1, 1, 0)


def test_a_function_that_is_not_known_here_is_tried_again_until_its_time_is_up(stage: Stage) -> None:
    started(stage, "x")
    assert stage.settle("a", "x", 1, "miss", seconds=60) == -500
    assert (stage.status("x"), stage.counters("x"), stage.errors("x")) == ("scheduled", (1, 0, 0), [])
    stage.make_due("x")
    stage.promote()
    stage.claim("a")
    first_ms = int(stage.job("x")["missed"].split()[0])
    stage.client.hset(stage.keys.job("x"), "missed", f"{first_ms - 20_000} 0")
    pause_ms = -stage.settle("a", "x", 2, "miss", seconds=60)
    due_ms = stage.client.zscore(stage.keys.index("scheduled"), "x") or 0
    assert 20_000 <= pause_ms < 25_000
    assert 0 <= stage.now_ms() + pause_ms - due_ms < 5_000
    stage.make_due("x")
    stage.promote()
    stage.claim("a")
    stage.client.hset(stage.keys.job("x"), "missed", f"{first_ms - 61_000} 0")
    assert stage.settle("a", "x", 3, "miss", seconds=60) == MISSED_TOO_LONG
    assert (stage.status("x"), stage.counters("x"), stage.errors("x")) == ("failed", (3, 0, 0), ["no"])


def test_a_job_that_is_given_back_in_a_burst_never_fails_for_it(stage: Stage) -> None:
    started(stage, "x")
    assert stage.settle("a", "x", 1, "miss", seconds=-1) == SETTLED
    assert (stage.status("x"), stage.counters("x"), stage.errors("x")) == ("scheduled", (1, 0, 0), [])
    assert stage.job("x")["missed"] == "0 0"
    assert stage.promote().moved == 0
    assert stage.promote(missed=["x"]).moved == 1
    stage.claim("a")
    # the time of the others begins with their own first miss
    assert stage.settle("a", "x", 2, "miss", seconds=60) == -500
    assert stage.status("x") == "scheduled"
    first_ms = int(stage.job("x")["missed"].split()[0])
    assert first_ms > 0
    stage.promote(missed=["x"])
    stage.claim("a")
    stage.settle("a", "x", 3, "miss", seconds=-1)
    assert stage.job("x")["missed"] == f"{first_ms} 0"


def test_only_a_job_that_was_given_back_comes_before_its_time(stage: Stage) -> None:
    stage.enqueue("delayed", place="delay", ms=60_000)
    started(stage, "ran")
    stage.settle("a", "ran", 1, "miss", seconds=-1)
    stage.promote(missed=["ran"])
    stage.claim("a")
    stage.settle("a", "ran", 2, "retry", seconds=60)  # somebody ran it meanwhile
    assert stage.promote(missed=["delayed", "ran", "gone"]).moved == 0
    assert {stage.status("delayed"), stage.status("ran")} == {"scheduled"}
    assert stage.job("gone") == {}


def test_released_jobs_go_back_to_the_front_uncounted(stage: Stage) -> None:
    started(stage, "1", "2", "3")
    stage.enqueue("4")
    stage.bell_rings()
    stage.finish("a", *(settlement(job_id, 1, "release") for job_id in ("3", "2", "1")))
    assert stage.waiting() == ["1", "2", "3", "4"]
    assert stage.counters("1") == (1, 0, 0)
    assert stage.errors("1") == []
    assert stage.bell_rings()


def test_a_batch_is_settled_and_the_next_jobs_claimed_in_one_call(two: Stage) -> None:
    two.enqueue("1", "2", queue=0)
    two.enqueue("3", "4", queue=1)
    two.claim("a", 3)
    settled = two.finish(
        "a", settlement("1", 1), settlement("3", 1, "failed", queue=1), settlement("4", 1, queue=1),
        want=2, in_hand=[(0, "2")],
    )  # fmt: skip
    assert settled.codes == [SETTLED, SETTLED, FENCED]
    assert ids(settled.claim) == ["4"]
    assert (two.held("a", 0), two.held("a", 1)) == (["2"], ["4"])


def test_nothing_is_claimed_when_nothing_is_wanted(stage: Stage) -> None:
    started(stage, "x")
    stage.enqueue("y")
    settled = stage.finish("a", settlement("x", 1), want=0)
    assert settled.claim.jobs == []
    assert stage.waiting() == ["y"]


def test_the_last_ten_errors_are_kept(stage: Stage) -> None:
    stage.enqueue("x")
    for n in range(1, 13):
        stage.claim("a")
        stage.settle("a", "x", n, "retry", blob=Failure("ValueError", f"no. {n}").encode())
    assert stage.errors("x") == [f"no. {n}" for n in range(12, 2, -1)]
    assert stage.counters("x") == (12, 12, 0)


@pytest.mark.parametrize("end", ["finished", "failed", "canceled", "expired"])
def test_errors_end_with_the_job(stage: Stage, end: str) -> None:
    started(stage, "x")
    stage.settle("a", "x", 1, "retry")
    assert stage.ttl_ms(stage.keys.errors("x")) == -1
    if end == "canceled":
        stage.cancel("x")
    elif end == "expired":
        stage.let_ttl_pass("x")
    stage.claim("a")
    if end in ("finished", "failed"):
        stage.settle("a", "x", 2, end)
    assert stage.status("x") == end
    assert stage.ttl_ms(stage.keys.errors("x")) > 0


def test_errors_from_before_a_requeue_end_too(stage: Stage) -> None:
    stage.fail("x")
    stage.requeue("x")
    stage.claim("a")
    stage.settle("a", "x", 2, "finished")
    assert stage.errors("x") == ["no"]
    assert stage.ttl_ms(stage.keys.errors("x")) > 0


@pytest.mark.parametrize("verb", ["retry", "release"])
def test_a_job_asked_to_stop_is_not_run_again(stage: Stage, verb: str) -> None:
    started(stage, "x")
    stage.wait("x", "w")
    stage.cancel("x")
    assert stage.settle("a", "x", 1, verb) == SETTLED
    assert (stage.status("x"), stage.waiting(), stage.index("canceled")) == ("canceled", [], ["x"])
    assert stage.mailbox("w") == ["x"]
    assert stage.counters("x") == (1, 1 if verb == "retry" else 0, 0)
    assert len(stage.errors("x")) == (verb == "retry")


def test_a_job_asked_to_stop_that_finishes_has_finished(stage: Stage) -> None:
    started(stage, "x")
    stage.cancel("x")
    assert stage.settle("a", "x", 1, blob=b"42") == SETTLED
    assert stage.status("x") == "finished"


@pytest.mark.parametrize(
    "end", ["finished", "failed", "canceled", "canceled later", "expired", "deleted", "emptied", "lost"]
)
def test_whoever_waits_is_told_of_every_end(stage: Stage, end: str) -> None:
    stage.enqueue("x", fields={"loss_limit": 0})
    assert stage.wait("x", "w1") == "queued"
    stage.wait("x", "w2")
    match end:
        case "finished" | "failed":
            stage.claim("a")
            stage.settle("a", "x", 1, end)
        case "canceled":
            stage.cancel("x")
        case "canceled later":
            stage.mark_canceled("x")
        case "expired":
            stage.let_ttl_pass("x")
            stage.claim("a")
        case "deleted":
            stage.cancel("x", keep=False)
        case "emptied":
            stage.empty("queue")
        case "lost":
            stage.claim("a")
            stage.bury("a")
            assert stage.status("x") == "failed"
    assert (stage.mailbox("w1"), stage.mailbox("w2")) == (["x"], ["x"])
    assert 0 < stage.ttl_ms(stage.keys.mailbox("w1")) <= 60_000
    assert "waiters" not in stage.job("x")


@pytest.mark.parametrize("is_waited_for", [True, False])
def test_a_result_that_is_not_kept_is_kept_a_minute_for_who_waits(stage: Stage, is_waited_for: bool) -> None:
    started(stage, "x")
    if is_waited_for:
        stage.wait("x", "w")
    stage.settle("a", "x", 1, seconds=0, blob=b"\x01")
    assert ("result" in stage.job("x")) == is_waited_for
    assert stage.client.exists(stage.keys.payload("x")) == is_waited_for
    assert stage.client.zcard(stage.keys.index("finished")) == is_waited_for


def test_whoever_waits_is_not_told_of_a_retry(stage: Stage) -> None:
    started(stage, "x")
    stage.wait("x", "w")
    stage.settle("a", "x", 1, "retry", blob=ERROR)
    assert stage.mailbox("w") == []
    stage.claim("a")
    stage.settle("a", "x", 2)
    assert stage.mailbox("w") == ["x"]


def test_whoever_waits_for_an_ended_job_is_not_registered(stage: Stage) -> None:
    stage.fail("x")
    assert stage.wait("x", "w") == "failed"
    assert stage.wait("nobody", "w") == ""
    assert "waiters" not in stage.job("x")
    assert stage.job("nobody") == {}


def test_whoever_leaves_is_not_told(stage: Stage) -> None:
    stage.enqueue("x")
    stage.wait("x", "w1")
    stage.wait("x", "w2")
    stage.wait("x", "w1", here=False)
    stage.cancel("x")
    assert (stage.mailbox("w1"), stage.mailbox("w2")) == ([], ["x"])
    stage.wait("x", "w2", here=False)
    assert stage.mailbox("w2") == []


def test_waiting_twice_is_told_once(stage: Stage) -> None:
    stage.enqueue("x")
    stage.wait("x", "w")
    stage.wait("x", "w")
    stage.cancel("x")
    assert stage.mailbox("w") == ["x"]
