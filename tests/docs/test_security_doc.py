"""docs/security.md: its users can do what they are for and no more; its logs keep messages to themselves."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import jobs
import pytest
import redis as redis_py
from click.testing import CliRunner, Result
from support import APP
from support.command_line import folder, start_worker
from support.documents import ROOT, Document, assert_exists
from support.own_server import OwnServer
from support.waits import until
from support.worker import StartWorker, WorkerProcess

from minirq import Job, JobStatus, Queue, Retry, SimpleWorker
from minirq.aio import AsyncQueue
from minirq.cli.main import cli
from minirq.connection import connect
from minirq.exceptions import AccessDenied

DOC = Document("docs/security.md")
USERS = {line.split()[2]: line for line in "".join(DOC.blocks("text")).splitlines()}

__all__ = ["folder", "start_worker"]


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    """A server with the users of the document, and a second queue that the producer does not know."""
    server = OwnServer(fsync=None)
    with connect(server.url) as admin:
        for line in USERS.values():
            admin.execute_command(*shlex.split(line))
    yield server
    server.close()


@pytest.fixture
def admin(server: OwnServer) -> Iterator[redis_py.Redis]:
    """Everything is permitted here. What the users were refused meanwhile fails the test, and is named."""
    with connect(server.url) as client:
        # a worker of the test before may be dying, and would still be brought a job
        until(lambda: not [other for other in client.client_list() if other["user"] == "worker"])
        client.flushall()
        client.execute_command("ACL", "LOG", "RESET")
        yield client
        assert refused(client) == [], "docs/security.md lacks what is refused here"


def refused(client: redis_py.Redis) -> list[str]:
    """What users were refused: "worker: command hget"."""
    found = set()
    for entry in client.execute_command("ACL", "LOG"):
        words = [str(word, "utf-8") if isinstance(word, bytes) else word for word in entry]
        about = dict(zip(words[::2], words[1::2], strict=True))
        found.add(f"{about['username']}: {about['reason']} {about['object']}")
    # redis-py says this by itself, and goes on without it
    return sorted(line for line in found if not line.endswith((" command client|setinfo", " command client")))


def url_of(server: OwnServer, user: str) -> str:
    [password] = re.findall(r" >(\S+)", USERS[user])
    return f"unix://{user}:{password}@{server.socket}"


@pytest.fixture
def start(server: OwnServer, start_worker: StartWorker) -> StartWorker:
    def start(*options: str) -> WorkerProcess:
        return start_worker("--path", str(APP), *options, url=url_of(server, "worker"))

    return start


@pytest.fixture
def run(server: OwnServer) -> Callable[..., Result]:
    def run(user: str, *arguments: str) -> Result:
        result = CliRunner().invoke(cli, [*arguments, "--url", url_of(server, user)])
        assert result.exit_code == 0, result.output
        return result

    return run


def test_a_producer_enqueues_looks_and_waits(server: OwnServer, admin: redis_py.Redis) -> None:
    queue = Queue(connection=url_of(server, "producer"))
    assert queue.enqueue(jobs.add, 1, 2, job_id="again", meta={"a": 1}).get_status() == JobStatus.QUEUED
    queue.enqueue(jobs.add, 1, 2, at_front=True, ttl=60)
    queue.enqueue_many([Queue.prepare_data(jobs.add, (1, n)) for n in range(3)])
    broken = queue.enqueue(jobs.fail, "no")
    assert queue.count == 6
    assert len(queue.job_ids) == 6
    work = SimpleWorker([Queue(connection=admin)])
    work.work(burst=True)
    assert Job.fetch("again", connection=queue.connection).return_value() == 3
    assert queue.enqueue(jobs.add, 2, 2, job_id="again").get_status() == JobStatus.QUEUED
    work.work(burst=True)
    assert queue.enqueue_in(3600, jobs.add, 1).get_status() == JobStatus.SCHEDULED
    assert broken.errors[0].message == "no"
    ended = [queue.enqueue(jobs.add, n) for n in range(2)]
    waiting = queue.as_completed(ended, timeout=10)
    work.work(burst=True)
    assert {job.id for job in waiting} == {job.id for job in ended}
    assert queue.wait_many(ended, timeout=10) == [0, 1]

    async def enqueue() -> int:
        async with AsyncQueue(connection=url_of(server, "producer")) as queue:
            await queue.enqueue(jobs.add, 1)
            return await queue.count()

    assert asyncio.run(enqueue()) == 1


def test_a_producer_can_do_nothing_else(server: OwnServer, admin: redis_py.Redis) -> None:
    url = url_of(server, "producer")
    with pytest.raises(AccessDenied):
        Queue("mail", connection=url).enqueue(jobs.add, 1)
    with connect(url) as client:
        for command in ("FLUSHALL", "KEYS *", "SCAN 0", "EVAL x 0", "CONFIG GET *", "GET other", "MONITOR"):
            with pytest.raises(redis_py.exceptions.NoPermissionError):
                client.execute_command(*command.split())
        with pytest.raises(redis_py.exceptions.NoPermissionError):
            client.publish("minirq:stops", "x")
    admin.execute_command("ACL", "LOG", "RESET")


def test_a_worker_runs_jobs_of_all_kinds(
    server: OwnServer, admin: redis_py.Redis, start: StartWorker, tmp_path: Path
) -> None:
    queue, mail = Queue(connection=admin), Queue("mail", connection=admin)
    Queue("others", connection=admin).enqueue_in(0.1, jobs.add, 1)
    start("default", "mail", "--lease", "1", "--kill-grace", "0.5")
    assert queue.enqueue(jobs.add, 1, 2).wait(10) == 3
    mailed = mail.enqueue(jobs.add, 1, 3, result_ttl=0)
    until(lambda: mailed.get_status() == JobStatus.FINISHED)
    assert queue.enqueue_in(0.1, jobs.add, 1, 4).wait(10) == 5
    with connect(url_of(server, "worker")) as of_a_job:
        assert Queue(connection=of_a_job).enqueue(jobs.nap, 0.1).wait(10) == 0.1
    for retry in (Retry(max=1), Retry(max=1, interval=0.1)):
        job = queue.enqueue(jobs.fail, "no", retry=retry)
        until(lambda job=job: job.get_status() == JobStatus.FAILED)
    unknown = queue.enqueue("tasks.nowhere")
    until(lambda: admin.zscore("minirq:{default}:scheduled", unknown.id))
    died = queue.enqueue(jobs.die_once, str(tmp_path / "died"))
    until(lambda: died.get_status() == JobStatus.FINISHED)
    slow = queue.enqueue(jobs.nap, 30, job_timeout=0.2)
    until(lambda: slow.get_status() == JobStatus.FAILED)
    running = queue.enqueue(jobs.nap, 30)
    until(lambda: running.get_status() == JobStatus.STARTED)
    running.cancel()
    until(lambda: running.get_status() == JobStatus.CANCELED)
    late = queue.enqueue(jobs.add, 1, ttl=1)
    queue.pause()
    until(lambda: late.get_status(refresh=True) == JobStatus.EXPIRED or admin.llen("minirq:{default}:queue"))
    queue.resume()
    assert queue.enqueue(jobs.add, 1, 2).wait(10) == 3


def test_many_workers_take_over_from_each_other(
    admin: redis_py.Redis, start: StartWorker, tmp_path: Path
) -> None:
    queue = Queue(connection=admin)
    first = start("--lease", "1", "-c", "4")
    until(lambda: admin.zcard("minirq:{default}:owners"))
    held = queue.enqueue(jobs.nap, 1.5)
    until(lambda: held.get_status() == JobStatus.STARTED)
    start("--lease", "1", "-c", "4")
    until(lambda: admin.zcard("minirq:workers") == 2)
    first.kill_all()
    assert held.wait(20) == 1.5


def test_a_monitor_looks_and_changes_nothing(
    server: OwnServer, admin: redis_py.Redis, run: Callable[..., Result], start: StartWorker
) -> None:
    queue = Queue(connection=admin)
    start()
    queue.enqueue(jobs.add, 1, 2, job_id="done").wait(10)
    queue.enqueue(jobs.fail, "no", job_id="broken")
    until(lambda: Job.fetch("broken", connection=admin).is_failed)
    queue.enqueue_in(60, jobs.add, job_id="later")
    before = {key: admin.dump(key) for key in admin.keys("minirq:{default}:job:*")}
    assert "default" in run("monitor", "info").output
    run("monitor", "info", "--json")
    assert "no" in run("monitor", "job", "broken").output
    assert "3" in run("monitor", "job", "done", "--args").output
    for job_id in ("done", "broken", "later"):
        run("monitor", "explain", job_id)
    run("monitor", "doctor")
    assert {key: admin.dump(key) for key in admin.keys("minirq:{default}:job:*")} == before
    with connect(url_of(server, "monitor")) as client:
        for command in ("SET minirq:x y", "DEL minirq:queues", "EVAL x 0", "SCRIPT LOAD x"):
            with pytest.raises(redis_py.exceptions.NoPermissionError):
                client.execute_command(*command.split(" ", 2))
    admin.execute_command("ACL", "LOG", "RESET")


def test_an_operator_tends_jobs_and_queues(
    server: OwnServer, admin: redis_py.Redis, run: Callable[..., Result], start: StartWorker
) -> None:
    queue = Queue(connection=admin)
    SimpleWorker([queue]).work(burst=True)
    queue.enqueue(jobs.fail, "no", job_id="broken")
    SimpleWorker([queue]).work(burst=True)
    run("operator", "requeue", "broken")
    queue.enqueue_in(60, jobs.add, job_id="later")
    queue.enqueue(jobs.add, 1, job_id="waits")
    run("operator", "cancel", "later", "waits")
    run("operator", "suspend", "default")
    run("operator", "resume", "default")
    run("operator", "empty", "default", "--yes")
    worker = start("-n", "tended")
    running = queue.enqueue(jobs.nap, 30)
    until(lambda: running.get_status() == JobStatus.STARTED)
    run("operator", "cancel", running.id)
    until(lambda: running.get_status() == JobStatus.CANCELED)
    run("operator", "stop", "tended")
    assert worker.wait() == 0  # type: ignore[attr-defined]
    mine = Queue(connection=url_of(server, "operator"))
    queue.enqueue(jobs.add, 1, job_id="gone")
    Job.fetch("gone", connection=mine.connection).delete()
    mine.delete()


def test_a_filter_keeps_messages_out_of_the_log(
    redis: redis_py.Redis, start_worker: StartWorker, folder: Path
) -> None:
    [source] = [block for block in DOC.blocks("python") if block.startswith("# quiet_logs.py\n")]
    (folder / "quiet_logs.py").write_text(source)
    queue = Queue(connection=redis)
    made = [queue.enqueue("tasks.fail", "4111-secret", retry=retry) for retry in (None, Retry(max=1))]
    worker = start_worker("--burst", "--preload", "quiet_logs")
    assert worker.wait() == 0
    assert f"ERROR job {made[0].id} did not succeed: ValueError" in worker.log
    assert "secret" not in worker.log
    assert made[0].errors[0].message == "4111-secret"


@pytest.mark.parametrize("line", DOC.commands)
def test_the_commands_of_the_page_exist(line: str) -> None:
    assert_exists(line)


def test_workers_may_run_every_command_of_the_scripts() -> None:
    scripts = "".join(file.read_text() for file in (ROOT / "minirq/protocol/lua").rglob("*.lua"))
    commands = {name.lower() for name in re.findall(r'call\("([A-Z]+)"', scripts)}
    assert len(commands) > 30
    permitted = set(re.findall(r" \+(\S+)", USERS["worker"]))
    assert sorted(commands - permitted) == []
