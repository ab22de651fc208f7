"""Setting aside: a key that cannot be read stops no queue, and its job comes back once it is mended."""

from __future__ import annotations

import pytest
from stage import Stage, ids, settlement

from minirq.connection import connect
from minirq.exceptions import AccessDenied, ServerFault
from minirq.protocol import commands

WRONGTYPE = "one of its keys is of another type (WRONGTYPE)"
NO_NUMBER = "a field of its record is no number"

BREAKS = pytest.mark.parametrize(
    ("wound", "why"),
    [
        ("job", WRONGTYPE),
        ("run", NO_NUMBER),
        ("attempts", NO_NUMBER),
        ("lost", NO_NUMBER),
        ("expires_ms", NO_NUMBER),
    ],
)


def hurt(stage: Stage, job_id: str, wound: str) -> None:
    """Break a key of a job, or a field of its record."""
    if wound in ("job", "errors"):
        key = stage.keys.job(job_id) if wound == "job" else stage.keys.errors(job_id)
        stage.client.delete(key)
        stage.client.set(key, "x")
    elif wound == "payload":
        stage.client.delete(stage.keys.payload(job_id))
        stage.client.lpush(stage.keys.payload(job_id), "x")
    else:
        stage.client.hset(stage.keys.job(job_id), wound, "y")
        stage.client.hsetnx(stage.keys.job(job_id), "run", 1)  # what never ran is not asked for the others


def mend(stage: Stage, job_id: str, wound: str) -> None:
    if wound in ("job", "errors"):
        stage.client.delete(stage.keys.job(job_id) if wound == "job" else stage.keys.errors(job_id))
    else:
        stage.client.hdel(stage.keys.job(job_id), wound)


def is_aside(stage: Stage, job_id: str, wound: str) -> bool:
    """Whether it is in the index, with its payload, and nowhere else."""
    has_payload = stage.ttl_ms(stage.keys.payload(job_id)) == -1
    is_named = wound == "job" or (stage.status(job_id), stage.ttl_ms(stage.keys.job(job_id))) == (
        "unknown",
        -1,
    )
    return is_named and has_payload and stage.index("unknown") == [job_id] and job_id not in stage.waiting()


def claimed(stage: Stage, owner: str = "a") -> tuple[list[str], list[commands.SetAside]]:
    """Claim as a worker does: again while there is more."""
    got: list[str] = []
    aside: list[commands.SetAside] = []
    state = "more"
    while state == "more":
        settled = stage.finish(owner, want=10, in_hand=[(0, job_id) for job_id in got])
        got += ids(settled.claim)
        aside += settled.aside
        state = settled.claim.state
    return got, aside


@BREAKS
@pytest.mark.parametrize("is_brought", [False, True])
def test_a_claim_sets_aside_what_it_cannot_read_and_goes_on(
    stage: Stage, wound: str, why: str, is_brought: bool
) -> None:
    stage.enqueue("before", "x", "after")
    if is_brought:
        for _ in range(3):
            stage.bring("a")
    hurt(stage, "x", wound)
    got, aside = claimed(stage)
    assert got == ["before", "after"]
    assert aside == [commands.SetAside("q", "x", why)]
    assert is_aside(stage, "x", wound)
    assert stage.held("a") == ["before", "after"]


@BREAKS
def test_what_was_set_aside_comes_back_once_it_is_mended(stage: Stage, wound: str, why: str) -> None:
    stage.enqueue("x")
    hurt(stage, "x", wound)
    claimed(stage)
    mend(stage, "x", wound)
    assert stage.requeue("x") == "requeued"
    assert (stage.index("unknown"), stage.client.exists(stage.keys.payload("x"))) == ([], 0)
    assert claimed(stage) == (["x"], [])
    run = int(stage.job("x")["run"])
    assert stage.settle("a", "x", run) == 1


def test_a_requeue_whose_reply_was_lost_acts_once_without_a_record_too(stage: Stage) -> None:
    stage.enqueue("x")
    hurt(stage, "x", "job")
    claimed(stage)
    mend(stage, "x", "job")
    call = commands.requeue(stage.keys, "x")
    assert [stage.send(call), stage.send(call)] == ["requeued", "requeued"]
    assert stage.waiting() == ["x"]


def test_many_broken_ones_are_set_aside_and_those_behind_them_run(stage: Stage) -> None:
    broken = [f"x{n}" for n in range(40)]
    stage.enqueue(*broken, "good")
    for job_id in broken:
        hurt(stage, job_id, "job")
    got, aside = claimed(stage)
    assert (got, [one.id for one in aside]) == (["good"], broken)


@pytest.mark.parametrize(
    ("wound", "why", "verb"),
    [
        ("job", WRONGTYPE, "finished"),
        ("run", NO_NUMBER, "finished"),
        ("attempts", NO_NUMBER, "finished"),
        ("lost", NO_NUMBER, "finished"),
        ("errors", WRONGTYPE, "failed"),
        ("errors", WRONGTYPE, "retry"),
        ("errors", WRONGTYPE, "miss"),
    ],
)
def test_a_settlement_that_cannot_be_recorded_sets_its_job_aside_and_the_batch_goes_on(
    stage: Stage, wound: str, why: str, verb: str
) -> None:
    stage.enqueue("1", "x", "2")
    stage.client.hset(stage.keys.job("x"), "run", 1)  # it has run before
    stage.claim("a", 3)
    hurt(stage, "x", wound)
    settled = stage.finish("a", settlement("1", 1), settlement("x", 2, verb), settlement("2", 1), want=1)
    assert settled.codes == [1, 5, 1]
    assert settled.aside == [commands.SetAside("q", "x", why)]
    assert is_aside(stage, "x", wound)
    assert (stage.held("a"), stage.index("finished")) == ([], ["1", "2"])


def test_a_run_that_holds_nothing_sets_nothing_aside(stage: Stage) -> None:
    stage.enqueue("x")
    stage.claim("a")
    stage.bury("a")
    hurt(stage, "x", "job")
    settled = stage.finish("a", settlement("x", 1))
    assert (settled.codes, list(settled.aside)) == ([0], [])


@pytest.mark.parametrize(
    ("wound", "why"),
    [("job", WRONGTYPE), ("lost", NO_NUMBER), ("loss_limit", NO_NUMBER), ("errors", WRONGTYPE)],
)
def test_what_is_taken_back_and_cannot_be_read_is_set_aside(stage: Stage, wound: str, why: str) -> None:
    stage.enqueue("1", "x", "2")
    stage.claim("a", 3)
    hurt(stage, "x", wound)
    taken = {job.id: (job.fate, job.why) for job in stage.bury("a")}
    assert taken == {"1": ("queued", ""), "x": ("unknown", why), "2": ("queued", "")}
    assert is_aside(stage, "x", wound)
    assert stage.held("a") == []


@pytest.mark.parametrize("wound", ["job", "payload"])
def test_what_is_due_and_cannot_be_read_is_set_aside(stage: Stage, wound: str) -> None:
    stage.enqueue("1", "x", "2", place="delay", ms=60_000)
    hurt(stage, "x", wound)
    stage.make_due("1", "x", "2")
    assert stage.promote().aside == [commands.SetAside("q", "x", WRONGTYPE)]
    assert (stage.waiting(), stage.index("scheduled"), stage.index("unknown")) == (["1", "2"], [], ["x"])


def test_a_delayed_job_whose_payload_cannot_be_read_is_not_canceled_halfway(stage: Stage) -> None:
    stage.enqueue("x", place="delay", ms=60_000)
    hurt(stage, "x", "payload")
    with pytest.raises(ServerFault, match="WRONGTYPE"):
        stage.cancel("x")
    assert (stage.status("x"), stage.index("scheduled")) == ("scheduled", ["x"])


@pytest.mark.parametrize("keep", [False, True])
def test_what_was_set_aside_can_be_canceled_and_deleted(stage: Stage, keep: bool) -> None:
    stage.enqueue("x")
    hurt(stage, "x", "lost")
    claimed(stage)
    mend(stage, "x", "lost")
    assert stage.cancel("x", keep=keep) == "unknown"
    assert stage.status("x") == ("canceled" if keep else None)
    assert stage.index("unknown") == []


@pytest.mark.parametrize("place", ["queue", "unknown"])
def test_what_cannot_be_read_is_deleted_with_its_queue(stage: Stage, place: str) -> None:
    stage.enqueue("x")
    hurt(stage, "x", "job")
    if place == "unknown":
        claimed(stage)
    assert stage.empty(place) == 1
    assert stage.client.keys("*:x") == []


def test_nothing_is_noted_in_a_record_of_another_type(stage: Stage) -> None:
    stage.enqueue("x")
    hurt(stage, "x", "job")
    assert not stage.send(commands.note(stage.keys, "x", {"meta": b"m"}))


def test_a_waiter_that_cannot_be_told_stops_nothing(stage: Stage) -> None:
    stage.enqueue("x")
    stage.wait("x", "w")
    stage.client.set(stage.keys.mailbox("w"), "x")
    stage.claim("a")
    assert stage.settle("a", "x", 1) == 1


def test_an_error_that_is_not_about_a_job_is_raised(stage: Stage) -> None:
    stage.enqueue("x", ttl_ms=60_000)
    stage.let_ttl_pass("x")
    stage.client.set(stage.keys.index("expired"), "x")
    with pytest.raises(ServerFault, match="WRONGTYPE"):
        stage.claim("a")
    assert (stage.waiting(), stage.index("unknown")) == (["x"], [])


def test_a_right_that_the_user_lacks_sets_nothing_aside(stage: Stage, redis_url: str) -> None:
    stage.enqueue("x")
    stage.claim("a")
    stage.client.execute_command(
        "ACL", "SETUSER", "no-lpush", "reset", "on", ">pw", "~*", "&*", "+@all", "-lpush"
    )
    try:
        url = f"unix://no-lpush:pw@{redis_url.removeprefix('unix://')}"
        with connect(url) as client, pytest.raises(AccessDenied):
            Stage(client, "q").settle("a", "x", 1, "failed")
        assert (stage.held("a"), stage.index("unknown")) == (["x"], [])
    finally:
        stage.client.execute_command("ACL", "DELUSER", "no-lpush")
