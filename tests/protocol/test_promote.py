"""Promotion: delayed jobs go to the queue when their time has come, and not before."""

from __future__ import annotations

from math import inf

import pytest
from stage import LEASE, Stage, ids


def test_a_delayed_job_is_never_early(stage: Stage) -> None:
    stage.enqueue("x", place="delay", ms=60_000)
    promoted = stage.promote()
    assert promoted.moved == 0
    assert promoted.next_in is not None
    assert 55 < promoted.next_in <= 60
    assert (stage.status("x"), stage.waiting()) == ("scheduled", [])


def test_a_due_job_goes_to_the_end_of_the_queue(stage: Stage) -> None:
    stage.enqueue("x", place="delay", ms=60_000)
    stage.enqueue("y")
    stage.bell_rings()
    stage.make_due("x")
    promoted = stage.promote()
    assert (promoted.moved, promoted.next_in) == (1, None)
    assert (stage.waiting(), stage.status("x"), stage.index("scheduled")) == (["y", "x"], "queued", [])
    assert stage.ttl_ms(stage.keys.payload("x")) == -2
    assert stage.bell_rings()


def test_due_jobs_go_in_the_order_of_their_times(stage: Stage) -> None:
    for name, ms in (("later", 70_000), ("earlier", 60_000)):
        stage.enqueue(name, place="delay", ms=ms)
    stage.client.zadd(stage.keys.index("scheduled"), {"later": 2, "earlier": 1})
    stage.promote()
    assert ids(stage.claim("a")) == ["earlier", "later"]


def test_promotion_sent_twice_moves_once(stage: Stage) -> None:
    stage.enqueue("x", place="delay", ms=60_000)
    stage.make_due("x")
    stage.promote()
    assert stage.promote().moved == 0
    assert stage.waiting() == ["x"]


def test_one_call_moves_so_many_at_most(stage: Stage) -> None:
    names = [str(n) for n in range(5)]
    stage.enqueue(*names, place="delay", ms=60_000)
    stage.make_due(*names)
    first = stage.promote(most=3)
    assert (first.moved, first.next_in) == (3, 0)
    assert stage.promote(most=3).moved == 2


def test_an_entry_without_its_job_is_dropped(stage: Stage) -> None:
    stage.client.zadd(stage.keys.index("scheduled"), {"ghost": 1})
    stage.promote()
    assert (stage.waiting(), stage.index("scheduled"), stage.job("ghost")) == ([], [], {})


def test_a_canceled_delayed_job_is_not_promoted(stage: Stage) -> None:
    stage.enqueue("x", place="delay", ms=60_000)
    stage.make_due("x")
    assert stage.cancel("x") == "scheduled"
    stage.promote()
    assert (stage.waiting(), stage.status("x")) == ([], "canceled")


def test_trimming_forgets_what_has_been_forgotten(stage: Stage) -> None:
    stage.fail("gone")
    stage.fail("kept")
    stage.client.zadd(stage.keys.index("failed"), {"gone": stage.now_ms() - 1})
    stage.promote()
    assert set(stage.index("failed")) == {"gone", "kept"}
    stage.promote(trim=True)
    assert stage.index("failed") == ["kept"]


@pytest.mark.parametrize("status", ["failed", "canceled", "stopped", "expired", "finished"])
def test_only_finished_jobs_with_a_ttl_leave_their_index_by_number(stage: Stage, status: str) -> None:
    most, index, later_ms = 100_000, stage.keys.index(status), stage.now_ms() + 60_000
    stage.client.zadd(index, {f"kept-{n}": "+inf" for n in range(most + 1)})
    stage.client.zadd(index, {f"ttl-{n}": later_ms + n for n in range(most + 2)})
    reply = stage.promote(trim=True)
    left = 2 * most + 1 if status == "finished" else 2 * most + 3
    assert stage.client.zcard(index) == left
    assert reply.failed == (left if status == "failed" else 0)
    assert stage.client.zrange(index, 0, 0) == [b"ttl-2" if status == "finished" else b"ttl-0"]
    assert stage.promote().failed is None


def test_one_call_trims_so_many_entries_the_oldest_first(stage: Stage) -> None:
    index = stage.keys.index("finished")
    now_ms = stage.now_ms()
    stage.client.zadd(index, {str(n): now_ms - 10_000 + n for n in range(1500)})
    assert stage.promote(trim=True).is_more
    assert (stage.client.zcard(index), stage.client.zrange(index, 0, 0)) == (500, [b"1000"])
    assert not stage.promote(trim=True).is_more
    assert stage.index("finished") == []


def test_a_promotion_says_whether_a_sweep_has_something_to_do(stage: Stage) -> None:
    stage.register("a")
    assert not stage.promote().is_sweep_due
    stage.let_lease_run_out("a")
    assert stage.promote().is_sweep_due
    stage.sweep()
    assert not stage.promote().is_sweep_due
    stage.let_linger_pass("a")
    assert stage.promote().is_sweep_due


# --- who promotes -----------------------------------------------------------------------------


def test_one_worker_of_a_queue_promotes(stage: Stage) -> None:
    stage.enqueue("x", place="delay", ms=60_000)
    [first] = stage.beat("a", worker="one").promote_in
    assert stage.beat("a", worker="two").promote_in == (None,)
    [again] = stage.beat("a", worker="one").promote_in
    assert 59 < again <= first <= 60


def test_the_one_that_promotes_is_told_that_nothing_is_scheduled(stage: Stage) -> None:
    assert stage.beat("a", worker="one").promote_in == (inf,)


def test_another_worker_promotes_when_the_first_one_has_not_beaten_for_a_while(stage: Stage) -> None:
    stage.beat("a", worker="one")
    assert LEASE * 500 - 1000 < stage.ttl_ms(stage.keys.promoter) <= LEASE * 500
    stage.client.delete(stage.keys.promoter)
    assert stage.beat("a", worker="two").promote_in == (inf,)
    assert stage.beat("a", worker="one").promote_in == (None,)


def test_any_worker_promotes_what_is_overdue(stage: Stage) -> None:
    stage.enqueue("x", place="delay", ms=60_000)
    stage.beat("a", worker="one")
    index = stage.keys.index("scheduled")
    stage.client.zadd(index, {"x": stage.now_ms() - 1})
    assert stage.beat("a", worker="two").promote_in == (None,)
    stage.client.zadd(index, {"x": stage.now_ms() - 1000})
    assert stage.beat("a", worker="two").promote_in == (0,)
    assert stage.beat("a", worker="one").promote_in == (0,)


def test_each_queue_has_its_own_promoter(two: Stage) -> None:
    two.beat("a", worker="one")
    two.client.delete(two.queues[1].promoter)
    assert two.beat("a", worker="two").promote_in == (None, inf)


def test_a_broken_index_of_delayed_jobs_breaks_no_beat(two: Stage) -> None:
    two.client.set(two.keys.index("scheduled"), "text")
    assert two.beat("a").promote_in == (0, inf)
