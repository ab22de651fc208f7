"""A queue: putting jobs in, looking at them, clearing it."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

import jobs
import pytest
import redis as redis_py
from support.waits import until

from minirq import Job, JobStatus, Queue, Retry, SimpleWorker
from minirq.connection import errors
from minirq.exceptions import (
    ConfigError,
    InvalidJobOperation,
    InvalidOption,
    MinirqError,
    QueueFull,
    SerializationError,
    ServerUnavailable,
    TimeoutFormatError,
    UnnamedFunction,
    UnsuitableServer,
)


def test_a_queue_connects_when_it_is_first_used() -> None:
    queue = Queue(connection="redis://127.0.0.1:1")
    with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"):
        queue.enqueue(jobs.add, 1)


def test_a_server_that_is_away_is_waited_for_as_long_as_the_queue_says(
    monkeypatch: pytest.MonkeyPatch, redis: redis_py.Redis
) -> None:
    away = "redis://127.0.0.1:1"

    def waited(patience: float | str | None = None) -> float:
        began = time.monotonic()
        with pytest.raises(ServerUnavailable):
            Queue(connection=away, patience=patience).enqueue(jobs.add, 1)
        return time.monotonic() - began

    assert waited(0) < 0.2
    assert 0.2 < waited("500ms") < 1
    monkeypatch.setattr(errors, "PATIENCE", 1.5)
    monkeypatch.setattr(errors, "PATIENCE_AT_FIRST", 0.3)
    monkeypatch.setattr(errors, "_has_worked", False)
    assert waited() < 0.4
    assert Queue(connection=redis).count == 0
    assert 0.6 < waited() < 1.6
    monkeypatch.setenv("MINIRQ_PATIENCE", "0")
    assert waited() < 0.2
    with pytest.raises(InvalidOption, match="patience"):
        Queue(patience="soon")


def test_jobs_wait_in_the_order_in_which_they_came(queue: Queue) -> None:
    ids = [queue.enqueue(jobs.add, n).id for n in range(3)]
    first = queue.enqueue(jobs.add, 9, at_front=True)
    assert queue.job_ids == [first.id, *ids]
    assert [job.args for job in queue.jobs] == [(9,), (0,), (1,), (2,)]
    assert (queue.count, len(queue), queue.is_empty()) == (4, 4, False)
    assert [job.id for job in queue.get_jobs(1, 2)] == ids[:2]
    assert queue.get_job_ids(3) == ids[2:]
    assert queue.get_jobs(0, 0) == []
    assert queue.get_job_position(ids[1]) == 2
    assert Job.fetch(ids[1], queue.connection).get_position() == 2


def test_an_id_that_is_not_given_is_a_random_uuid(queue: Queue) -> None:
    ids = [queue.enqueue(jobs.add, n).id for n in range(20)]
    assert all(str(uuid.UUID(job_id)) == job_id for job_id in ids)
    assert {(uuid.UUID(job_id).version, uuid.UUID(job_id).variant) for job_id in ids} == {(4, uuid.RFC_4122)}
    assert len(set(ids)) == 20


def test_reserved_keywords_are_not_the_functions(queue: Queue) -> None:
    job = queue.enqueue(
        jobs.echo,
        1,
        timeout=7,
        job_timeout="10m",
        result_ttl=5,
        ttl="1h",
        failure_ttl=60,
        description="d",
        job_id="j",
        meta={"a": 1},
        retry=Retry(2),
    )
    job = Job.fetch("j", queue.connection)
    assert (job.args, job.kwargs) == ((1,), {"timeout": 7})
    assert (job.timeout, job.description, job.meta) == (600, "d", {"a": 1})


def test_arguments_that_collide_are_given_with_args_and_kwargs(queue: Queue) -> None:
    job = queue.enqueue(jobs.echo, args=(1,), kwargs={"job_id": 2, "args": 3}, job_id="outer")
    SimpleWorker([queue]).work(burst=True)
    assert job.id == "outer"
    assert job.result == [[1], {"job_id": 2, "args": 3}]


def test_args_and_plain_arguments_together_are_refused(queue: Queue) -> None:
    with pytest.raises(InvalidOption, match="either"):
        queue.enqueue(jobs.echo, 1, args=(2,))


def test_enqueue_call_names_everything(queue: Queue) -> None:
    job = queue.enqueue_call(jobs.add, args=(1,), kwargs={"b": 2}, timeout=5, job_id="x")
    assert (job.id, job.timeout, job.args, job.kwargs) == ("x", 5, (1,), {"b": 2})


def test_many_jobs_are_enqueued_in_one_call_and_in_order(queue: Queue) -> None:
    calls_before = queue.connection.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    made = queue.enqueue_many([Queue.prepare_data(jobs.add, (n,)) for n in range(500)])
    assert [job.id for job in made] == queue.job_ids
    calls = queue.connection.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls - calls_before <= 2  # the first one may find the script not loaded yet
    assert [job.args for job in made[:2]] == [(0,), (1,)]


def test_more_jobs_than_fit_in_a_call_are_all_enqueued(queue: Queue) -> None:
    made = queue.enqueue_many(Queue.prepare_data(jobs.add, (n,)) for n in range(2500))
    assert len(made) == queue.count == 2500


def test_nothing_is_enqueued_when_there_is_nothing(queue: Queue) -> None:
    assert queue.enqueue_many([]) == []


def test_an_id_that_lives_is_left_alone_and_an_ended_one_starts_anew(queue: Queue) -> None:
    queue.enqueue(jobs.add, 1, job_id="one")
    again = queue.enqueue(jobs.add, 2, job_id="one")
    assert queue.count == 1
    assert again.args == (1,)
    SimpleWorker([queue]).work(burst=True)
    anew = queue.enqueue(jobs.add, 3, job_id="one")
    assert anew.get_status() == JobStatus.QUEUED
    SimpleWorker([queue]).work(burst=True)
    assert anew.result == 3


def test_delays_and_times(queue: Queue) -> None:
    in_an_hour = queue.enqueue_in(timedelta(hours=1), jobs.add, 1, job_id="in")
    at_a_time = queue.enqueue_at(datetime.now(UTC) + timedelta(days=1), jobs.add, 2)
    assert in_an_hour.get_status() == at_a_time.get_status() == JobStatus.SCHEDULED
    assert in_an_hour.enqueued_at is None
    assert in_an_hour.args == (1,)
    assert queue.count == 0


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (lambda: None, "lambda"),
        (jobs.Greeter().greet, "pickle"),
        ("no spaces allowed", "no spaces"),
        ("", "dotted"),
        (5, "int"),
    ],
)
def test_what_a_worker_could_not_find_is_refused_with_the_way_out(
    queue: Queue, function: object, hint: str
) -> None:
    with pytest.raises(MinirqError, match=hint):
        queue.enqueue(function)  # type: ignore[call-overload]
    assert queue.count == 0


def test_a_nested_function_is_refused(queue: Queue) -> None:
    def nested() -> None: ...

    with pytest.raises(UnnamedFunction, match="module"):
        queue.enqueue(nested)


def test_a_function_of_main_is_refused(redis_url: str) -> None:
    code = f"from minirq import Queue\ndef f(): pass\nQueue(connection={redis_url!r}).enqueue(f)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "UnnamedFunction" in result.stderr
    assert "__main__" in result.stderr


def test_enqueueing_a_builtin_warns_that_workers_refuse_it(queue: Queue) -> None:
    with pytest.warns(UserWarning, match="--allow") as warned:
        queue.enqueue(len, [1])
    assert warned[0].filename == __file__
    queue.enqueue(len, [1])  # it is said once; a second warning would be an error here


def test_an_argument_that_cannot_be_carried_is_named(queue: Queue) -> None:
    with pytest.raises(SerializationError, match=r"\['deep'\]\[1\].*object"):
        queue.enqueue(jobs.echo, 1, option={"deep": [0, object()]})
    assert queue.count == 0


def test_a_payload_beyond_the_limit_is_refused(queue: Queue) -> None:
    with pytest.raises(SerializationError, match="bytes"):
        queue.enqueue(jobs.echo, b"x" * (17 * 1024 * 1024))


@pytest.mark.parametrize(
    "options",
    [
        {"job_timeout": 0},
        {"job_timeout": -2},
        {"ttl": 0},
        {"ttl": -1},
        {"result_ttl": -5},
        {"failure_ttl": -5},
        {"retry": 3},
        {"on_worker_lost": "ignore"},
        {"on_worker_lost": True},
        {"on_worker_lost": -1},
        {"on_worker_lost": 101},
        {"description": 3},
        {"job_id": "two words"},
        {"job_id": ""},
        {"job_id": "x" * 256},
        {"job_id": 7},
    ],
)
def test_options_that_make_no_sense_are_refused(queue: Queue, options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(options)).replace("_", "[_ ]")):
        queue.enqueue(jobs.add, 1, **options)
    assert queue.count == 0


def test_a_duration_that_is_none_is_refused(queue: Queue) -> None:
    with pytest.raises(TimeoutFormatError, match="soon"):
        queue.enqueue(jobs.add, 1, job_timeout="soon")


@pytest.mark.parametrize("name", ["", "two words", "a{b}", "new\nline", "x" * 201, 5])
def test_bad_queue_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidOption, match="queue"):
        Queue(name)


def test_bad_connections_are_refused(redis_url: str) -> None:
    with pytest.raises(UnsuitableServer, match="decode_responses"):
        Queue(connection=redis_py.Redis.from_url(redis_url, decode_responses=True)).enqueue(jobs.add, 1)
    with pytest.raises(InvalidOption, match=r"redis\.Redis"):
        Queue(connection=5).enqueue(jobs.add, 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="redis://localhost"):
        Queue(connection="localhost:6379").enqueue(jobs.add, 1)


def test_a_list_of_queues_that_cannot_be_written_hides_no_success(
    queue: Queue, redis: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis.set("minirq:queues", "not a set")
    job = queue.enqueue(jobs.add, 1)
    later = queue.enqueue_in(60, jobs.add, 2)
    assert (queue.job_ids, later.get_status()) == ([job.id], JobStatus.SCHEDULED)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "WRONGTYPE" in caplog.text
    queue.pause()
    assert queue.is_paused


def test_a_deleted_queue_leaves_nothing(queue: Queue, redis: redis_py.Redis) -> None:
    for name in ("x", "y"):
        queue.enqueue(jobs.add, job_id=name)
    queue.enqueue(jobs.fail, job_id="z", failure_ttl=-1)
    queue.enqueue_in(60, jobs.add, 1)
    SimpleWorker(queue).work(burst=True)
    queue.enqueue(jobs.add, 1)
    redis.zadd("minirq:{default}:owners", {"dead": -1})
    queue.pause()
    queue.delete()
    assert redis.keys("minirq:*default*") == []
    assert Queue.all(redis) == []
    assert not Queue(connection=redis).is_paused


def test_errors_of_a_life_before_are_not_shown(queue: Queue, redis: redis_py.Redis) -> None:
    queue.enqueue(jobs.fail, job_id="x")
    SimpleWorker(queue).work(burst=True)
    queue.fetch_job("x").requeue()
    redis.delete("minirq:{default}:queue", "minirq:{default}:job:x")  # its record has run out
    job = queue.enqueue(jobs.add, 1, job_id="x")
    SimpleWorker(queue).work(burst=True)
    assert (job.get_status(), job.errors, job.exc_info) == (JobStatus.FINISHED, [], None)


def test_an_id_that_is_about_to_vanish_is_refused_with_the_reason(queue: Queue) -> None:
    queue.enqueue(jobs.add, 1, job_id="x", ttl=0.001)
    until(lambda: queue.fetch_job("x").get_status() == JobStatus.EXPIRED)
    with pytest.raises(InvalidJobOperation, match=r"x has expired .* until a worker meets it"):
        queue.enqueue(jobs.add, 2, job_id="x", ttl=3600)
    with pytest.raises(InvalidJobOperation, match="nothing was enqueued"):
        queue.enqueue_many([queue.prepare_data(jobs.add, job_id=name) for name in ("y", "x")])
    SimpleWorker(queue).work(burst=True)
    assert queue.fetch_job("y") is None
    assert queue.enqueue(jobs.add, 2, job_id="x").get_status() == JobStatus.QUEUED


def test_a_full_server_refuses_the_job_and_says_so(queue: Queue, redis: redis_py.Redis) -> None:
    queue.enqueue(jobs.add, 1)
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueFull, match="maxmemory"):
            queue.enqueue(jobs.add, 2)
    finally:
        redis.config_set("maxmemory", 0)
    assert queue.count == 1


def test_namespaces_do_not_see_each_other(redis: redis_py.Redis) -> None:
    ours, theirs = Queue(connection=redis, namespace="ours"), Queue(connection=redis, namespace="theirs")
    job = ours.enqueue(jobs.add, 1)
    assert (ours.count, theirs.count) == (1, 0)
    assert theirs.fetch_job(job.id) is None
    assert all(key.startswith(b"ours:") for key in redis.keys())
    assert [queue.name for queue in Queue.all(redis, namespace="ours")] == ["default"]


def test_emptying_deletes_what_waits_and_nothing_else(queue: Queue) -> None:
    waiting = [queue.enqueue(jobs.add, n) for n in range(700)]
    later = queue.enqueue_in(60, jobs.add, 1)
    assert queue.empty() == 700
    assert queue.is_empty()
    assert not Job.exists(waiting[0].id, queue.connection)
    assert later.get_status() == JobStatus.SCHEDULED


def test_deleting_a_queue_leaves_no_key(queue: Queue, redis: redis_py.Redis) -> None:
    queue.enqueue(jobs.add, 1)
    queue.enqueue(jobs.fail)
    SimpleWorker([queue]).work(burst=True)
    queue.enqueue(jobs.add, 1)
    queue.enqueue_in(60, jobs.add, 1)
    queue.enqueue(jobs.add, 1).cancel()
    queue.delete()
    left = {key.decode() for key in redis.keys()}
    assert left <= {"minirq:{default}:owners", "minirq:{default}:bell"}
    assert Queue.all(redis) == []


def test_removing_a_job_cancels_it(queue: Queue) -> None:
    job, other = queue.enqueue(jobs.add, 1), queue.enqueue(jobs.add, 2)
    queue.remove(job)
    assert queue.job_ids == [other.id]
    assert job.is_canceled


def test_two_queues_of_a_name_are_equal() -> None:
    assert Queue("a") == Queue("a") != Queue("b")
    assert len({Queue("a"), Queue("a")}) == 1
    assert Queue("a")


@pytest.mark.parametrize("keyword", ["depends_on", "on_success", "unique", "repeat"])
def test_what_rq_has_and_minirq_has_not_is_not_dropped_in_silence(queue: Queue, keyword: str) -> None:
    with pytest.raises(InvalidOption, match=keyword):
        queue.enqueue(jobs.echo, **{keyword: 1})
    assert queue.enqueue(jobs.echo, kwargs={keyword: 1}).kwargs == {keyword: 1}


def test_a_delay_may_be_text_seconds_or_in_the_past(queue: Queue) -> None:
    later = [queue.enqueue_in(delay, jobs.add, 1) for delay in ("10m", 60, timedelta(minutes=1))]
    assert all(job.is_scheduled for job in later)
    assert all(queue.enqueue_in(past, jobs.add, 1).is_queued for past in (-1, timedelta(seconds=-1), 0))
    with pytest.raises(InvalidOption, match="delay"):
        queue.enqueue_in("soon", jobs.add, 1)


def test_meta_that_is_no_dict_is_refused(queue: Queue) -> None:
    with pytest.raises(InvalidOption, match="meta"):
        queue.enqueue(jobs.add, 1, meta=3)


def test_what_is_mistaken_for_something_else_is_told_what_it_should_be(
    queue: Queue, redis: redis_py.Redis
) -> None:
    with pytest.raises(InvalidOption, match=r"^a queue name is text, not Redis; pass it as connection=$"):
        Queue(redis)  # type: ignore[arg-type]
    for when in ("2040-01-01", "10m", 60):
        with pytest.raises(InvalidOption, match="is not a datetime; for a delay call enqueue_in"):
            queue.enqueue_at(when, jobs.add, 1)  # type: ignore[arg-type]
    job = queue.enqueue(jobs.add, 1)
    for timeout in (-1, float("nan")):
        with pytest.raises(InvalidOption, match="timeout: "):
            job.wait(timeout)
    assert queue.count == 1
