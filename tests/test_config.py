"""Settings: argument before environment before pyproject.toml before default, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from minirq.connection import Config, load_config
from minirq.exceptions import ConfigError


def write_project(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def load(folder: Path, **environ: str) -> Config:
    return load_config(environ={"HOME": "/home/ada", **environ}, start_dir=folder)


def test_defaults(tmp_path: Path) -> None:
    write_project(tmp_path, "")
    config = load(tmp_path)
    assert config.url is None
    assert config.namespace == "minirq"
    assert config.home == Path("/home/ada/.local/state/minirq")
    assert config.embedded
    assert config.worker_defaults == {}


def test_each_source_gives_way_to_the_one_before_it(tmp_path: Path) -> None:
    write_project(tmp_path, '[tool.minirq]\nredis_url = "redis://project"\nnamespace = "project"\n')
    assert load(tmp_path).url == "redis://project"
    assert load(tmp_path, REDIS_URL="redis://common").url == "redis://common"
    both = {"HOME": "/", "REDIS_URL": "redis://common", "MINIRQ_REDIS_URL": "redis://ours"}
    assert load(tmp_path, **both).url == "redis://ours"
    assert load_config(url="redis://given", environ=both, start_dir=tmp_path).url == "redis://given"
    assert load(tmp_path).namespace == "project"
    assert load(tmp_path, MINIRQ_NAMESPACE="env").namespace == "env"
    given = load_config(namespace="given", environ={"MINIRQ_NAMESPACE": "env"}, start_dir=tmp_path)
    assert given.namespace == "given"


def test_the_project_is_found_from_a_folder_below_it(tmp_path: Path) -> None:
    write_project(
        tmp_path,
        '[tool.minirq]\nhome = "state"\nembedded = false\n[tool.minirq.worker]\nprocesses = 4\n',
    )
    (tmp_path / "src" / "app").mkdir(parents=True)
    config = load(tmp_path / "src" / "app")
    assert config.home == tmp_path / "state"
    assert not config.embedded
    assert config.worker_defaults == {"processes": 4}


def test_the_nearest_project_counts_also_without_a_table(tmp_path: Path) -> None:
    write_project(tmp_path, '[tool.minirq]\nnamespace = "outer"\n')
    write_project(tmp_path / "inner", "[project]\nname = 'inner'\n")
    assert load(tmp_path / "inner").namespace == "minirq"


def test_home_follows_xdg_and_minirq_home(tmp_path: Path) -> None:
    write_project(tmp_path, "")
    assert load(tmp_path, XDG_STATE_HOME="/state").home == Path("/state/minirq")
    assert load(tmp_path, XDG_STATE_HOME="relative").home == Path("/home/ada/.local/state/minirq")
    assert load(tmp_path, XDG_STATE_HOME="/state", MINIRQ_HOME="/srv/jobs").home == Path("/srv/jobs")
    assert load(tmp_path, MINIRQ_HOME="jobs").home.is_absolute()


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("1", True), ("off", False), ("True", True)])
def test_the_environment_switches_the_embedded_server(tmp_path: Path, value: str, expected: bool) -> None:
    write_project(tmp_path, f"[tool.minirq]\nembedded = {'false' if expected else 'true'}\n")
    assert load(tmp_path, MINIRQ_EMBEDDED=value).embedded is expected


@pytest.mark.parametrize(
    "name", ["MINIRQ_REDIS_URL", "REDIS_URL", "MINIRQ_NAMESPACE", "MINIRQ_HOME", "MINIRQ_EMBEDDED"]
)
def test_a_variable_that_is_set_but_empty_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is set but empty"):
        load(tmp_path, **{name: ""})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'redis_urll = "redis://x"',
            r"pyproject.toml: tool.minirq.redis_urll: no such key; known are redis_url",
        ),
        ("redis_url = 6379", r"tool.minirq.redis_url is 6379, a int"),
        ('redis_url = ""', r"tool.minirq.redis_url is empty"),
        ('redis_url = "localhost:6379"', r"tool.minirq.redis_url: .* did you mean redis://localhost:6379"),
        ('embedded = "no"', r"tool.minirq.embedded is 'no', a str: write true or false"),
        ("namespace = true", r"tool.minirq.namespace is True, a bool"),
        ('namespace = "a{b}"', r"tool.minirq.namespace: 'a{b}' cannot be a namespace"),
        ('worker = "fast"', r"tool.minirq.worker is 'fast', a str: write a table"),
        ("redis_url = ", r"pyproject.toml cannot be read"),
    ],
)
def test_a_mistake_in_the_project_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    write_project(tmp_path, f"[tool.minirq]\n{text}\n")
    with pytest.raises(ConfigError, match=expected):
        load(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379/0",
        "redis://user:secret@redis.example.org:6380/15",
        "redis://:p%40ss%2Fword@localhost/1",
        "rediss://[::1]:6379/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock",
        "unix://user:secret@/run/redis.sock?db=2",
    ],
)
def test_good_urls_are_taken_as_they_are(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, REDIS_URL=f" {url}\n").url == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:6379", r"did you mean redis://localhost:6379"),
        (":secret@localhost:6379", r"did you mean redis://\*\*\*@localhost:6379"),
        ("http://:secret@localhost", r"unknown scheme"),
        ("sentinel://:secret@localhost", r"unknown scheme"),
        ("redis://:secret@localhost:port", r"bad port"),
        ("redis://:secret@localhost:70000/0", r"bad port"),
        ("redis://:secret@localhost:0/0", r"bad port"),
        ("redis://:secr/et@localhost:6379/0", r"bad port.*write / as %2F"),
        ("redis://:6379/secret@localhost:6379/0", r"cannot be read"),
        ("redis://:1#secret@localhost:6379/0", r"cannot be read"),
        ("redis://:secret@localhost/orders", r"bad database 'orders'"),
        ("redis://:secret@localhost/-1", r"bad database"),
        ("redis://:secret@localhost?db=x", r"bad database"),
        ("unix://tmp/redis.sock", r"no absolute path"),
        ("unix://", r"no absolute path"),
    ],
)
def test_bad_urls_are_refused_without_showing_the_password(tmp_path: Path, url: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        load(tmp_path, MINIRQ_REDIS_URL=url)
    assert str(caught.value).startswith("MINIRQ_REDIS_URL: ")
    assert "secr" not in str(caught.value)


def test_a_printed_config_shows_no_password(tmp_path: Path) -> None:
    assert "secret" not in repr(load(tmp_path, REDIS_URL="redis://:secret@localhost"))
