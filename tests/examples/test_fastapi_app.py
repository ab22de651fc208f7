"""The web application of the examples, over real HTTP, with a real worker."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from support import ROOT
from support.waits import until

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

EXAMPLE = ROOT / "examples" / "fastapi_app"
HAMLET = "to be or not to be that is the question"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


in_both_loops = pytest.mark.parametrize("address", ["asyncio", "uvloop"], indirect=True)


@pytest.fixture
def address(
    request: pytest.FixtureRequest, redis: redis_py.Redis, redis_url: str, tmp_path: Path
) -> Iterator[str]:
    loop = getattr(request, "param", "asyncio")
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    port = free_port()
    command = [sys.executable, "-X", "dev", "-m", "uvicorn", "app:app", "--app-dir", EXAMPLE]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--loop", loop, "--log-level", "warning"],
            stderr=log,
            env={**os.environ, "MINIRQ_REDIS_URL": redis_url},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or is_up(address), 30)
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield address
        process.terminate()
        assert process.wait(20) in (0, -15)
    finally:
        process.kill()
        process.wait()
    # in Python's development mode: nothing was left open, no coroutine was forgotten
    assert "minirq" not in (tmp_path / "log").read_text()
    assert "ResourceWarning" not in (tmp_path / "log").read_text()


def is_up(address: str) -> bool:
    try:
        return bool(httpx.get(f"{address}/docs").is_success)
    except httpx.TransportError:
        return False


@pytest.fixture
def _worker(redis: redis_py.Redis, redis_url: str) -> Iterator[None]:
    command = [sys.executable, "-m", "minirq", "worker", "texts", "--path", EXAMPLE, "--url", redis_url]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        yield
        process.terminate()


@in_both_loops
@pytest.mark.usefixtures("_worker")
def test_a_job_is_posted_and_its_result_waited_for(address: str) -> None:
    posted = httpx.post(f"{address}/jobs", json={"text": HAMLET, "count": 2})
    assert posted.status_code == 202
    where = address + posted.headers["location"]
    done = httpx.get(f"{where}/result", params={"timeout": 20}, timeout=30)
    assert (done.status_code, done.json()["status"]) == (200, "finished")
    assert done.json()["result"] == [["to", 2], ["be", 2]]
    assert httpx.get(where).json() == done.json()

    empty = httpx.post(f"{address}/jobs", json={"text": "..."}).json()["id"]
    failed = httpx.get(f"{address}/jobs/{empty}/result", params={"timeout": 20}, timeout=30).json()
    assert (failed["status"], failed["error"]) == ("failed", "ValueError: the text has no words")


@pytest.mark.usefixtures("_worker")
def test_the_results_of_a_batch_come_as_a_stream(address: str) -> None:
    texts = [{"text": "word " * n, "count": 1} for n in range(40)]
    with httpx.stream("POST", f"{address}/batches", json=texts, timeout=30) as response:
        lines = [json.loads(line) for line in response.iter_lines()]
    assert sorted(line["text"] for line in lines) == [*range(40)]
    assert all(line["result"] == [["word", line["text"]]] for line in lines if line["text"])
    assert [line["status"] for line in lines if not line["text"]] == ["failed"]


@in_both_loops
def test_many_requests_wait_at_once_and_clients_that_go_away_leave_nothing(
    address: str, redis: redis_py.Redis
) -> None:
    def waiting() -> int:
        return sum(redis.hexists(key, "waiters") for key in redis.keys("*:job:*"))

    async def ask_and_go() -> None:
        texts = [{"text": HAMLET}] * 20
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            asking = [asyncio.create_task(client.post("/batches", json=texts)) for _ in range(5)]
            while await asyncio.to_thread(waiting) < 100:
                await asyncio.sleep(0.01)
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    asyncio.run(asyncio.wait_for(ask_and_go(), 30))
    until(lambda: waiting() == 0)
    assert redis.keys("*mailbox*") == []


def test_what_does_not_run_is_said(address: str) -> None:
    job_id = httpx.post(f"{address}/jobs", json={"text": HAMLET}).json()["id"]
    where = f"{address}/jobs/{job_id}"
    assert httpx.get(where).json()["status"] == "queued"
    assert httpx.get(f"{where}/result", params={"timeout": 0.05}).status_code == 202
    assert httpx.delete(where).status_code == 204
    assert httpx.get(f"{where}/result").json()["status"] == "canceled"
    assert httpx.get(f"{address}/jobs/nobody").status_code == 404
    assert httpx.get(f"{where}/result", params={"timeout": 1000}).status_code == 422
