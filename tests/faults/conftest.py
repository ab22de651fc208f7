"""The proxy and servers that hurt workers, and how long recoveries took."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from support.own_server import OwnServer
from support.proxy import Proxy
from support.timing import RECOVERIES
from support.worker import QUICK, StartWorker

from minirq.connection import Server


@pytest.fixture
def start(start_worker: StartWorker) -> StartWorker:
    """Start a worker that soon notices when a connection leads nowhere."""
    return partial(start_worker, **QUICK)


@pytest.fixture
def proxy(redis_server: Server) -> Iterator[Proxy]:
    proxy = Proxy(str(redis_server.socket))
    yield proxy
    proxy.close()


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    server = OwnServer()
    yield server
    server.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for what, seconds in RECOVERIES.items():
        longest = max(seconds)
        terminalreporter.write_line(f"recovery: {what}: {longest:.2f} s at most in {len(seconds)} cases")
