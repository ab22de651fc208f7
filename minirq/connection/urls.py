"""Redis URLs: what is wrong with one, and how to show one without its password.

redis-py takes `redis://host/orders` for database 0 and `unix://tmp/redis.sock` for `/redis.sock`
without a word, so a URL is checked here before redis-py sees it.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qs, urlsplit

from minirq.exceptions import ConfigError

_FORMS = "redis://[[user]:password@]host[:port][/db], rediss://... for TLS, or unix:///path/to/redis.sock"


def checked_url(url: str, source: str) -> str:
    """Return the URL stripped of white space, or raise ConfigError naming `source`, never the password."""
    url = url.strip()
    if not url:
        raise ConfigError(f"{source} is empty: give {_FORMS}, or leave it unset")
    if "://" not in url:
        raise ConfigError(f"{source}: {_masked(url)!r} has no scheme: did you mean redis://{_masked(url)} ?")
    scheme, _, rest = url.partition("://")
    wrong = _wrong_in(scheme, url, rest)
    if wrong:
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


def _wrong_in(scheme: str, url: str, rest: str) -> str:
    if scheme not in ("redis", "rediss", "unix"):
        return f"has an unknown scheme: use {_FORMS}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # of a port; its message may quote a part of the password
        port = 0
        parts = urlsplit("")
    if port == 0:
        return "has a bad port: it is a number from 1 to 65535" + _hint_at_quoting(rest)
    if "@" in parts.path or "@" in parts.fragment or parts.fragment:
        return "cannot be read" + _hint_at_quoting(rest)
    return _wrong_path(parts) or _wrong_query_db(parts)


def _hint_at_quoting(rest: str) -> str:
    return " (in a password, write / as %2F, # as %23, ? as %3F and @ as %40)" if "@" in rest else ""


def _wrong_path(parts: SplitResult) -> str:
    if parts.scheme == "unix":
        if parts.hostname or parts.path in ("", "/"):
            return "has no absolute path: a socket is written unix:///path/to/redis.sock"
        return ""
    db = parts.path.strip("/")
    if db and not _is_number(db):
        return f"has a bad database {db!r}: it is a number, as in redis://localhost:6379/0"
    return ""


def _wrong_query_db(parts: SplitResult) -> str:
    for db in parse_qs(parts.query, keep_blank_values=True).get("db", []):
        if not _is_number(db):
            return "has a bad database: db is a number, as in ?db=0"
    return ""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
