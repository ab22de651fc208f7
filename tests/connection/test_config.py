"""Settings: argument before environment before pyproject.toml before default, and what is wrong is named."""

from __future__ import annotations

import grp
import os
import tempfile
from pathlib import Path

import pytest

from minirq.connection import Config, load_config
from minirq.connection.config import _searched
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


def test_patience_is_a_duration(tmp_path: Path) -> None:
    assert load(tmp_path).patience is None
    write_project(tmp_path, '[tool.minirq]\npatience = "30s"\n')
    assert load(tmp_path).patience == 30
    assert load(tmp_path, MINIRQ_PATIENCE="0").patience == 0
    write_project(tmp_path, "[tool.minirq]\npatience = 2.5\n")
    assert load(tmp_path).patience == 2.5
    with pytest.raises(ConfigError, match="MINIRQ_PATIENCE: 'soon' is not a duration"):
        load(tmp_path, MINIRQ_PATIENCE="soon")
    write_project(tmp_path, "[tool.minirq]\npatience = true\n")
    with pytest.raises(ConfigError, match=r"tool\.minirq\.patience"):
        load(tmp_path)


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


NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
TABLE = '[tool.minirq]\nnamespace = "theirs"\n'


def give_away(file: Path) -> None:
    os.chown(file, NOBODY, NOBODY, follow_symlinks=False)


@only_root
@pytest.mark.parametrize("kind", ["a file", "a link to a file of ours"])
def test_the_settings_of_a_stranger_are_an_error_that_names_the_way_out(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "pyproject.toml"
    if kind == "a file":
        file.write_text(TABLE)
    else:
        (tmp_path / "ours.toml").write_text(TABLE)
        file.symlink_to(tmp_path / "ours.toml")
    give_away(file)
    (tmp_path / "app").mkdir()
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "app")
    assert f"{file} belongs to user id {NOBODY}" in str(caught.value)
    assert f"--config {file}" in str(caught.value)
    assert load_config(environ={"HOME": "/", "MINIRQ_CONFIG": str(file)}).namespace == "theirs"


@only_root
def test_a_file_of_a_stranger_without_settings_hides_none_of_ours(tmp_path: Path) -> None:
    write_project(tmp_path, '[tool.minirq]\nnamespace = "ours"\n')
    write_project(tmp_path / "inner", "[project]\nname = 'inner'\n")
    give_away(tmp_path / "inner" / "pyproject.toml")
    (tmp_path / "inner" / "app").mkdir()
    assert load(tmp_path / "inner" / "app").namespace == "ours"


@only_root
def test_in_the_working_directory_a_file_of_another_is_taken(tmp_path: Path) -> None:
    write_project(tmp_path, TABLE)
    give_away(tmp_path / "pyproject.toml")
    assert load(tmp_path).namespace == "theirs"
    tmp_path.chmod(0o1777)  # anybody may have put it there
    with pytest.raises(ConfigError, match="belongs to user id"):
        load(tmp_path)


@pytest.mark.parametrize("place", [".", "app"])
def test_a_file_that_others_may_write_is_an_error(tmp_path: Path, place: str) -> None:
    file = write_project(tmp_path, TABLE) / "pyproject.toml"
    (tmp_path / "app").mkdir()
    file.chmod(0o666)
    with pytest.raises(ConfigError, match=f"of user id {os.geteuid()} may be written by others"):
        load(tmp_path / place)


@only_root
def test_a_group_counts_unless_it_is_the_owners_private_one(tmp_path: Path) -> None:
    file = write_project(tmp_path, TABLE) / "pyproject.toml"
    file.chmod(0o664)
    assert load(tmp_path).namespace == "theirs"  # root's own group
    os.chown(file, 0, grp.getgrnam("daemon").gr_gid)
    with pytest.raises(ConfigError, match="may be written by others"):
        load(tmp_path)


@pytest.mark.parametrize("border", ["repository", "worktree", "home"])
def test_the_search_ends_at_the_repository_and_at_the_home(
    tmp_path: Path, border: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(tmp_path, TABLE)
    inner = tmp_path / "inner"
    (inner / "app").mkdir(parents=True)
    assert load(inner / "app").namespace == "theirs"
    if border == "repository":
        (inner / ".git").mkdir()
    elif border == "worktree":
        (inner / ".git").write_text("gitdir: elsewhere\n")
    else:
        monkeypatch.setenv("HOME", str(inner))
    assert load(inner / "app").namespace == "minirq"
    write_project(inner, '[tool.minirq]\nnamespace = "inner"\n')  # the border itself counts
    assert load(inner / "app").namespace == "inner"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no other file system is at hand")
def test_the_search_ends_at_the_border_of_a_file_system(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if Path(folder).stat().st_dev == Path("/").stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own")
        searched = list(_searched(Path(folder)))
    assert searched == [Path(folder), Path("/dev/shm")]


@pytest.mark.parametrize("text", ["", 'REDIS_URL = "redis://localhost"\n', "[minirq]\n", "[tool]\n"])
def test_a_named_file_without_the_table_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.py"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"settings\.py has no table \[tool\.minirq\]"):
        load_config(file=file, environ={"HOME": "/"})


def test_the_file_that_has_set_something_is_known(tmp_path: Path) -> None:
    write_project(tmp_path, TABLE)
    assert load(tmp_path).file == tmp_path / "pyproject.toml"
    write_project(tmp_path, "[project]\n")
    assert load(tmp_path).file is None


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
