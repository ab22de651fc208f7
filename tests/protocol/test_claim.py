"""Claiming: what an owner gets, what it is refused, and what it finds in its list without knowing."""

from __future__ import annotations

import pytest
from stage import Stage, ids, payload, settlement

from minirq.protocol import commands

KIB = 1024


def test_a_claimed_job_is_started_and_in_the_owners_list(stage: Stage) -> None:
    stage.enqueue("x")
    claim = stage.claim("a")
    assert claim.state == "ok"
    (job,) = claim.jobs
    assert (job.id, job.payload, job.queue) == ("x", payload("x"), 0)
    assert (job.run, job.attempts, job.lost, job.has_record) == (1, 0, 0, True)
    assert (stage.waiting(), stage.held("a")) == ([], ["x"])
    assert (stage.status("x"), stage.job("x")["owner"]) == ("started", "a")


def test_a_claim_takes_as_many_as_are_wanted(stage: Stage) -> None:
    stage.enqueue(*(str(n) for n in range(50)))
    assert ids(stage.claim("a", 40)) == [str(n) for n in range(40)]
    assert stage.held("a") == [str(n) for n in range(40)]
    assert stage.waiting() == [str(n) for n in range(40, 50)]


def test_queues_are_served_in_strict_order(two: Stage) -> None:
    two.enqueue("low-1", "low-2", queue=1)
    two.enqueue("high-1", "high-2", queue=0)
    claim = two.claim("a", 3)
    assert [(job.queue, job.id) for job in claim.jobs] == [(0, "high-1"), (0, "high-2"), (1, "low-1")]


def test_the_bell_goes_on_ringing_while_jobs_remain(two: Stage) -> None:
    two.enqueue("1", "2", queue=1)
    assert two.bell_rings(1)
    two.claim("a", 1)
    assert two.bell_rings(1)
    two.claim("a", 1, in_hand=[(1, "1")])
    assert not two.bell_rings(1)


def test_an_unregistered_owner_gets_nothing(stage: Stage) -> None:
    stage.enqueue("x")
    assert stage.claim("stranger").state == "lost"
    assert stage.waiting() == ["x"]
    assert stage.held("stranger") == []


def test_an_owner_unknown_to_one_of_its_queues_gets_nothing(two: Stage) -> None:
    two.enqueue("x")
    two.client.zrem(two.queues[1].owners, "a")
    assert two.claim("a").state == "lost"
    assert two.waiting() == ["x"]


def test_a_buried_owner_gets_nothing(stage: Stage) -> None:
    stage.enqueue("x")
    stage.bury("a")
    assert stage.claim("a").state == "lost"
    assert stage.waiting() == ["x"]


def test_a_late_owner_gets_nothing_until_it_beats(stage: Stage) -> None:
    stage.enqueue("x")
    stage.let_lease_run_out("a")
    assert stage.claim("a").state == "late"
    assert stage.waiting() == ["x"]
    stage.beat("a")
    assert ids(stage.claim("a")) == ["x"]


def test_a_queue_whose_meta_says_so_is_served_one_by_one(two: Stage) -> None:
    two.enqueue("a", "b", "c")
    two.enqueue("x", "y", queue=1)
    two.client.hset(two.keys.meta, "batch", 0)
    assert ids(two.claim("a", 10)) == ["a", "x", "y"]
    assert ids(two.claim("a", 10, in_hand=[(0, "a"), (1, "x"), (1, "y")])) == ["b"]
    assert two.bell_rings()
    two.client.hdel(two.keys.meta, "batch")
    two.enqueue("d")
    assert ids(two.claim("a", 10, in_hand=[(0, "a"), (0, "b"), (1, "x"), (1, "y")])) == ["c", "d"]


def test_an_owner_that_gets_nothing_passes_the_bell_on(stage: Stage) -> None:
    stage.enqueue("x")
    for refused in ("late", "lost"):
        stage.let_lease_run_out("a") if refused == "late" else stage.bury("a")
        assert stage.bell_rings()  # the owner has heard it
        assert stage.claim("a").state == refused
    assert stage.bell_rings()


def test_what_blmove_brought_is_adopted(stage: Stage) -> None:
    stage.enqueue("x", "y")
    stage.bring("a")
    (job,) = stage.claim("a", 1).jobs[:1]
    assert (job.id, job.run) == ("x", 1)
    assert stage.status("x") == "started"


def test_adopted_jobs_count_as_wanted(stage: Stage) -> None:
    stage.enqueue("x", "y", "z")
    stage.bring("a")
    assert ids(stage.claim("a", 2)) == ["x", "y"]


def test_a_claim_whose_reply_was_lost_is_answered_again_with_the_same_run(stage: Stage) -> None:
    stage.enqueue("x", "y")
    lost = stage.claim("a", 2)
    again = stage.claim("a", 2)
    assert again.jobs == lost.jobs
    assert stage.counters("x") == (1, 0, 0)


def test_what_is_in_hand_is_not_handed_out_again(stage: Stage) -> None:
    stage.enqueue("x", "y")
    stage.claim("a", 1)
    assert ids(stage.claim("a", 1, in_hand=[(0, "x")])) == ["y"]


def test_a_beat_tells_who_holds_a_job(two: Stage) -> None:
    two.register("b")
    two.enqueue("x", queue=1)
    assert two.beat("a", "b").holding == frozenset()
    two.bring("a", queue=1)
    assert two.beat("a", "b").holding == {"a"}


def test_the_same_id_in_two_queues_is_two_jobs(two: Stage) -> None:
    two.enqueue("daily", queue=0)
    two.enqueue("daily", queue=1)
    assert ids(two.claim("a", 2)) == ["daily", "daily"]
    settled = two.finish("a", settlement("daily", 1), want=1, in_hand=[(1, "daily")])
    assert (settled.codes, settled.claim.jobs) == ([1], [])
    (redelivered,) = two.claim("a", 1, in_hand=[(0, "daily")]).jobs
    assert (redelivered.queue, redelivered.run) == (1, 1)


@pytest.mark.parametrize("ended", ["finished", "failed", "retry", "elsewhere"])
def test_a_stale_copy_is_dropped_from_hands_and_queue(stage: Stage, ended: str) -> None:
    stage.enqueue("x")
    stage.claim("a")
    if ended == "elsewhere":
        stage.register("b")
        stage.settle("a", "x", 1, "release")
        stage.claim("b")
    else:
        stage.settle("a", "x", 1, ended, seconds=60)
    before = stage.job("x")
    stage.client.lpush(stage.keys.processing("a"), payload("x"))
    stage.client.lpush(stage.keys.queue, payload("x"))
    assert stage.claim("a").jobs == []
    assert (stage.held("a"), stage.waiting()) == ([], [])
    assert stage.job("x") == before


def test_two_copies_in_the_queue_run_once(stage: Stage) -> None:
    stage.enqueue("x")
    stage.client.lpush(stage.keys.queue, payload("x"))
    assert ids(stage.claim("a")) == ["x"]
    assert (stage.held("a"), stage.waiting()) == (["x"], [])


def test_a_job_of_a_foreign_producer_runs_without_a_record(stage: Stage) -> None:
    stage.client.lpush(stage.keys.queue, payload("x"))
    (job,) = stage.claim("a").jobs
    assert (job.id, job.run, job.has_record) == ("x", 1, False)
    assert stage.status("x") == "started"


def test_bytes_without_an_id_are_claimed_under_their_digest(stage: Stage) -> None:
    stage.client.lpush(stage.keys.queue, b"\xffgarbage")
    (job,) = stage.claim("a").jobs
    assert len(job.id) == 40
    assert stage.settle("a", job.id, 1, "failed") == 1
    assert stage.index("failed") == [job.id]


def test_a_payload_with_a_status_of_a_newer_version_is_kept_in_sight(stage: Stage) -> None:
    stage.enqueue("x")
    stage.client.hset(stage.keys.job("x"), "status", "levitating")
    assert stage.claim("a").jobs == []
    assert stage.client.get(stage.keys.payload("x")) == payload("x")
    assert stage.index("unknown") == ["x"]


def lose(stage: Stage, job_id: str) -> None:
    """Enqueue a job and have it take its process down."""
    stage.enqueue(job_id)
    stage.register("dead-" + job_id)
    assert ids(stage.claim("dead-" + job_id)) == [job_id]
    stage.bury("dead-" + job_id)


def test_a_job_that_took_a_process_down_is_claimed_alone(stage: Stage) -> None:
    lose(stage, "x")
    stage.enqueue("y", "z")
    assert ids(stage.claim("a")) == ["x"]
    assert stage.waiting() == ["y", "z"]


def test_a_job_that_took_a_process_down_does_not_join_others(stage: Stage) -> None:
    lose(stage, "x")
    stage.enqueue("y", place="front")
    claim = stage.claim("a")
    assert (ids(claim), claim.state) == (["y"], "more")
    claim = stage.claim("a", in_hand=[(0, "y")])
    assert (ids(claim), claim.state) == ([], "blocked")
    assert stage.bell_rings()
    stage.settle("a", "y", 1)
    assert ids(stage.claim("a")) == ["x"]


def test_a_job_that_took_a_process_down_is_adopted_alone(stage: Stage) -> None:
    lose(stage, "x")
    stage.enqueue("y")
    stage.bring("a")
    assert ids(stage.claim("a")) == ["x"]
    assert ids(stage.claim("a")) == ["x"]


def test_a_job_that_took_a_process_down_is_alone_among_all_queues(two: Stage) -> None:
    lose(two, "x")
    two.enqueue("y", queue=1)
    claim = two.claim("a")
    assert (ids(claim), claim.company) == (["x"], "alone")
    assert ids(two.claim("a", in_hand=[(0, "x")], company="alone")) == []


def lose_together(stage: Stage, *job_ids: str, owner: str = "dead", **options: object) -> None:
    """Enqueue jobs and have them die with one process."""
    stage.enqueue(*job_ids, **options)
    stage.register(owner)
    assert ids(stage.claim(owner)) == list(job_ids)
    stage.bury(owner)


def test_those_of_a_first_death_run_together_once_more_and_beside_nobody_else(stage: Stage) -> None:
    lose_together(stage, "x", "y", "z")
    stage.enqueue("other")
    claim = stage.claim("a", 2)
    assert (ids(claim), claim.state, claim.company) == (["x", "y"], "blocked", "dead")
    assert ids(stage.claim("a", in_hand=[(0, "x")], company="dead")) == ["y", "z"]  # a reply was lost
    assert ids(stage.claim("a", in_hand=[(0, "x"), (0, "y"), (0, "z")], company="dead")) == []
    stage.bury("a")
    stage.register("b")
    assert ids(stage.claim("b")) == ["x"]  # after a second death each is alone


def test_those_of_two_deaths_do_not_run_together(stage: Stage) -> None:
    lose_together(stage, "1", "2", owner="d")
    stage.enqueue("3", "4", place="front")
    stage.register("e")
    assert ids(stage.claim("e", 1)) == ["4"]
    assert ids(stage.claim("e", 1, in_hand=[(0, "4")])) == ["3"]
    stage.bury("e")
    claim = stage.claim("a")
    assert (ids(claim), claim.company) == (["4", "3"], "e")
    stage.register("b")
    assert ids(stage.claim("b")) == ["1", "2"]


def test_the_owners_of_one_process_die_together(stage: Stage) -> None:
    lose_together(stage, "1", "2", owner="d+1")
    stage.enqueue("3", "4")
    stage.register("d", "e")
    assert ids(stage.claim("d", in_hand=[(0, "running elsewhere")])) == ["3", "4"]
    stage.bury("d")
    assert sorted(ids(stage.claim("a"))) == ["1", "2", "3", "4"]


def test_what_a_second_death_would_fail_is_alone(stage: Stage) -> None:
    lose_together(stage, "x", "y", fields={"loss_limit": 1})
    assert ids(stage.claim("a")) == ["x"]


def test_who_was_the_only_one_in_a_death_is_alone(stage: Stage) -> None:
    stage.enqueue("x", "y")
    stage.register("dead")
    stage.claim("dead")
    stage.bury("dead", blamed=[("x", 1)])
    assert "died_with" not in stage.job("x")
    assert ids(stage.claim("a")) == ["x"]


def test_a_requeue_forgets_the_death(stage: Stage) -> None:
    lose_together(stage, "x", "y")
    for job in stage.claim("a").jobs:
        stage.settle("a", job.id, job.run, "failed")
    stage.requeue("x")
    stage.enqueue("z")
    assert ids(stage.claim("a")) == ["x", "z"]
    assert "died_with" not in stage.job("x")


# --- a process that has others in hand looks past them ----------------------------------------


def test_those_behind_a_lost_job_are_taken_in_their_order(stage: Stage) -> None:
    stage.enqueue("running")
    stage.claim("a")
    lose_together(stage, "x", "y")
    stage.enqueue("1", "2", "gone", "3")
    stage.mark_canceled("gone")
    claim = stage.claim("a", 2, in_hand=[(0, "running")])
    assert (ids(claim), claim.state, claim.company) == (["1", "2"], "blocked", "others")
    assert stage.waiting() == ["x", "y", "gone", "3"]
    assert ids(stage.claim("a", in_hand=[(0, "running"), (0, "1"), (0, "2")])) == ["3"]
    assert (stage.waiting(), stage.index("canceled")) == (["x", "y"], ["gone"])
    assert stage.bell_rings()  # for those who are free
    stage.register("b")
    assert ids(stage.claim("b")) == ["x", "y"]
    assert "skipped_ms" not in stage.job("x")


def test_those_behind_many_lost_ones_are_taken_in_a_long_queue_too(stage: Stage) -> None:
    stage.enqueue("running")
    stage.claim("a")
    lost = [f"lost-{n}" for n in range(40)]
    lose_together_40(stage, lost)
    names = [str(n) for n in range(400)]
    stage.enqueue(*names)
    assert ids(stage.claim("a", 30, in_hand=[(0, "running")])) == names[:30]
    assert stage.waiting() == lost + names[30:]


def lose_together_40(stage: Stage, job_ids: list[str]) -> None:
    stage.enqueue(*job_ids)
    stage.register("dead")
    assert ids(stage.claim("dead", 40)) == job_ids
    stage.bury("dead")


def test_what_blmove_brought_and_must_not_run_here_goes_back_to_the_front(stage: Stage) -> None:
    stage.enqueue("running")
    stage.claim("a")
    lose(stage, "x")
    stage.enqueue("y")
    stage.bring("a")
    claim = stage.claim("a", in_hand=[(0, "running")])
    assert (ids(claim), claim.state) == (["y"], "blocked")
    assert (stage.waiting(), stage.counters("x")) == (["x"], (1, 1, 1))


def test_a_claim_looks_past_five_hundred_at_most(stage: Stage) -> None:
    stage.enqueue("running")
    stage.claim("a")
    names = [str(n) for n in range(700)]
    stage.enqueue(*names)
    for name in names[:600]:
        stage.client.hset(stage.keys.job(name), mapping={"lost": 2, "run": 2})
    stage.client.config_resetstat()
    claim = stage.claim("a", in_hand=[(0, "running")])
    assert (ids(claim), claim.state) == ([], "blocked")
    assert stage.client.info("commandstats")["cmdstat_hmget"]["calls"] < 1100
    assert stage.waiting() == names


def test_a_claim_looks_past_four_mebibytes_at_most(stage: Stage) -> None:
    stage.enqueue("running")
    stage.claim("a")
    for n in range(5):
        stage.enqueue(str(n), blob=bytes(KIB * KIB))
        stage.client.hset(stage.keys.job(str(n)), mapping={"lost": 2, "run": 2})
    stage.enqueue("y")
    assert ids(stage.claim("a", in_hand=[(0, "running")])) == []


def skipped_for_long(stage: Stage, queue: int = 0) -> None:
    """A lost job waits in a queue, and `a` has looked past it for ten seconds, with a job in hand."""
    stage.enqueue("running", queue=queue)
    stage.claim("a")
    stage.enqueue("x", queue=queue)
    stage.client.hset(stage.queues[queue].job("x"), mapping={"lost": 1, "run": 1})
    stage.claim("a", in_hand=[(queue, "running")])
    stage.let_skips_age(queue)


def test_after_ten_seconds_a_process_takes_nothing_until_it_is_free(two: Stage) -> None:
    skipped_for_long(two, 1)
    two.enqueue("y", queue=0)
    claim = two.claim("a", in_hand=[(1, "running")])
    assert (ids(claim), claim.state) == ([], "drain")
    # and then the lost one comes first, whatever the order
    settled = two.finish("a", settlement("running", 1, queue=1), want=10)
    assert (ids(settled.claim), settled.claim.company) == (["x"], "alone")
    two.settle("a", "x", 2, queue=1)
    claim = two.claim("a")
    assert (ids(claim), claim.state) == (["y"], "ok")
    assert not two.client.exists(two.queues[1].meta)


@pytest.mark.parametrize("fate", ["buried", "late"])
def test_only_one_process_drains_and_if_it_dies_the_next_one(stage: Stage, fate: str) -> None:
    skipped_for_long(stage)
    stage.register("b")
    stage.enqueue("1", place="front")
    assert stage.claim("b", 1, in_hand=[(0, "elsewhere")]).state == "drain"
    assert ids(stage.claim("a", 1, in_hand=[(0, "running")])) == ["1"]
    stage.enqueue("2")
    stage.bury("b") if fate == "buried" else stage.let_lease_run_out("b")
    assert stage.claim("a", in_hand=[(0, "running"), (0, "1")]).state == "drain"


def test_who_is_free_takes_what_was_skipped_for_too_long_from_behind_others(stage: Stage) -> None:
    skipped_for_long(stage)
    stage.enqueue("1", "2", place="front")
    stage.register("b")
    assert ids(stage.claim("b")) == ["x"]
    assert stage.waiting() == ["2", "1"]


def test_how_long_a_job_has_been_skipped_is_counted_in_all(stage: Stage) -> None:
    skipped_for_long(stage)
    since = stage.job("x")["skipped_ms"]
    stage.client.hdel(stage.keys.meta, "skipped")  # another job was named, and is gone
    assert stage.claim("a", in_hand=[(0, "running")]).state == "blocked"
    assert stage.job("x")["skipped_ms"] == since
    assert stage.claim("a", in_hand=[(0, "running")]).state == "drain"


def test_once_it_waits_no_more_nobody_drains(stage: Stage) -> None:
    skipped_for_long(stage)
    assert stage.claim("a", in_hand=[(0, "running")]).state == "drain"
    stage.cancel("x")
    stage.enqueue("y")
    claim = stage.claim("a", in_hand=[(0, "running")])
    assert (ids(claim), claim.state) == (["y"], "ok")
    assert not stage.client.exists(stage.keys.meta)


def test_while_the_next_one_waits_the_same_process_drains(stage: Stage) -> None:
    skipped_for_long(stage)
    assert stage.claim("a", in_hand=[(0, "running")]).state == "drain"
    stage.enqueue("x2")
    stage.client.hset(
        stage.keys.job("x2"), mapping={"lost": 1, "run": 1, "skipped_ms": stage.now_ms() - 20_000}
    )
    stage.register("b", "c")
    assert ids(stage.claim("b")) == ["x"]
    assert stage.claim("c", in_hand=[(0, "elsewhere")]).state == "blocked"
    assert stage.claim("c", in_hand=[(0, "elsewhere")]).state == "blocked"
    assert stage.claim("a", in_hand=[(0, "running")]).state == "drain"


def test_a_paused_queue_makes_nobody_drain(two: Stage) -> None:
    skipped_for_long(two, 1)
    two.pause(queue=1)
    two.enqueue("y", queue=0)
    assert ids(two.claim("a", in_hand=[(1, "running")])) == ["y"]


def test_what_an_old_request_claimed_for_another_company_is_handed_out_once_the_process_is_free(
    stage: Stage,
) -> None:
    lose_together(stage, "x", "y")
    stage.claim("a", 1)  # nobody heard of x
    stage.enqueue("running", place="front")
    stage.register("b")
    claim = stage.claim("a", in_hand=[(0, "running")])
    assert (ids(claim), claim.state) == ([], "drain")
    assert (stage.held("a"), stage.counters("x")) == (["x"], (2, 1, 1))
    assert ids(stage.claim("a", 1)) == ["x"]


def test_a_claim_stops_at_a_mebibyte(stage: Stage) -> None:
    for n in range(5):
        stage.enqueue(str(n), blob=bytes(400 * KIB))
    assert ids(stage.claim("a")) == ["0", "1", "2"]
    assert ids(stage.claim("a", in_hand=[(0, "0"), (0, "1"), (0, "2")])) == ["3", "4"]


def test_a_claim_that_stopped_at_a_mebibyte_leaves_the_lower_queues_alone(two: Stage) -> None:
    for n in range(4):
        two.enqueue(str(n), blob=bytes(400 * KIB))
    two.enqueue("low", queue=1)
    assert ids(two.claim("a")) == ["0", "1", "2"]


def test_one_payload_above_the_limit_is_claimed_all_the_same(stage: Stage) -> None:
    stage.enqueue("huge", blob=bytes(3 * KIB * KIB))
    stage.enqueue("y")
    assert ids(stage.claim("a")) == ["huge"]


def test_past_its_ttl_a_job_ends_at_claim(stage: Stage) -> None:
    stage.enqueue("x", ttl_ms=60_000)
    stage.wait("x", "w")
    stage.let_ttl_pass("x")
    assert stage.claim("a").jobs == []
    assert (stage.status("x"), stage.index("expired"), stage.waiting()) == ("expired", ["x"], [])
    assert stage.mailbox("w") == ["x"]
    assert stage.ttl_ms(stage.keys.job("x")) > 0


def test_past_its_ttl_a_job_that_was_brought_ends_too(stage: Stage) -> None:
    stage.enqueue("x", ttl_ms=60_000)
    stage.bring("a")
    stage.let_ttl_pass("x")
    assert stage.claim("a").jobs == []
    assert (stage.status("x"), stage.held("a")) == ("expired", [])


def test_a_job_that_is_given_back_unstarted_keeps_its_ttl(stage: Stage) -> None:
    stage.enqueue("x", ttl_ms=60_000)
    assert ids(stage.claim("a")) == ["x"]
    stage.settle("a", "x", 1, "release")
    assert "expires_ms" in stage.job("x")
    stage.let_ttl_pass("x")
    assert stage.claim("a").jobs == []
    assert stage.status("x") == "expired"


@pytest.mark.parametrize("has_started", [False, True])
def test_a_job_that_is_taken_back_keeps_its_ttl_unless_it_has_started(
    stage: Stage, has_started: bool
) -> None:
    stage.enqueue("x", ttl_ms=60_000)
    stage.claim("a")
    stage.bury("a", blamed=[("x", 1)] if has_started else [], is_spared=True)
    assert ("expires_ms" in stage.job("x")) != has_started


@pytest.mark.parametrize("seconds", [0, 0.001])
def test_a_retry_does_not_expire(stage: Stage, seconds: float) -> None:
    stage.enqueue("x", ttl_ms=60_000)
    stage.claim("a")
    stage.settle("a", "x", 1, "retry", seconds=seconds)
    assert "expires_ms" not in stage.job("x")


def test_before_its_ttl_has_passed_a_job_runs(stage: Stage) -> None:
    stage.enqueue("x", ttl_ms=60_000)
    assert ids(stage.claim("a")) == ["x"]


def test_canceled_payloads_are_cleared_away(stage: Stage) -> None:
    stage.enqueue("kept", "deleted", "y")
    stage.mark_canceled("kept")
    stage.mark_canceled("deleted", keep=False)
    assert ids(stage.claim("a")) == ["y"]
    assert stage.waiting() == []
    assert (stage.status("kept"), stage.index("canceled")) == ("canceled", ["kept"])
    assert stage.ttl_ms(stage.keys.job("kept")) > 0
    assert stage.client.get(stage.keys.payload("kept")) == payload("kept")
    assert stage.job("deleted") == {}


def test_one_claim_clears_away_a_hundred_at_most(stage: Stage) -> None:
    names = [str(n) for n in range(130)]
    stage.enqueue(*names, "last")
    for name in names:
        stage.mark_canceled(name)
    first = stage.claim("a")
    assert (first.state, first.jobs) == ("more", [])
    assert len(stage.waiting()) == 31
    assert ids(stage.claim("a")) == ["last"]


def test_a_paused_queue_hands_out_nothing(stage: Stage) -> None:
    stage.enqueue("x")
    stage.pause()
    claim = stage.claim("a")
    assert (claim.state, claim.jobs, claim.pause) == ("paused", [], None)
    stage.bell_rings()
    stage.claim("a")
    assert not stage.bell_rings()


def test_a_pause_for_a_time_says_how_long(stage: Stage) -> None:
    stage.enqueue("x")
    stage.pause(30)
    pause = stage.claim("a").pause
    assert pause is not None
    assert 25 < pause <= 30
    stage.client.hset(stage.keys.meta, "paused", stage.now_ms() - 1)
    assert ids(stage.claim("a")) == ["x"]


def test_what_blmove_brought_from_a_paused_queue_goes_back_to_the_front(stage: Stage) -> None:
    stage.enqueue("x", "y", "z")
    stage.bring("a")
    stage.bring("a")
    stage.pause()
    assert stage.claim("a").state == "paused"
    assert (stage.waiting(), stage.held("a")) == (["x", "y", "z"], [])
    assert stage.counters("x") == (0, 0, 0)


def test_what_was_claimed_before_the_pause_is_redelivered(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    stage.pause()
    assert ids(stage.claim("a")) == ["x"]


def test_resuming_rings(stage: Stage) -> None:
    stage.enqueue("x")
    stage.pause()
    stage.bell_rings()
    assert stage.resume()
    assert stage.bell_rings()
    assert ids(stage.claim("a")) == ["x"]
    assert not stage.resume()


def test_one_paused_queue_does_not_stop_the_other(two: Stage) -> None:
    two.enqueue("x", queue=0)
    two.enqueue("y", queue=1)
    two.pause(queue=0)
    claim = two.claim("a")
    assert (claim.state, ids(claim)) == ("ok", ["y"])


def test_of_two_pauses_the_shorter_counts(two: Stage) -> None:
    two.pause(60, queue=0)
    two.pause(20, queue=1)
    pause = two.claim("a").pause
    assert pause is not None
    assert 15 < pause <= 20


def test_a_note_is_written_for_the_run_that_holds_the_job(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    assert stage.send(commands.note(stage.keys, "x", {"meta": "1"}, run=1))
    assert not stage.send(commands.note(stage.keys, "x", {"meta": "2"}, run=2))
    assert stage.send(commands.note(stage.keys, "x", {"progress": "3"}))
    assert (stage.job("x")["meta"], stage.job("x")["progress"]) == ("1", "3")


def test_a_note_never_creates_a_record(stage: Stage) -> None:
    assert not stage.send(commands.note(stage.keys, "x", {"meta": "1"}))
    assert stage.job("x") == {}


def test_a_foreign_job_is_still_introduced_when_the_reply_of_its_claim_was_lost(stage: Stage) -> None:
    stage.client.lpush(stage.keys.queue, payload("foreign"))
    [lost] = stage.claim("a", 1).jobs
    [again] = stage.claim("a", 1).jobs
    assert (lost.has_record, again.has_record) == (False, False)
    assert again.run == lost.run


def test_a_claim_of_a_long_queue_takes_what_is_next_and_reads_no_range_of_it(stage: Stage) -> None:
    names = [str(n) for n in range(300)]
    stage.enqueue(*names)
    stage.client.config_resetstat()
    assert ids(stage.claim("a", 20)) == names[:20]
    assert stage.waiting() == names[20:]
    # of the processing list; Redis 6.2 walks a list from its head to the start of a range
    if stage.client.info("server")["redis_version"].startswith("6."):
        assert stage.client.info("commandstats")["cmdstat_lrange"]["calls"] == 2
        assert stage.client.info("commandstats")["cmdstat_lindex"]["calls"] == 20
