"""A call: what is to be said to Redis, and how its answer is read.

Built by `protocol/operations`, which does no I/O; sent by whoever has a connection, in whichever
way that connection speaks (blocking or asyncio). Every call may be sent twice: it acts once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, TypeVar

from minirq.exceptions import MinirqError, ServerFault
from minirq.text import safe_repr

T = TypeVar("T")

Argument = str | bytes | int | float

#: what a reader raises for a reply of another shape than it expects
MISREAD = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script: its name, its text, and the SHA-1 by which the server knows it."""

    name: str
    text: str
    sha: str


@dataclass(slots=True)  # not frozen: made for every job
class Call(Generic[T]):
    """One request. With a script, `args` are numkeys, keys and arguments; without, the whole command."""

    args: tuple[Argument, ...]
    read: Callable[[Any], T]
    script: Script | None = None
    #: a call that may have acted is recognised for so many seconds, and not sent again after that
    known_for: float = inf

    @property
    def command(self) -> tuple[Argument, ...]:
        """The words to send."""
        return self.args if self.script is None else ("EVALSHA", self.script.sha, *self.args)

    def result(self, reply: Any) -> T:
        """What its reader makes of the reply. Raises ServerFault for one that has another shape."""
        try:
            return self.read(reply)
        except MinirqError:
            raise
        except MISREAD as error:
            raise self.misread(reply) from error

    def misread(self, reply: Any) -> ServerFault:
        """What is raised for a reply that the reader cannot make sense of."""
        return ServerFault(f"Redis answered {self.name} with what is no answer to it: {safe_repr(reply)}")

    @property
    def name(self) -> str:
        """What this call is named in messages: the script's event or the command."""
        return self.script.name if self.script else str(self.args[0])


class Hint(Call[T]):
    """A call beside another one, whose success it must not hide: an error of the server is its result."""

    __slots__ = ()
