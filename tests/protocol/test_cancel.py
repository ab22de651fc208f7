"""Cancel, delete, requeue, empty: what people do to jobs."""

from __future__ import annotations

import pytest
from stage import Stage, ids, payload
from support.waits import until

from minirq.protocol import commands

# --- cancel and delete ------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_a_canceled_waiting_job_leaves_the_list(stage: Stage, keep: bool) -> None:
    stage.enqueue("x", "y")
    assert stage.cancel("x", keep=keep) == "queued"
    assert stage.waiting() == ["y"]
    assert (stage.status("x"), stage.index("canceled")) == (("canceled", ["x"]) if keep else (None, []))
    if keep:
        assert stage.client.get(stage.keys.payload("x")) == payload("x")
        assert stage.ttl_ms(stage.keys.job("x")) > 0


def test_a_waiting_job_is_canceled_before_its_payload_is_found(stage: Stage) -> None:
    stage.enqueue("x")
    assert stage.mark_canceled("x") == "waiting"
    assert stage.mark_canceled("x") == "waiting"
    assert stage.status("x") == "canceled"
    assert stage.ttl_ms(stage.keys.job("x")) == -1
    assert stage.claim("a").jobs == []


def test_a_canceled_job_can_be_deleted_before_its_payload_is_found(stage: Stage) -> None:
    stage.enqueue("x")
    stage.mark_canceled("x")
    assert stage.mark_canceled("x", keep=False) == "waiting"
    stage.claim("a")
    assert stage.job("x") == {}


def test_a_job_taken_while_its_payload_is_searched_does_not_run(stage: Stage) -> None:
    stage.enqueue("x")
    stage.bring("a")
    assert stage.cancel("x") == "queued"
    assert stage.status("x") == "canceled"
    assert stage.claim("a").jobs == []
    assert (stage.held("a"), stage.index("canceled")) == ([], ["x"])


@pytest.mark.parametrize("keep", [True, False])
def test_a_delayed_job_is_canceled_at_once(stage: Stage, keep: bool) -> None:
    stage.enqueue("x", place="delay", ms=60_000)
    assert stage.cancel("x", keep=keep) == "scheduled"
    assert stage.index("scheduled") == []
    assert stage.status("x") == ("canceled" if keep else None)
    assert stage.client.exists(stage.keys.payload("x")) == keep


@pytest.mark.parametrize("calls", [1, 2])
def test_a_delayed_job_of_which_nothing_is_kept_leaves_no_payload(stage: Stage, calls: int) -> None:
    for _ in range(calls):
        stage.enqueue("x", nonce="call-1", place="delay", ms=60_000, fields={"failure_ttl_ms": 0})
    assert stage.cancel("x") == "scheduled"
    assert stage.client.keys("*payload:*") == []
    assert stage.ttl_ms(stage.keys.job("x")) > 0


def test_a_started_job_goes_on_and_is_marked(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    assert stage.cancel("x") == "started"
    assert (stage.status("x"), stage.job("x")["stop"]) == ("started", "canceled")
    assert stage.held("a") == ["x"]


@pytest.mark.parametrize("verb", ["cancel", "stop"])
def test_the_owner_of_a_started_job_is_told_which_run_to_interrupt(stage: Stage, verb: str) -> None:
    ears = stage.client.pubsub(ignore_subscribe_messages=True)
    ears.subscribe(f"{stage.keys.prefix.partition(':{')[0]}:stops")
    stage.enqueue("x")
    stage.claim("a")
    assert (stage.cancel("x") if verb == "cancel" else stage.stop("x")) == "started"
    told = until(lambda: ears.get_message(timeout=0.1))
    assert commands.read_stop_request(told["data"]) == commands.StopRequest("a", "q", "x", 1)
    ears.close()


def test_who_asks_first_decides_how_a_started_job_ends(stage: Stage) -> None:
    stage.enqueue("x", "y")
    stage.claim("a", 2)
    assert [stage.stop("x"), stage.cancel("x"), stage.cancel("y"), stage.stop("y")] == ["started"] * 4
    stage.settle("a", "x", 1, "release")
    stage.settle("a", "y", 1, "retry")
    assert (stage.status("x"), stage.status("y")) == ("stopped", "canceled")
    assert stage.waiting() == []


def test_only_a_started_job_can_be_stopped(stage: Stage) -> None:
    stage.fail("z")
    stage.enqueue("x")
    stage.enqueue("y", place="delay", ms=60_000)
    assert [stage.stop(name) for name in ("x", "y", "z", "nobody")] == ["queued", "scheduled", "failed", ""]
    assert all("stop" not in stage.job(name) for name in ("x", "y", "z", "nobody"))
    assert ids(stage.claim("a")) == ["x"]


def test_an_ended_job_is_deleted_and_not_canceled(stage: Stage) -> None:
    stage.fail("x")
    assert stage.cancel("x") == "failed"
    assert stage.status("x") == "failed"
    assert stage.cancel("x", keep=False) == "failed"
    assert stage.client.keys("*:x") == []
    assert stage.index("failed") == []


def test_an_unknown_job_is_said_to_be_unknown(stage: Stage) -> None:
    assert stage.cancel("nobody") == ""
    assert stage.cancel("nobody", keep=False) == ""
    assert stage.job("nobody") == {}


# --- requeue ----------------------------------------------------------------------------------


def test_a_requeued_job_forgets_its_attempts_and_losses_but_not_its_run(stage: Stage) -> None:
    stage.enqueue("x", fields={"loss_limit": 1})
    stage.register("b")
    stage.claim("a")
    stage.bury("a")
    stage.claim("b")
    stage.bury("b")
    assert (stage.status("x"), stage.counters("x")) == ("failed", (2, 2, 2))
    stage.bell_rings()
    assert stage.requeue("x") == "requeued"
    assert (stage.status("x"), stage.counters("x")) == ("queued", (2, 0, 0))
    assert stage.index("failed") == []
    assert stage.ttl_ms(stage.keys.job("x")) == -1
    assert stage.ttl_ms(stage.keys.payload("x")) == -2
    assert stage.bell_rings()
    stage.register("c")
    (job,) = stage.claim("c").jobs
    assert (job.run, job.attempts, job.lost, job.payload) == (3, 0, 0, payload("x"))


def test_a_requeued_job_waits_at_the_end_or_at_the_front(stage: Stage) -> None:
    stage.fail("x")
    stage.fail("y")
    stage.enqueue("z")
    stage.requeue("x")
    stage.requeue("y", at_front=True)
    assert ids(stage.claim("a")) == ["y", "z", "x"]


def test_a_requeued_job_does_not_expire(stage: Stage) -> None:
    stage.enqueue("x", ttl_ms=60_000)
    stage.let_ttl_pass("x")
    stage.claim("a")
    assert stage.status("x") == "expired"
    stage.requeue("x")
    assert ids(stage.claim("a")) == ["x"]


def test_a_finished_job_that_is_requeued_has_no_result_until_it_has_run(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    stage.settle("a", "x", 1, blob=b"42")
    stage.requeue("x")
    assert "result" not in stage.job("x")


def test_the_same_requeue_sent_twice_acts_once(stage: Stage) -> None:
    stage.fail("x")
    call = commands.requeue(stage.keys, "x")
    assert [stage.send(call), stage.send(call)] == ["requeued", "requeued"]
    assert stage.waiting() == ["x"]
    stage.claim("a")
    stage.settle("a", "x", 2, "failed")
    assert stage.send(call) == "requeued"
    assert stage.status("x") == "failed"


@pytest.mark.parametrize("live", ["queued", "started", "scheduled"])
def test_a_live_job_is_not_requeued(stage: Stage, live: str) -> None:
    stage.enqueue("x", place="delay" if live == "scheduled" else "queue", ms=60_000)
    if live == "started":
        stage.claim("a")
    assert stage.requeue("x") == live
    assert len(stage.waiting()) == (live == "queued")


def test_what_was_not_kept_is_not_requeued(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    stage.settle("a", "x", 1, seconds=0)
    assert stage.requeue("x") == "payload"
    assert stage.requeue("nobody") == ""
    assert stage.waiting() == []


# --- empty ------------------------------------------------------------------------------------


def test_emptying_a_queue_deletes_the_waiting_jobs_only(stage: Stage) -> None:
    stage.enqueue("started")
    stage.claim("a")
    stage.enqueue("delayed", place="delay", ms=60_000)
    stage.enqueue(*(str(n) for n in range(1200)))
    stage.mark_canceled("7")
    assert stage.empty("queue") == 1199
    assert stage.waiting() == []
    left = {stage.keys.job("started").encode(), stage.keys.job("delayed").encode()}
    assert set(stage.client.keys("*:job:*")) == left
    assert stage.held("a") == ["started"]


def test_emptying_keeps_a_job_whose_stale_copy_waits(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    stage.client.lpush(stage.keys.queue, payload("x"))
    assert stage.empty("queue") == 0
    assert (stage.waiting(), stage.status("x"), stage.held("a")) == ([], "started", ["x"])


def test_emptying_an_index_deletes_its_jobs(stage: Stage) -> None:
    for name in ("x", "y"):
        stage.fail(name)
    stage.enqueue("z")
    assert stage.empty("failed") == 2
    assert stage.index("failed") == []
    assert {*stage.client.keys("*:x"), *stage.client.keys("*:y")} == set()
    assert stage.waiting() == ["z"]
