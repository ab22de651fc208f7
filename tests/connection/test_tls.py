"""TLS with a CA of one's own: what is trusted works, and what is not is said with the way out."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jobs
import pytest
import redis as redis_py
import trustme
from support import APP
from support.timing import within
from support.waits import until
from support.worker import WorkerProcess, worker_command

from minirq import Queue, SimpleWorker
from minirq.aio import AsyncQueue
from minirq.connection import Server
from minirq.exceptions import UnsuitableServer

T = TypeVar("T")

WAY_OUT = r"not trusted: .*; name the file of its CA in the URL, \?ssl_ca_certs=/path/to/ca\.crt"


class TlsServer:
    """Speaks TLS in front of the tests' server. `show` another certificate, and it hangs up on everybody."""

    def __init__(self, behind: Path, certificate: trustme.LeafCert) -> None:
        self._behind = behind
        self._certificate = certificate
        self._loop = asyncio.new_event_loop()
        self._writers: list[asyncio.StreamWriter] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._port = self._do(self._listen(0))

    @property
    def connections(self) -> int:
        return len(self._writers)

    def url(self, ca: Path | None = None, host: str = "localhost") -> str:
        return f"rediss://{host}:{self._port}" + (f"?ssl_ca_certs={ca}" if ca else "")

    def show(self, certificate: trustme.LeafCert) -> None:
        self._certificate = certificate
        self._do(self._hang_up())
        self._do(self._listen(self._port))

    def close(self) -> None:
        self._do(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _do(self, steps: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(steps, self._loop).result(10)

    async def _listen(self, port: int) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificate.configure_cert(context)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=context)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def _hang_up(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_unix_connection(str(self._behind))
        self._writers += [writer, redis_writer]
        await asyncio.gather(_pass_on(reader, redis_writer), _pass_on(redis_reader, writer))


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while chunk := await source.read(65536):
            sink.write(chunk)
            await sink.drain()
    except OSError:  # either side has hung up
        pass
    sink.close()


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    ca.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    return tmp_path / "ca.crt"


@pytest.fixture
def tls(redis: redis_py.Redis, redis_server: Server, ca: trustme.CA) -> Iterator[TlsServer]:
    server = TlsServer(redis_server.socket, ca.issue_cert("localhost"))
    yield server
    server.close()


def start_worker(folder: Path, url: str, *options: str) -> WorkerProcess:
    return worker_command(url, ["--path", str(APP), *options], folder / "log")


def test_a_ca_of_ones_own_is_named_in_the_url(tls: TlsServer, ca_file: Path, tmp_path: Path) -> None:
    url = tls.url(ca_file)
    job = Queue(connection=url).enqueue(jobs.add, 1, 2)
    assert start_worker(tmp_path, url, "--burst").wait() == 0
    assert job.wait(10) == 3

    async def look() -> Any:
        async with AsyncQueue(connection=url) as queue:
            return await (await queue.fetch_job(job.id)).return_value()  # type: ignore[union-attr]

    assert asyncio.run(look()) == 3


def test_a_certificate_that_is_not_trusted_is_said_at_once(tls: TlsServer) -> None:
    began = time.monotonic()
    with pytest.raises(UnsuitableServer, match=WAY_OUT):
        Queue(connection=tls.url()).enqueue(jobs.add, 1)
    with pytest.raises(UnsuitableServer, match=WAY_OUT):
        SimpleWorker(["default"], connection=tls.url()).work()

    async def enqueue() -> None:
        async with AsyncQueue(connection=tls.url()) as queue:
            await queue.enqueue(jobs.add, 1)

    with pytest.raises(UnsuitableServer, match=WAY_OUT):
        asyncio.run(enqueue())
    assert within(3, began)  # what passes is waited for as long


def test_a_host_name_that_the_certificate_does_not_have(tls: TlsServer, ca_file: Path) -> None:
    with pytest.raises(
        UnsuitableServer, match=r"mismatch.*; use a host name in the URL that the certificate has"
    ):
        Queue(connection=tls.url(ca_file, host="127.0.0.1")).enqueue(jobs.add, 1)


def test_a_worker_that_does_not_trust_the_server_does_not_start(tls: TlsServer, tmp_path: Path) -> None:
    worker = start_worker(tmp_path, tls.url())
    assert worker.wait() == 1
    assert worker.log.splitlines()[-1].startswith("minirq: rediss://localhost:")
    assert "?ssl_ca_certs=" in worker.log.splitlines()[-1]


@pytest.mark.parametrize("concurrency", ["1", "4"])
def test_a_certificate_that_becomes_wrong_ends_a_worker(
    tls: TlsServer, ca_file: Path, tmp_path: Path, concurrency: str
) -> None:
    worker = start_worker(tmp_path, tls.url(ca_file), "-c", concurrency)
    assert Queue(connection=tls.url(ca_file)).enqueue(jobs.add, 1, 2).wait(10) == 3
    until(lambda: tls.connections >= 6)
    tls.show(trustme.CA().issue_cert("localhost"))
    assert worker.wait() == 1
    assert "shows a certificate that is not trusted" in worker.log
    assert "Traceback" not in worker.log
