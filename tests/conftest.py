"""A real redis-server for the whole run, found and started as the embedded one is; workers of a test."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from support.worker import StartWorker, WorkerProcess, killed_at_the_end, python_worker

from minirq import Queue
from minirq.connection import Server, connect, ensure_server, stop_server
from minirq.protocol import submission

# a shell that puts the tests into the background has them, and whatever they start, ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the developer's own Redis and the developer's own embedded server out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MINIRQ_") or name == "REDIS_URL"]:
            patch.delenv(name)
        patch.setenv("MINIRQ_EMBEDDED", "0")
        patch.setenv("MINIRQ_HOME", str(tmp_path_factory.mktemp("unused-home")))
        yield


@pytest.fixture(autouse=True)
def _functions_were_never_enqueued(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each test warned anew of functions that workers refuse."""
    monkeypatch.setattr(submission, "_looked_at", set())


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    # not below pytest's tmp_path: its names are too long for a unix socket
    home = Path(tempfile.mkdtemp(prefix="minirq-test-"))
    try:
        yield ensure_server(home)
    finally:
        stop_server(home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_url(redis_server: Server) -> str:
    return redis_server.url


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_py.Redis]:
    """A client of an empty server."""
    with connect(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def queue(redis: redis_py.Redis) -> Queue:
    return Queue(connection=redis)


@pytest.fixture
def start_worker(redis: redis_py.Redis, redis_url: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker of these queues; `fault` is its MINIRQ_FAULT, which strikes once in all processes."""
    with killed_at_the_end() as started:

        def start(*queues: str, fault: str = "", url: str = redis_url, **options: Any) -> WorkerProcess:
            environ = {"MINIRQ_FAULT": fault, "MINIRQ_FAULT_ONCE": str(tmp_path / "struck")} if fault else {}
            log = tmp_path / f"worker-{len(started)}.log"
            started.append(python_worker(url, queues, log, environ, **options))
            return started[-1]

        yield start


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Where jobs leave a line each time they run."""
    return tmp_path / "trace"


@pytest.fixture
def namespace() -> str:
    return "minirq-test"


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory for an embedded server of this test's own, which is stopped afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="minirq-test-"))
    try:
        yield folder / "home"
    finally:
        if (folder / "home").exists():
            stop_server(folder / "home")
        shutil.rmtree(folder, ignore_errors=True)
