"""Enqueueing: once per call, never over a live job, and an ended job's id starts again."""

from __future__ import annotations

import pytest
import redis as redis_py
from stage import Stage, ids, new_job, payload

from minirq.connection import connect
from minirq.exceptions import QueueFull
from minirq.protocol import commands
from minirq.protocol.commands import Enqueued


def test_a_job_waits_and_says_so(stage: Stage) -> None:
    (enqueued,) = stage.enqueue("x", fields={"func": "app.function"})
    assert enqueued == Enqueued(is_new=True)
    assert stage.waiting() == ["x"]
    job = stage.job("x")
    assert (job["status"], job["func"]) == ("queued", "app.function")
    assert abs(int(job["created_ms"]) - stage.now_ms()) < 5000
    assert stage.bell_rings()


def test_the_bell_is_rung_for_the_first_job_of_an_empty_queue(stage: Stage) -> None:
    """Claim rings while jobs remain, so that producers need not."""
    for place in ("queue", "front"):
        stage.client.delete(stage.keys.queue)
        stage.enqueue(f"{place}-1", f"{place}-2", place=place)
        assert stage.bell_rings()
        stage.enqueue(f"{place}-3", place=place)
        assert not stage.bell_rings()


def test_the_same_call_sent_twice_enqueues_once(stage: Stage) -> None:
    stage.enqueue("x", nonce="call-1")
    (again,) = stage.enqueue("x", nonce="call-1")
    assert again.is_new
    assert stage.waiting() == ["x"]


def test_a_generated_id_needs_no_nonce_to_be_sent_twice(stage: Stage) -> None:
    stage.enqueue("x")
    (again,) = stage.enqueue("x")
    assert again.is_new
    assert stage.waiting() == ["x"]


def test_a_call_sent_again_after_its_job_has_ended_does_not_run_it_again(stage: Stage) -> None:
    stage.enqueue("x", nonce="call-1")
    stage.claim("a")
    stage.settle("a", "x", 1)
    (again,) = stage.enqueue("x", nonce="call-1")
    assert again.is_new
    assert stage.status("x") == "finished"
    assert stage.waiting() == []


TEN_MINUTES_MS = 600_000


@pytest.mark.parametrize("when", ["ended", "waits", "canceled"])
def test_a_call_that_was_sent_twice_is_known_for_ten_minutes(stage: Stage, when: str) -> None:
    def call() -> Enqueued:
        return stage.enqueue("x", nonce="call-1", fields={"failure_ttl_ms": 0})[0]

    call()
    stage.wait("x", "w")
    if when != "ended":
        assert call().is_new
        assert call().is_new
    if when == "canceled":
        stage.mark_canceled("x")
        assert stage.mailbox("w") == ["x"]
        stage.claim("a")
    else:
        stage.claim("a")
        stage.settle("a", "x", 1, blob=b"result", seconds=0)
        assert stage.mailbox("w") == ["x"]
    if when == "ended":
        assert call().is_new
    assert TEN_MINUTES_MS - 5000 < stage.ttl_ms(stage.keys.job("x")) <= TEN_MINUTES_MS
    assert stage.client.keys("*mailbox:+*") == []
    assert call().is_new
    assert stage.waiting() == []


def test_a_call_that_may_be_forgotten_enqueues_nothing_that_is_not_known(stage: Stage) -> None:
    def late(*job_ids: str) -> list[tuple[bool, bool]]:
        replies = stage.send(commands.enqueue(stage.keys, [new_job(name) for name in job_ids], age=3600))
        return [(reply.is_new, reply.is_being_cleared) for reply in replies]

    assert late("x", "y") == [(False, True), (False, True)]
    assert stage.client.keys("*job:*") == []
    stage.enqueue("y")
    assert late("y") == [(True, False)]
    assert late("x", "y") == [(True, False), (True, False)], "it had enqueued both, and one was forgotten"
    assert stage.waiting() == ["y"]


def test_errors_outlast_no_life(stage: Stage) -> None:
    for record in ("runs out", "runs out", "is kept"):
        stage.fail("x", nonce=record)
        stage.requeue("x")
        assert (stage.errors("x"), stage.ttl_ms(stage.keys.errors("x")) > 0) == (["no"], True)
        if record == "runs out":
            stage.client.delete(stage.keys.job("x"), stage.keys.queue)
    (job,) = stage.claim("a").jobs
    stage.settle("a", "x", job.run, "retry")
    assert (len(stage.errors("x")), stage.ttl_ms(stage.keys.errors("x"))) == (2, -1), "the job lives"
    stage.client.delete(stage.keys.job("x"))  # as with a payload that somebody pushed
    stage.claim("a")
    assert stage.errors("x") == []


@pytest.mark.parametrize("live", ["queued", "started", "scheduled"])
def test_a_live_id_is_left_alone(stage: Stage, live: str) -> None:
    stage.enqueue("x", nonce="call-1", blob=b"old", place="delay", ms=60_000 if live == "scheduled" else 0)
    if live == "started":
        stage.claim("a")
    before = stage.job("x")
    (enqueued,) = stage.enqueue("x", nonce="call-2", blob=b"new")
    assert enqueued == Enqueued(is_new=False, status=live)
    assert stage.job("x") == before
    assert len(stage.waiting()) == (live == "queued")


def test_an_ended_id_is_replaced_and_its_run_goes_on(stage: Stage) -> None:
    stage.fail("x", nonce="call-1", fields={"meta": "old"})
    (enqueued,) = stage.enqueue("x", nonce="call-2", blob=b"new")
    assert enqueued.is_new
    assert stage.counters("x") == (1, 0, 0)
    assert "meta" not in stage.job("x")
    assert stage.index("failed") == []
    assert stage.errors("x") == []
    assert stage.ttl_ms(stage.keys.job("x")) == -1
    assert stage.ttl_ms(stage.keys.payload("x")) == -2
    (job,) = stage.claim("a").jobs
    assert (job.payload, job.run) == (payload("x", b"new"), 2)


def test_a_late_request_of_the_earlier_life_cannot_settle_the_new_one(stage: Stage) -> None:
    stage.fail("x", nonce="call-1")
    stage.enqueue("x", nonce="call-2")
    stage.claim("a")
    assert stage.settle("a", "x", 1) == 0
    assert stage.status("x") == "started"


def test_an_id_canceled_while_it_waits_is_free_only_once_its_payload_is_gone(stage: Stage) -> None:
    stage.enqueue("x", nonce="call-1")
    stage.mark_canceled("x")
    (refused,) = stage.enqueue("x", nonce="call-2")
    assert refused == Enqueued(is_new=False, status="canceled", is_being_cleared=True)
    stage.cancel("x")
    (accepted,) = stage.enqueue("x", nonce="call-3")
    assert accepted.is_new
    assert stage.waiting() == ["x"]


@pytest.mark.parametrize("doom", ["deleted", "canceled", "stopped", "expired"])
def test_an_id_that_is_about_to_vanish_is_refused(stage: Stage, doom: str) -> None:
    stage.enqueue("x", nonce="call-1", ttl_ms=60_000)
    if doom == "expired":
        stage.let_ttl_pass("x")
    else:
        stage.claim("a")
        stage.stop("x") if doom == "stopped" else stage.cancel("x", keep=doom == "canceled")
    before = stage.job("x"), stage.waiting()
    status = "queued" if doom == "expired" else "started"
    _, refused = stage.enqueue("other", "x", nonce="call-2")
    assert refused == Enqueued(is_new=False, status=status, is_being_cleared=True)
    assert (stage.job("x"), stage.waiting()) == before, "the whole call is refused"
    (again,) = stage.enqueue("x", nonce="call-1")
    assert again.is_new, "the same call sent twice"
    stage.claim("a") if doom == "expired" else stage.settle("a", "x", 1, "release")
    (accepted,) = stage.enqueue("x", nonce="call-3")
    assert accepted.is_new
    assert ids(stage.claim("a")) == ["x"]


def both(stage: Stage, order: str) -> None:
    """Put an older payload of x beside its new one: it comes first, or last."""
    if order == "old first":
        stage.client.lpush(stage.keys.queue, payload("x", b"old"))
    stage.enqueue("x", nonce="call-2", blob=b"new")
    if order == "new first":
        stage.client.lpush(stage.keys.queue, payload("x", b"old"))
    assert stage.waiting() == ["x", "x"]


ORDERS = pytest.mark.parametrize("order", ["old first", "new first"])
NEW = payload("x", b"new")


@ORDERS
@pytest.mark.parametrize("brought", [0, 1, 2])
def test_an_older_payload_never_runs_under_a_new_record(stage: Stage, order: str, brought: int) -> None:
    both(stage, order)
    for _ in range(brought):
        stage.bring("a")
    jobs = [*stage.claim("a").jobs, *stage.claim("a", in_hand=[(0, "x")]).jobs]
    assert [(job.payload, job.run) for job in jobs] == [(NEW, 1)]
    assert stage.settle("a", "x", 1) == 1
    stage.claim("a")
    assert (stage.waiting(), stage.held("a"), stage.index("expired")) == ([], [], [])
    assert stage.client.get(stage.keys.payload("x")) == NEW


@ORDERS
def test_an_older_payload_is_not_kept_for_a_new_one(stage: Stage, order: str) -> None:
    both(stage, order)
    stage.bring("a")
    stage.bring("a")
    (job,) = stage.claim("a").jobs
    stage.client.lpush(stage.keys.processing("a"), payload("x", b"old"))
    stage.client.rpush(stage.keys.processing("a"), payload("x", b"old"))
    assert stage.settle("a", "x", job.run, "failed") == 1
    assert stage.client.get(stage.keys.payload("x")) == NEW


@ORDERS
@pytest.mark.parametrize("is_claimed", [False, True])
def test_an_older_payload_is_not_taken_back(stage: Stage, order: str, is_claimed: bool) -> None:
    both(stage, order)
    stage.register("dead")
    stage.bring("dead")
    stage.bring("dead")
    if is_claimed:
        stage.claim("dead")
        stage.client.lpush(stage.keys.processing("dead"), payload("x", b"old"))
    assert [job.fate for job in stage.bury("dead")] == ["queued"]
    assert [job.payload for job in stage.claim("a").jobs] == [NEW]


@ORDERS
def test_an_older_payload_is_not_what_is_canceled(stage: Stage, order: str) -> None:
    both(stage, order)
    stage.cancel("x")
    stage.claim("a")
    assert stage.status("x") == "canceled"
    assert stage.client.get(stage.keys.payload("x")) == NEW
    assert stage.waiting() == []


def test_jobs_run_in_the_order_in_which_they_came(stage: Stage) -> None:
    stage.enqueue("1", "2")
    stage.enqueue("3")
    assert ids(stage.claim("a")) == ["1", "2", "3"]


def test_at_front_comes_next(stage: Stage) -> None:
    stage.enqueue("1", "2")
    stage.enqueue("urgent", place="front")
    assert ids(stage.claim("a")) == ["urgent", "1", "2"]


def test_a_delayed_job_is_parked_until_its_time(stage: Stage) -> None:
    before_ms = stage.now_ms()
    stage.enqueue("x", place="delay", ms=60_000)
    assert stage.status("x") == "scheduled"
    assert stage.waiting() == []
    assert stage.client.get(stage.keys.payload("x")) == payload("x")
    due_ms = stage.client.zscore(stage.keys.index("scheduled"), "x")
    assert before_ms + 60_000 <= due_ms <= stage.now_ms() + 60_000
    assert not stage.bell_rings()


def test_a_time_in_the_past_is_now(stage: Stage) -> None:
    stage.enqueue("x", place="at", ms=stage.now_ms() - 1000)
    assert stage.waiting() == ["x"]


def test_the_chores_are_told_of_a_delayed_job_only_when_it_is_the_earliest(stage: Stage) -> None:
    with stage.client.pubsub(ignore_subscribe_messages=True) as ears:
        ears.subscribe("minirq-test:chores")
        ears.get_message(timeout=1)
        for name, ms in (("later", 90_000), ("latest", 99_000), ("earliest", 60_000)):
            stage.enqueue(name, place="delay", ms=ms)
        heard = [ears.get_message(timeout=0.2) for _ in range(3)]
    assert [message["data"] for message in heard if message] == [b"q", b"q"]


def test_a_user_without_channels_delays_jobs(stage: Stage, redis_url: str) -> None:
    """Redis 7 makes such users by default."""
    stage.client.execute_command(
        *["ACL", "SETUSER", "mute", "reset", "on", ">pw", "~*", "resetchannels", "+@all"]
    )
    try:
        with connect(f"unix://mute:pw@{redis_url.removeprefix('unix://')}") as client:
            mute = Stage(client, "q")
            mute.enqueue("x", place="delay", ms=60_000)
            mute.enqueue("y")
            mute.claim("a")
            assert mute.settle("a", "y", 1, "retry", seconds=90) == 1
    finally:
        stage.client.execute_command("ACL", "DELUSER", "mute")
    assert stage.index("scheduled") == ["x", "y"]
    assert stage.held("a") == []


def test_a_ttl_counts_from_when_the_job_may_run(stage: Stage) -> None:
    before_ms = stage.now_ms()
    stage.enqueue("x", place="delay", ms=60_000, ttl_ms=5000)
    assert 0 <= int(stage.job("x")["expires_ms"]) - before_ms - 65_000 < 5000


def test_many_jobs_are_enqueued_in_one_call(stage: Stage) -> None:
    stage.enqueue("known")
    jobs = [new_job("1"), new_job("known", nonce="other"), new_job("2", place="delay", ms=60_000)]
    replies = stage.send(commands.enqueue(stage.keys, jobs))
    assert [reply.is_new for reply in replies] == [True, False, True]
    assert stage.waiting() == ["known", "1"]
    assert stage.index("scheduled") == ["2"]


@pytest.fixture
def full(stage: Stage, redis: redis_py.Redis) -> redis_py.Redis:
    """A server that has reached maxmemory; release it with `config_set("maxmemory", 0)`."""
    stage.fail("ended", nonce="call-1")
    stage.enqueue("1", "2", "3", "4", "canceled")
    stage.enqueue("due", place="delay", ms=60_000)
    stage.make_due("due")
    stage.claim("a", 2)
    stage.register("dead")
    stage.bring("dead")
    redis.config_set("maxmemory", 1)
    yield redis
    redis.config_set("maxmemory", 0)


@pytest.mark.parametrize("jobs", [("new",), ("new", "ended"), ("ended", "new")])
def test_at_maxmemory_enqueue_is_refused_whole(
    stage: Stage, full: redis_py.Redis, jobs: tuple[str, ...]
) -> None:
    before = stage.job("ended")
    with pytest.raises(QueueFull):
        stage.enqueue(*jobs, nonce="call-2")
    assert stage.waiting() == ["4", "canceled"]
    assert stage.status("new") is None
    assert stage.job("ended") == before


@pytest.mark.usefixtures("full")
def test_at_maxmemory_every_other_script_works(stage: Stage) -> None:
    assert stage.wait("1", "w") == "started"
    assert stage.send(commands.note(stage.keys, "1", {"meta": "m"}, run=1))
    assert stage.settle("a", "1", 1, blob=b"result") == 1
    assert stage.mailbox("w") == ["1"]
    assert stage.settle("a", "2", 1, "retry") == 1
    assert stage.promote().moved == 1
    assert stage.cancel("canceled") == "queued"
    assert [job.fate for job in stage.bury("dead")] == ["queued"]
    assert stage.sweep().taken == []
    assert stage.requeue("ended") == "requeued"
    assert stage.register("b").lost == frozenset()
    assert stage.beat("a").lost == frozenset()
    assert stage.pause()
    assert stage.claim("a").state == "paused"
    assert stage.resume()
    assert ids(stage.claim("b", 1)) == ["3"]
    assert stage.empty("queue") == 4
    assert stage.empty("canceled") == 1
