"""Names that go into keys: of queues, of jobs, of namespaces. Checked once, where they come in."""

from __future__ import annotations

from minirq.exceptions import InvalidOption
from minirq.protocol.payload import MAX_ID_BYTES
from minirq.text import safe_repr, safe_text

MAX_NAME = 200


def check_queue_name(name: object) -> str:
    """Return the name if a queue may have it, else raise InvalidOption."""
    return _check(name, "queue name", MAX_NAME)


def check_job_id(job_id: object) -> str:
    """Return the id if a job may have it, else raise InvalidOption."""
    return _check(job_id, "job id", MAX_ID_BYTES)


def _check(name: object, what: str, most: int) -> str:
    if not isinstance(name, str):
        hint = "; pass it as connection=" if hasattr(name, "connection_pool") else f": {safe_repr(name)}"
        raise InvalidOption(f"a {what} is text, not {type(name).__name__}{hint}")
    if not name:
        raise InvalidOption(f"a {what} cannot be empty")
    shown = safe_text(name)
    if any(char.isspace() or not char.isprintable() or char in "{}" for char in name):
        raise InvalidOption(f"a {what} must not contain spaces, braces or control characters: {shown!r}")
    if len(name.encode("utf-8", "surrogatepass")) > most:
        raise InvalidOption(f"a {what} can be {most} bytes long at most: {shown!r}")
    return name
