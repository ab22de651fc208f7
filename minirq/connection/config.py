"""The settings that every part shares: which Redis, which namespace, where an embedded server keeps its data.

Each comes from the first that has it: argument, environment, `[tool.minirq]` of the nearest pyproject.toml,
default. This is the only module that reads the environment. It opens no connection.

A pyproject.toml says which modules a worker imports and which Redis it obeys, so one that a stranger wrote,
or could write, is not taken: neither its settings, nor the defaults in their place.

redis-py takes `redis://host/orders` for database 0 and `unix://tmp/redis.sock` for `/redis.sock` without a
word, so a URL is checked here before redis-py sees it. Messages never show its password.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from minirq.durations import parse_duration, parse_size
from minirq.exceptions import ConfigError, InvalidOption
from minirq.ownership import is_of_stranger, is_open_to_others
from minirq.protocol.defaults import DEFAULT_NAMESPACE

#: reading a payload may take 128 times its size in memory when it is made to (protocol/codec)
DEFAULT_MAX_PAYLOAD = 16 * 1024 * 1024

T = TypeVar("T")
#: checks a value, and names its source (a variable, or a file and key) in errors
Check = Callable[[Any, str], T]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Where Redis is, and under which names minirq lives in it.

    `url` is None if none is configured: then `embedded` is whether a private server may be used,
    and `home` is its directory. `max_payload` is the largest payload that is enqueued or read, bytes.
    `patience` is how long producers wait for an unreachable server, seconds; None for the default.
    `worker_defaults` is the table `[tool.minirq.worker]` as it stands there, unchecked: the worker knows
    its own options. `file` is the TOML file that has set something.
    """

    url: str | None = field(repr=False)  # it may hold a password
    namespace: str = DEFAULT_NAMESPACE
    home: Path
    embedded: bool = True
    max_payload: int = DEFAULT_MAX_PAYLOAD
    patience: float | None = None
    worker_defaults: Mapping[str, object] = field(default_factory=dict, hash=False)
    file: Path | None = None


def load_config(
    *,
    url: str | None = None,
    namespace: str | None = None,
    needs_url: bool = True,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    start_dir: Path | None = None,
) -> Config:
    """Gather the settings; raise ConfigError that names the variable, or the file and the key.

    Without `needs_url` no URL is looked for: the caller has a connection.
    `file` is a TOML file with the same tables that is read instead of the nearest pyproject.toml.
    """
    file = file or _variable(environ, "MINIRQ_CONFIG", _absolute_path)
    project = _Project.of(file) if file else _Project.nearest(start_dir)

    def setting(key: str, *variables: str, check: Check[T], kind: type = str) -> T | None:
        for name in variables:
            value = _variable(environ, name, check)
            if value is not None:
                return value
        return project.get(key, check, kind)

    if url is not None:
        url = checked_url(url, "url")
    elif needs_url:
        url = setting("redis_url", "MINIRQ_REDIS_URL", "REDIS_URL", check=checked_url)
    if namespace is not None:
        namespace = _checked_namespace(namespace, "namespace")
    else:
        namespace = setting("namespace", "MINIRQ_NAMESPACE", check=_checked_namespace)
    max_payload = setting("max_payload", "MINIRQ_MAX_PAYLOAD", check=_checked_size)
    home = _variable(environ, "MINIRQ_HOME", _absolute_path) or project.get("home", project.path)
    return Config(
        url=url,
        namespace=namespace or DEFAULT_NAMESPACE,
        home=home or _default_home(environ),
        embedded=setting("embedded", "MINIRQ_EMBEDDED", check=_checked_flag, kind=bool) is not False,
        max_payload=max_payload or DEFAULT_MAX_PAYLOAD,
        patience=setting("patience", "MINIRQ_PATIENCE", check=_checked_duration, kind=object),
        worker_defaults=project.get("worker", _as_it_is, dict) or {},
        file=project.used_file,
    )


def _variable(environ: Mapping[str, str], name: str, check: Check[T]) -> T | None:
    value = environ.get(name)
    if value is None:
        return None
    # `MINIRQ_REDIS_URL=` in a compose file is an accident: taken as unset it would make a private queue
    if not value.strip():
        raise ConfigError(f"{name} is set but empty: give it a value, or unset it")
    return check(value, name)


#: what to write in a TOML file for a value of this type
_IN_TOML: dict[type, str] = {
    str: "a text in quotes",
    bool: "true or false, without quotes",
    dict: "a table, [tool.minirq.worker]",
}


class _Project:
    """The table `[tool.minirq]` of one pyproject.toml; without one, an empty table."""

    _KEYS = ("redis_url", "namespace", "home", "embedded", "max_payload", "patience", "worker")

    def __init__(self, file: Path, table: Mapping[str, object]) -> None:
        self._file = file
        self._table = table
        for key in table:
            if key not in self._KEYS:
                raise ConfigError(f"{self._source(key)}: no such key; known are {', '.join(self._KEYS)}")

    @classmethod
    def of(cls, file: Path) -> _Project:
        table = _read_table(file)
        if table is None:
            raise ConfigError(f"{file} has no table [tool.minirq]: write one, or leave the file out")
        return cls(file.absolute(), table)

    @classmethod
    def nearest(cls, start_dir: Path | None) -> _Project:
        try:
            start = (start_dir or Path.cwd()).absolute()
        except FileNotFoundError:  # the working directory was removed under us
            return cls(Path("pyproject.toml"), {})
        for folder in _searched(start):
            file = folder / "pyproject.toml"
            if not file.is_file():
                continue
            table = _read_table(file)
            fault = _fault_of(file, folder == start)
            if not fault:
                return cls(file, table or {})
            if table is not None:
                raise ConfigError(
                    f"{file} {fault}, so its settings are not taken: pass --config {file} (or set"
                    " MINIRQ_CONFIG) if you trust them, or work elsewhere"
                )
        return cls(start / "pyproject.toml", {})

    @property
    def used_file(self) -> Path | None:
        return self._file if self._table else None

    def get(self, key: str, check: Check[T], kind: type = str) -> T | None:
        value = self._table.get(key)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is str and not str(value).strip()):
            raise ConfigError(f"{self._source(key)} is {_kind(value)}: write {_IN_TOML[kind]}")
        return check(value, self._source(key))

    def path(self, value: str, source: str) -> Path:
        return self._file.parent / _expanded(value, source)

    def _source(self, key: str) -> str:
        return f"{self._file}: tool.minirq.{key}"


def _searched(start: Path) -> Iterator[Path]:
    """The directories that may hold the project's file: up to its repository, the home, or a mount point."""
    home, device = Path(os.path.realpath(os.path.expanduser("~"))), start.stat().st_dev  # noqa: PTH111
    for folder in (start, *start.parents):
        if not os.access(folder, os.X_OK) or folder.stat().st_dev != device:
            return
        yield folder
        if folder == home or (folder / ".git").exists():
            return


def _fault_of(file: Path, is_here: bool) -> str:
    """Why a file is not trusted; "" if it is. `is_here`: it lies in the working directory itself."""
    if not hasattr(os, "geteuid"):  # Windows
        return ""
    folder = file.parent.stat()
    # the target of a link, and the link
    for about in (file.stat(), file.lstat()):
        # where others may add files, any of them may have put it there
        if is_of_stranger(about) and (not is_here or is_open_to_others(folder)):
            return f"belongs to user id {about.st_uid}"
    about = file.stat()
    return f"of user id {about.st_uid} may be written by others" if is_open_to_others(about) else ""


def _read_table(file: Path) -> Mapping[str, object] | None:
    """Return the table [tool.minirq], None if the file has none."""
    import tomllib  # not everybody has a file

    try:
        tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigError(f"{file} cannot be read: {error}") from error
    table = tool.get("minirq") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"{file}: tool.minirq is {_kind(table)}: write a table, [tool.minirq]")
    return table


def _kind(value: object) -> str:
    return "empty" if value == "" else f"{value!r}, a {type(value).__name__}"


def _checked_namespace(value: str, source: str) -> str:
    # braces would end the hash tag that keeps the keys of a queue in one Cluster slot
    if not value or not value.isprintable() or any(c in "{} " for c in value):
        raise ConfigError(
            f"{source}: {value!r} cannot be a namespace: use no spaces, braces or control characters"
        )
    return value


def _checked_flag(value: str | bool, source: str) -> bool:
    match str(value).strip().lower():
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
    raise ConfigError(f"{source} is {value!r}: write 0 or 1")


def _parsed_with(parse: Callable[..., T]) -> Check[T]:
    def check(value: Any, source: str) -> T:
        try:
            return parse(value, what=source)
        except InvalidOption as error:
            raise ConfigError(str(error)) from error

    return check


_checked_duration = _parsed_with(parse_duration)
_checked_size = _parsed_with(parse_size)


def _as_it_is(value: Mapping[str, object], source: str) -> Mapping[str, object]:
    return value


def _expanded(value: str, source: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{source}: {value!r}: {error}") from error


def _absolute_path(value: str, source: str) -> Path:
    return _expanded(value, source).absolute()


def _default_home(environ: Mapping[str, str]) -> Path:
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if state.is_absolute():  # the XDG specification: a relative path is to be ignored
        return state / "minirq"
    # unlike Path.home(), it answers "~" for a user without a home directory
    user_home = Path(environ.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111
    if user_home.is_absolute():
        return user_home / ".local" / "state" / "minirq"
    return Path(f"/tmp/minirq-{os.getuid()}")


# --- URLs -------------------------------------------------------------------------------------

_FORMS = "redis://[[user]:password@]host[:port][/db], rediss://... for TLS, or unix:///path/to/redis.sock"


def checked_url(url: str, source: str) -> str:
    """Return the URL stripped of white space, or raise ConfigError naming `source`, never the password."""
    url = url.strip()
    if not url:
        raise ConfigError(f"{source} is empty: give {_FORMS}, or leave it unset")
    if "://" not in url:
        raise ConfigError(f"{source}: {_masked(url)!r} has no scheme: did you mean redis://{_masked(url)} ?")
    if wrong := _wrong_in(url):
        raise ConfigError(f"{source}: {shown_url(url)!r} {wrong}")
    return url


def shown_url(url: str) -> str:
    """Return the URL for messages and logs: credentials become `***`, and of the query only `db` stays."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _masked(url)
    address, _, query = _masked(rest).partition("?")
    db = parse_qs(query).get("db")
    return f"{scheme}://{address}" + (f"?db={db[0]}" if db else "")


def _masked(text: str) -> str:
    # up to the last @: a password with an unquoted @, / or # in it must not show either
    credentials, at, address = text.rpartition("@")
    return f"***@{address}" if at and credentials else address


def _wrong_in(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in ("redis", "rediss", "unix"):
        return f"has an unknown scheme: use {_FORMS}"
    hint = " (in a password, write / as %2F, # as %23, ? as %3F and @ as %40)" if "@" in rest else ""
    try:
        parts = urlsplit(url)
        is_port = parts.port != 0
    except ValueError:  # its message may quote a part of the password
        is_port = False
    if not is_port:
        return f"has a bad port: it is a number from 1 to 65535{hint}"
    if "@" in parts.path or parts.fragment:
        return f"cannot be read{hint}"
    databases = parse_qs(parts.query, keep_blank_values=True).get("db", [])
    if scheme == "unix":
        if parts.hostname or parts.path in ("", "/"):
            return "has no absolute path: a socket is written unix:///path/to/redis.sock"
    elif path := parts.path.strip("/"):
        databases.append(path)
    for db in databases:
        if not (db.isascii() and db.isdigit()):
            return f"has a bad database {db!r}: it is a number, as in redis://localhost:6379/0 or ?db=0"
    return ""
