"""Clients: ours have their timeouts stated and never send twice; the application's are taken if suitable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis as redis_py
from redis.asyncio import Redis as AsyncRedis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from minirq.connection import Config, check_server, connect, derive, safe_url
from minirq.connection.connect import check_version
from minirq.connection.errors import translate
from minirq.exceptions import AccessDenied, ConfigError, InvalidOption, UnsuitableServer


def options_of(client: redis_py.Redis) -> dict[str, object]:
    return client.connection_pool.connection_kwargs


def config(**settings: object) -> Config:
    return Config(**{"url": None, "home": Path("/nonexistent"), **settings})  # type: ignore[arg-type]


def test_a_url_gives_a_client_that_sends_once(redis_url: str) -> None:
    with connect(redis_url) as client:
        assert client.ping()
        assert options_of(client)["retry"]._retries == 0
        assert options_of(client)["socket_timeout"] == 5
        assert options_of(client)["socket_connect_timeout"] == 3
        assert options_of(client)["protocol"] == 2


def test_tcp_connections_are_kept_alive() -> None:
    assert options_of(connect("redis://localhost"))["socket_keepalive"] is True


def test_a_timeout_in_the_url_wins() -> None:
    assert options_of(connect("redis://localhost?socket_timeout=30"))["socket_timeout"] == 30


def test_nothing_is_opened_before_the_first_command() -> None:
    client = connect("redis://localhost:1")
    with pytest.raises(redis_py.ConnectionError):
        client.ping()


def test_the_configured_url_is_used(redis_url: str) -> None:
    with connect(None, config(url=redis_url)) as client:
        assert client.ping()


def test_a_given_client_is_used_as_it_is(redis: redis_py.Redis) -> None:
    assert connect(redis) is redis


@pytest.mark.parametrize("url", ["redis://:secret@localhost:7000/2", "unix://:secret@/run/redis.sock"])
def test_a_client_that_decodes_is_refused(url: str) -> None:
    with pytest.raises(UnsuitableServer, match="decode_responses=True") as caught:
        connect(redis_py.Redis.from_url(url, decode_responses=True))
    assert "secret" not in str(caught.value)


def test_a_url_that_decodes_is_refused() -> None:
    with pytest.raises(UnsuitableServer, match="decode_responses=True"):
        connect("redis://localhost?decode_responses=true")


def test_something_else_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"connection is a builtins\.int"):
        connect(6379)  # type: ignore[arg-type]


def test_a_client_of_asyncio_is_refused_and_the_way_out_is_named() -> None:
    with pytest.raises(InvalidOption, match=r"minirq\.aio"):
        connect(AsyncRedis())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:secret@localhost?no_such_option=1", "no_such_option"),
        ("redis://:secret@localhost?socket_timeout=soon", "socket_timeout"),
    ],
)
def test_an_unknown_option_in_a_url_is_named_at_once(url: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_without_a_url_and_without_embedded_the_error_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="MINIRQ_REDIS_URL"):
        connect(None, config(embedded=False))


def test_the_embedded_server_is_used_and_announced_when_it_starts(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from minirq.connection import Config, connect\n"
        "config = Config(url=None, home=Path(sys.argv[1]))\n"
        "for _ in range(3): connect(None, config).incr('calls')\n"
        "print(connect(None, config).get('calls'))"
    )
    done = subprocess.run([sys.executable, "-c", code, home], capture_output=True, text=True, check=True)
    assert done.stdout == "b'3'\n"
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("minirq: no Redis is configured: started an embedded server, ")
    assert lines[0].endswith(str(home / "redis.sock"))
    again = subprocess.run([sys.executable, "-c", code, home], capture_output=True, text=True, check=True)
    assert (again.stdout, again.stderr) == ("b'6'\n", "")


def test_derive_keeps_the_address_and_replaces_the_manners() -> None:
    given = redis_py.Redis(
        host="h",
        port=7000,
        db=3,
        username="u",
        password="secret",
        ssl=True,
        ssl_cert_reqs="none",
        socket_timeout=1,
    )
    derived = derive(given, socket_timeout=7.5)
    kept = ("host", "port", "db", "username", "password", "ssl_cert_reqs")
    assert {k: options_of(derived)[k] for k in kept} == {k: options_of(given)[k] for k in kept}
    assert derived.connection_pool is not given.connection_pool
    assert derived.connection_pool.connection_class is given.connection_pool.connection_class
    assert options_of(derived)["socket_timeout"] == 7.5
    assert options_of(derived)["retry"]._retries == 0
    assert options_of(given)["socket_timeout"] == 1


def test_a_derived_client_waits_longer_than_the_given_ones_timeout(redis_url: str) -> None:
    given = redis_py.Redis.from_url(redis_url, socket_timeout=0.1)
    with derive(given, socket_timeout=2) as client:
        assert client.blpop(["nothing"], timeout=0.3) is None  # type: ignore[arg-type]


def test_a_derived_client_sends_a_command_once(redis: redis_py.Redis, redis_url: str) -> None:
    eager = redis_py.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 3), retry_on_timeout=True)
    client = derive(eager, socket_timeout=0.1)
    with redis.monitor() as monitor:
        with client, pytest.raises(redis_py.TimeoutError):
            client.blpop(["nothing"], timeout=1)  # its answer comes after the timeout
        redis.set("end", "of what is watched")
        seen = iter(lambda: monitor.next_command()["command"].split()[0], "SET")
        assert list(seen).count("BLPOP") == 1


def test_a_derived_client_survives_the_given_one(redis_url: str) -> None:
    given = redis_py.Redis.from_url(redis_url)
    derived = derive(given, socket_timeout=1)
    given.close()
    del given
    with derived:
        assert derived.ping()


def test_a_client_of_a_sentinel_is_derived_with_the_sentinel() -> None:
    sentinel = Sentinel([("localhost", 1)], socket_timeout=0.1)
    given = sentinel.master_for("orders", password="secret", db=2)
    derived = derive(given, socket_timeout=7)
    assert derived.connection_pool.service_name == "orders"
    assert derived.connection_pool.sentinel_manager is sentinel
    assert options_of(derived)["socket_timeout"] == 7
    assert options_of(derived)["connection_pool"] is not options_of(given)["connection_pool"]
    assert safe_url(derived) == "sentinel orders/2"


def test_a_protocol_3_client_is_derived_with_protocol_2(redis_url: str) -> None:
    given = redis_py.Redis.from_url(redis_url, protocol=3)
    with derive(given, socket_timeout=1) as client:
        client.delete("scores")
        client.zadd("scores", {"a": 1})
        assert client.execute_command("ZRANGE", "scores", 0, -1, "WITHSCORES") == [b"a", b"1"]


def test_check_server_tells_what_runs(redis: redis_py.Redis) -> None:
    info = check_server(redis)
    assert info["maxmemory_policy"] == "noeviction"
    assert info["aof_enabled"] == 1


def test_a_server_before_6_2_is_refused() -> None:
    with pytest.raises(UnsuitableServer, match=r"^redis://old:1/0 is redis 6\.0\.16: .* 6\.2"):
        check_version({"redis_version": "6.0.16"}, "redis://old:1/0")


def test_valkey_is_known_by_its_own_version() -> None:
    info = {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "5.0.1"}
    with pytest.raises(UnsuitableServer, match=r"is valkey 5\.0\.1"):
        check_version(info, "redis://old:1/0")


def test_a_user_who_may_not_read_info_is_told_so(redis: redis_py.Redis, redis_url: str) -> None:
    redis.acl_setuser("blind", enabled=True, nopass=True, categories=["+@all"], commands=["-info"])
    with pytest.raises(AccessDenied, match="does not permit INFO"):
        check_server(connect(redis_url.replace("unix://", "unix://blind:any@")))
    redis.acl_deluser("blind")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("redis://user:secret@host:7000/2", "redis://***@host:7000/2"),
        ("redis://:se@cret@host/0", "redis://***@host/0"),
        ("redis://host/0?password=secret&db=3", "redis://host/0?db=3"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        (redis_py.Redis(host="host", port=7000, db=2, password="secret"), "redis://***@host:7000/2"),
        (redis_py.Redis(host="host", ssl=True), "rediss://host:6379/0"),
        (redis_py.Redis(unix_socket_path="/run/redis.sock", db=1), "unix:///run/redis.sock?db=1"),
    ],
)
def test_safe_url_never_shows_a_password(given: redis_py.Redis | str, shown: str) -> None:
    assert safe_url(given) == shown


def test_a_client_that_greets_an_old_server_is_told_which_version_is_needed() -> None:
    error = redis_py.ResponseError("unknown command `HELLO`, with args beginning with: `3`, ")
    said = translate(error, "SADD", "redis://old:6379/0")
    assert isinstance(said, UnsuitableServer)
    assert str(said) == "redis://old:6379/0 does not know HELLO: minirq needs Redis 6.2 or newer, or Valkey"
