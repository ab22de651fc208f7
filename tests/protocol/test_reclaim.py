"""Beats and burials: who is alive, and what becomes of the jobs of those who are not."""

from __future__ import annotations

import pytest
from stage import LEASE, LINGER, Stage, ids, payload

DAY_MS = 86_400_000


def fates(taken: list) -> list[tuple[str, str, str, int]]:
    return [(job.id, job.owner, job.fate, job.lost) for job in taken]


# --- beats ------------------------------------------------------------------------------------


def test_a_beat_renews_the_lease(stage: Stage) -> None:
    stage.client.zadd(stage.keys.owners, {"a": stage.now_ms() + 1000})
    beat = stage.beat("a")
    assert beat.lost == frozenset()
    assert stage.lease_end("a") == beat.now_ms + LEASE * 1000


def test_a_beat_renews_a_lease_that_has_run_out_and_was_not_buried(stage: Stage) -> None:
    stage.let_lease_run_out("a")
    assert stage.beat("a").lost == frozenset()
    assert stage.claim("a").state == "ok"


@pytest.mark.parametrize("how", ["bury", "sweep"])
def test_a_beat_does_not_renew_a_buried_owner(stage: Stage, how: str) -> None:
    stage.let_lease_run_out("a")
    stage.bury("a") if how == "bury" else stage.sweep()
    assert stage.beat("a").lost == {"a"}
    assert stage.register("a").lost == {"a"}
    assert stage.lease_end("a") < 0


def test_an_owner_lost_to_one_queue_is_lost_to_all(two: Stage) -> None:
    two.bury("a", queue=1)
    before = two.lease_end("a", 0)
    assert two.beat("a").lost == {"a"}
    assert two.lease_end("a", 0) == before


def test_a_beat_registers_only_whom_it_says_is_new(stage: Stage) -> None:
    assert stage.beat("stranger").lost == {"stranger"}
    assert stage.lease_end("stranger") is None
    assert stage.register("b").lost == frozenset()
    assert ids(stage.claim("b")) == []


def test_a_beat_says_when_the_next_lease_of_others_ends(stage: Stage) -> None:
    assert stage.beat("a").sweep_in is None
    stage.client.zadd(stage.keys.owners, {"b": stage.now_ms() + 9000, "c": stage.now_ms() + 5000})
    sweep_in = stage.beat("a").sweep_in
    assert sweep_in is not None
    assert 4 < sweep_in <= 5
    stage.bury("c")
    sweep_in = stage.beat("a").sweep_in
    assert sweep_in is not None
    assert 8 < sweep_in <= 9


# --- the jobs of the dead ---------------------------------------------------------------------


def test_reclaim_returns_a_dead_owners_jobs_to_the_front(stage: Stage) -> None:
    stage.enqueue("1", "2", "3")
    stage.claim("a", 2)
    stage.bell_rings()
    taken = stage.bury("a")
    assert sorted(fates(taken)) == [("1", "a", "queued", 1), ("2", "a", "queued", 1)]
    assert (stage.waiting(), stage.held("a")) == (["1", "2", "3"], [])
    assert stage.counters("1") == (1, 1, 1)
    assert stage.errors("1") == ["the process died"]
    assert stage.bell_rings()


def test_with_nobody_named_no_loss_is_counted(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    assert fates(stage.bury("a", blamed=[])) == [("x", "a", "queued", 0)]
    assert (stage.counters("x"), stage.errors("x")) == ((1, 0, 0), [])


def test_only_the_named_run_is_blamed(stage: Stage) -> None:
    stage.enqueue("ran", "waited", "earlier")
    stage.claim("a")
    stage.bury("a", blamed=[("ran", 1), ("earlier", 7)])
    assert stage.counters("ran") == (1, 1, 1)
    assert stage.counters("waited") == (1, 0, 0)
    assert stage.counters("earlier") == (1, 0, 0)


def test_a_job_that_has_run_in_the_process_before_is_blamed_for_its_last_run(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    stage.settle("a", "x", 1, "retry")
    stage.claim("a")
    assert fates(stage.bury("a", blamed=[("x", 2), ("x", 1)])) == [("x", "a", "queued", 1)]


def test_a_job_that_was_brought_and_never_claimed_is_not_blamed(stage: Stage) -> None:
    stage.enqueue("x", "y")
    stage.bring("a")
    assert fates(stage.bury("a")) == [("x", "a", "queued", 0)]
    assert (stage.waiting(), stage.counters("x")) == (["x", "y"], (0, 0, 0))


def lose(stage: Stage, job_id: str, times: int, **options: float) -> list[tuple[str, str, str, int]]:
    taken: list[tuple[str, str, str, int]] = []
    for n in range(times):
        owner = f"dead-{n}"
        stage.register(owner)
        assert ids(stage.claim(owner)) == [job_id]
        taken += fates(stage.bury(owner, **options))
    return taken


def test_the_third_loss_fails_the_job_with_the_evidence(stage: Stage) -> None:
    stage.enqueue("x")
    stage.wait("x", "w")
    assert [taken[2:] for taken in lose(stage, "x", 3)] == [("queued", 1), ("queued", 2), ("failed", 3)]
    assert (stage.status("x"), stage.index("failed"), stage.waiting()) == ("failed", ["x"], [])
    assert stage.errors("x") == ["the process died"] * 3
    assert stage.mailbox("w") == ["x"]
    assert stage.ttl_ms(stage.keys.job("x")) > 0
    assert stage.ttl_ms(stage.keys.errors("x")) > 0


def test_a_job_can_have_a_loss_limit_of_its_own(stage: Stage) -> None:
    stage.enqueue("x", fields={"loss_limit": 0})
    assert [taken[2:] for taken in lose(stage, "x", 1)] == [("failed", 1)]


def test_what_ran_when_its_worker_ended_the_process_is_spared_unless_it_must_not_run_again(
    stage: Stage,
) -> None:
    stage.enqueue("once", "never-started", fields={"loss_limit": 0})
    stage.enqueue("any")
    stage.claim("a")
    taken = stage.bury("a", blamed=[("once", 1), ("any", 1)], is_spared=True)
    assert {job.id: (job.fate, job.lost) for job in taken} == {
        "once": ("failed", 1), "never-started": ("queued", 0), "any": ("queued", 0),
    }  # fmt: skip
    assert stage.counters("any") == (1, 0, 0)
    assert stage.errors("once") == ["the process died"]


def test_a_run_that_was_lost_for_good_is_fenced_when_it_comes_late(stage: Stage) -> None:
    stage.enqueue("x", fields={"loss_limit": 0})
    stage.claim("a")
    stage.bury("a")
    assert stage.settle("a", "x", 1) == 0
    assert stage.status("x") == "failed"


def test_after_its_second_loss_a_job_pauses(stage: Stage) -> None:
    stage.enqueue("x")
    assert [taken[2:] for taken in lose(stage, "x", 2, pause=30)] == [("queued", 1), ("scheduled", 2)]
    assert (stage.status("x"), stage.index("scheduled")) == ("scheduled", ["x"])
    due_ms = stage.client.zscore(stage.keys.index("scheduled"), "x")
    assert 25_000 < due_ms - stage.now_ms() <= 30_000
    stage.make_due("x")
    stage.promote()
    assert ids(stage.claim("a")) == ["x"]


@pytest.mark.parametrize("keep", [True, False])
def test_a_lost_job_that_was_canceled_does_not_run_again(stage: Stage, keep: bool) -> None:
    stage.enqueue("x")
    stage.wait("x", "w")
    stage.claim("a")
    stage.cancel("x", keep=keep)
    assert fates(stage.bury("a")) == [("x", "a", "canceled" if keep else "deleted", 1)]
    assert stage.status("x") == ("canceled" if keep else None)
    assert (stage.waiting(), stage.mailbox("w")) == ([], ["x"])


def test_a_job_canceled_after_blmove_brought_it_to_a_dead_owner_is_cleared_away(stage: Stage) -> None:
    stage.register("dead")
    stage.enqueue("x")
    stage.bring("dead")
    assert stage.cancel("x") == "queued"
    assert stage.bury("dead") == []
    assert stage.claim("a").jobs == []
    assert (stage.index("canceled"), stage.waiting()) == (["x"], [])
    assert stage.enqueue("x", nonce="again")[0].is_new


def test_a_stale_copy_in_a_dead_owners_list_is_dropped(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    stage.register("dead")
    stage.client.lpush(stage.keys.processing("dead"), payload("x"))
    assert stage.bury("dead") == []
    assert (stage.held("dead"), stage.waiting(), stage.held("a")) == ([], [], ["x"])
    assert stage.counters("x") == (1, 0, 0)


# --- the sweep --------------------------------------------------------------------------------


def test_the_sweep_takes_only_from_owners_whose_lease_has_run_out(stage: Stage) -> None:
    stage.register("b")
    stage.enqueue("1", "2")
    stage.claim("a", 1)
    stage.claim("b", 1)
    stage.let_lease_run_out("b")
    assert fates(stage.sweep().taken) == [("2", "b", "queued", 1)]
    assert (stage.held("a"), stage.waiting()) == (["1"], ["2"])
    assert stage.lease_end("b") < 0


@pytest.mark.parametrize("off_ms", [-5000, 5000])
def test_the_sweep_refuses_a_caller_whose_clock_is_off(stage: Stage, off_ms: int) -> None:
    stage.enqueue("x")
    stage.claim("a")
    stage.let_lease_run_out("a")
    swept = stage.sweep(off_ms=off_ms, tolerance=3)
    assert (swept.taken, swept.is_refused) == ([], True)
    assert (stage.held("a"), stage.lease_end("a") > 0) == (["x"], True)


def test_a_supervisor_may_bury_its_own_child_whatever_the_clock_says(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    assert fates(stage.bury("a")) == [("x", "a", "queued", 1)]


def test_what_a_late_blmove_brings_a_buried_owner_is_found_by_the_next_sweep(stage: Stage) -> None:
    stage.bury("a")
    stage.enqueue("x")
    stage.bring("a")
    assert fates(stage.sweep().taken) == [("x", "a", "queued", 0)]
    assert stage.waiting() == ["x"]


def test_an_owner_that_nothing_can_be_brought_to_is_forgotten_at_once(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    assert fates(stage.bury("a", linger=0)) == [("x", "a", "queued", 1)]
    assert stage.lease_end("a") is None
    assert stage.beat("a").lost == {"a"}
    assert stage.claim("a").state == "lost"


def test_an_owner_that_something_may_be_brought_to_is_remembered_until_then(stage: Stage) -> None:
    stage.bury("a")
    until_ms = stage.now_ms() + LINGER * 1000
    assert -until_ms <= stage.lease_end("a") <= -until_ms + 1000
    stage.sweep()
    assert stage.lease_end("a") is not None
    stage.let_linger_pass("a")
    assert not stage.sweep().is_more
    assert stage.lease_end("a") is None


def test_an_owner_whose_lease_ran_out_is_remembered_too(stage: Stage) -> None:
    stage.let_lease_run_out("a")
    stage.sweep()
    assert stage.lease_end("a") < -(stage.now_ms() + LINGER * 1000 - 1000)


def test_a_buried_owner_is_not_forgotten_while_something_is_brought_to_it(stage: Stage) -> None:
    stage.bury("a")
    stage.let_linger_pass("a")
    stage.enqueue("x")
    stage.bring("a")
    assert stage.sweep().is_more
    assert (stage.lease_end("a") is not None, stage.waiting()) == (True, ["x"])
    stage.sweep()
    assert stage.lease_end("a") is None


def test_a_beat_says_when_a_buried_owner_can_be_forgotten(stage: Stage) -> None:
    stage.register("b")
    stage.bury("b")
    sweep_in = stage.beat("a").sweep_in
    assert sweep_in is not None
    assert LINGER - 1 < sweep_in <= LINGER
    stage.let_linger_pass("b")
    assert stage.beat("a").sweep_in == 0


def test_a_lease_that_ends_absurdly_late_is_shortened(stage: Stage) -> None:
    stage.client.zadd(stage.keys.owners, {"a": stage.now_ms() + DAY_MS})
    stage.enqueue("x")
    stage.claim("a")
    assert stage.sweep().taken == []
    assert stage.lease_end("a") <= stage.now_ms() + LEASE * 1000
    assert stage.held("a") == ["x"]


def test_a_beat_says_that_a_lease_ends_absurdly_late(stage: Stage) -> None:
    stage.client.zadd(stage.keys.owners, {"b": stage.now_ms() + DAY_MS})
    assert stage.beat("a").sweep_in == 0


def test_one_sweep_takes_back_so_many_jobs_and_the_next_the_rest(stage: Stage) -> None:
    owners = [f"o{n}" for n in range(25)]
    stage.register(*owners)
    for n, owner in enumerate(owners):
        stage.enqueue(*(f"{n}-{i}" for i in range(5)))
        for _ in range(5):
            stage.bring(owner)
        stage.let_lease_run_out(owner)
    first = stage.sweep()
    assert (len(first.taken), first.is_more) == (65, True)
    second = stage.sweep()
    assert (len(second.taken), second.is_more) == (60, False)
    assert len(stage.waiting()) == 125


def test_one_sweep_forgets_so_many_owners_the_oldest_first(stage: Stage) -> None:
    now_ms = stage.now_ms()
    stage.client.zadd(stage.keys.owners, {f"o{n}": -(now_ms - 1000 + n) for n in range(250)})
    assert stage.sweep().is_more
    assert (stage.lease_end("o199"), stage.lease_end("o200")) == (None, -(now_ms - 800))
    assert not stage.sweep().is_more
    assert stage.client.zcount(stage.keys.owners, "-inf", "(0") == 0
