"""The command for each event of a job's life: its script, keys and arguments, and how the reply is read.

Nothing here does I/O: a `Call` comes out, and whoever has a connection sends it. Every call may be sent
twice: it acts once. Durations are seconds on this side and whole milliseconds on the wire.

Each event has one Lua script. A line `--#include time keys` in it is replaced by the text of
`lua/lib/time.lua` and `lua/lib/keys.lua`; `defaults` is made from `defaults.LUA_CONSTANTS`. Constants
(`local MOST_BYTES = 1048576`) are put in where they are used, because a script's body runs again at each call
and pays for every variable that one of its functions sees.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import chain
from math import inf
from typing import Any, Generic, Literal, TypeVar

import msgpack

from minirq.exceptions import ServerFault
from minirq.protocol import defaults
from minirq.protocol.codec import Packers
from minirq.protocol.keys import Keys, QueueKeys, can_be_key
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
        except MISREAD as error:
            raise self.misread(reply) from error

    def misread(self, reply: Any) -> ServerFault:
        """The error for a reply that the reader cannot make sense of."""
        return ServerFault(f"Redis answered {self.name} with what is no answer to it: {safe_repr(reply)}")

    @property
    def name(self) -> str:
        """What this call is named in messages: the script's event or the command."""
        return self.script.name if self.script else str(self.args[0])


class Hint(Call[T]):
    """A call beside another one, whose success it must not hide: an error of the server is its result."""

    __slots__ = ()


_LUA = files("minirq.protocol") / "lua"
_INCLUDE = re.compile(r"^--#include (.+)\n", re.MULTILINE)
_CONSTANTS = re.compile(r"^local ([A-Z_]+(?:, [A-Z_]+)*) = (.+)\n", re.MULTILINE)


@cache
def script(name: str) -> Script:
    """Return the script for this event, ready to be sent. Its files are read once."""
    source = (_LUA / f"{name}.lua").read_text("utf-8")
    text = _INCLUDE.sub(lambda line: "".join(map(_piece, line[1].split())) + "\n", source)
    constants: dict[str, str] = {}
    for names, values in _CONSTANTS.findall(text):
        constants.update(zip(names.split(", "), values.split(", "), strict=True))
    text = re.sub(r"\b[A-Z_]+\b", lambda word: constants.get(word[0], word[0]), _CONSTANTS.sub("", text))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _piece(name: str) -> str:
    if name == "defaults":
        return "".join(f"local {constant} = {value}\n" for constant, value in defaults.LUA_CONSTANTS.items())
    return (_LUA / "lib" / f"{name}.lua").read_text("utf-8")


Place = Literal["queue", "front", "delay", "at"]


# --- producing --------------------------------------------------------------------------------


@dataclass(slots=True)  # not frozen: made for every job
class NewJob:
    """A job about to be enqueued. `nonce` identifies this call where the id does not."""

    id: str
    payload: bytes
    nonce: str = ""
    place: Place = "queue"
    ms: int = 0
    ttl_ms: int | None = None
    fields: Mapping[str, Argument] = field(default_factory=dict)
    #: how long its record outlasts its end at least, seconds
    kept: float = defaults.RESULT_TTL


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of a job: created now (or by this call sent before), or one with its id has not ended yet.

    With `is_being_cleared` nothing of the call was enqueued: this id is about to end or to vanish.
    """

    is_new: bool
    status: str = ""
    is_being_cleared: bool = False


def enqueue(keys: QueueKeys, jobs: Sequence[NewJob], *, age: float = 0) -> Call[list[Enqueued]]:
    """Enqueue jobs of one queue, all or none of them.

    `age` is for how many seconds this very call may have acted already. If its jobs may be forgotten by now,
    it enqueues none.
    """
    parts: list[Any] = []
    known_for = inf
    for job in jobs:
        known_for = min(known_for, job.kept)
        ttl_ms = -1 if job.ttl_ms is None else job.ttl_ms
        fields = list(chain.from_iterable(job.fields.items()))
        parts += (job.id, job.payload, job.nonce, job.place, job.ms, ttl_ms, fields)

    def read(reply: Any) -> list[Enqueued]:
        if reply == 1:
            return [_ENQUEUED] * len(jobs)
        return [Enqueued(code > 0, status.decode(), code < 0) for code, status in reply]

    args: tuple[Argument, ...] = ("1", keys.queue, _packers.pack(parts))
    if age and age + _RESEND_WITHIN > known_for:
        return Call((*args, "known"), read, script("enqueue"))
    return Call(args, read, script("enqueue"), known_for - age)


_ENQUEUED = Enqueued(is_new=True)
#: a call that is sent again has this long to get there
_RESEND_WITHIN = 10
#: makes one argument of many, which the server unpacks; `cmsgpack` knows the old format only
_packers = Packers(use_bin_type=False, unicode_errors="surrogateescape")


# --- a worker's owner -------------------------------------------------------------------------
# values that are made for every job are not frozen, which would make them three times as slow


@dataclass(slots=True)
class Claimed:
    """A job that an owner holds. `has_record` is False for a payload that came without a hash."""

    queue: int
    id: str
    payload: bytes
    run: int
    attempts: int
    lost: int
    has_record: bool = True


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to "what next": see lua/lib/claim.lua for the states."""

    state: str
    jobs: list[Claimed]
    pause: float | None = None
    company: str = ""


@dataclass(slots=True)
class Settlement:
    """The outcome of one run. `seconds` is a TTL, a delay or a window, by the verb."""

    queue: int
    id: str
    run: int
    verb: Literal["finished", "failed", "retry", "miss", "release"]
    blob: bytes = b""
    seconds: float = 0
    place: Literal["queue", "front"] = "queue"


@dataclass(frozen=True, slots=True)
class SetAside:
    """A job with a key that cannot be read, and why."""

    queue: str
    id: str
    why: str


SETTLED, SETTLED_BEFORE, DELETED, FENCED, MISSED_TOO_LONG = 1, 2, 3, 0, 4


@dataclass(frozen=True, slots=True)
class Settled:
    """A code for each settlement (minus its pause, ms, for a job that was missed), and the claim with it."""

    codes: list[int]
    claim: Claim
    aside: Sequence[SetAside] = ()


def finish(
    queues: Sequence[QueueKeys],
    owner: str,
    settlements: Sequence[Settlement],
    *,
    want: int,
    in_hand: Iterable[tuple[int, str]] = (),
    company: str = "",
) -> Call[Settled]:
    """Settle a batch and claim up to `want` jobs.

    `in_hand` are the queues and ids of what is held and not settled here. `company` is that of the jobs
    that the process runs beside these, as a claim returned it.
    """
    parts: list[Any] = []
    for s in settlements:
        parts += (s.queue + 1, s.id, s.run, s.verb, s.blob, milliseconds(s.seconds), s.place)
    held = [part for queue, job_id in in_hand for part in (queue + 1, job_id)]
    return _call("finish", queues, [_packers.pack([owner, want, parts, held, company])], _read_settled)


def _read_settled(reply: bytes) -> Settled:
    codes, state, jobs, pause_ms, company, aside = msgpack.unpackb(reply, raw=True)
    part = iter(jobs)
    claimed = [
        Claimed(number - 1, text_of(job_id), payload, run, attempts, lost, not is_fresh)
        for payload, number, job_id, run, attempts, lost, is_fresh in zip(*[part] * 7, strict=True)
    ]
    pause = pause_ms / 1000 if pause_ms > 0 else None
    claim = Claim(state.decode(), claimed, pause, text_of(company))
    return Settled(codes, claim, _set_aside(aside) if aside else ())


def _set_aside(flat: Sequence[bytes]) -> list[SetAside]:
    part = map(text_of, flat)
    return [SetAside(*three) for three in zip(part, part, part, strict=True)]


@dataclass(frozen=True, slots=True)
class Beat:
    """The server's time, ms; the owners that are lost, and those that hold a job; seconds until a sweep.

    `promote_in`: for each queue the seconds until promote has something to do, infinite if nothing is
    scheduled; None where another worker sees to it.
    """

    now_ms: int
    lost: frozenset[str]
    holding: frozenset[str]
    sweep_in: float | None
    promote_in: tuple[float | None, ...]


def beat(
    queues: Sequence[QueueKeys], owners: Sequence[str], *, lease: float, worker: str, new: Sequence[str] = ()
) -> Call[Beat]:
    """Renew the leases of a worker's `owners`, and register `new` ones."""
    args: list[Argument] = [milliseconds(lease), len(new), worker, *new, *owners]
    return _call("beat", queues, args, _read_beat)


def _read_beat(reply: Any) -> Beat:
    now_ms, sweep_ms, lost, holding, promote_ms = reply
    promote_in = tuple(None if ms == -2 else inf if ms < 0 else ms / 1000 for ms in promote_ms)
    return Beat(
        now_ms,
        frozenset(map(text_of, lost)),
        frozenset(map(text_of, holding)),
        _seconds(sweep_ms),
        promote_in,
    )


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A job of a dead owner and its fate: queued, scheduled, failed, canceled, deleted, unknown (`why`)."""

    id: str
    owner: str
    fate: str
    lost: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep took back. `is_refused`: the time was off. `is_more`: another sweep is due at once."""

    taken: list[TakenBack]
    is_refused: bool = False
    is_more: bool = False


def take_back(
    keys: QueueKeys,
    owner: str,
    *,
    evidence: bytes,
    blamed: Sequence[tuple[str, int]] | None,
    pause: float,
    linger: float = 0,
    is_spared: bool = False,
) -> Call[Swept]:
    """Take back what a dead owner holds. Only once its process is known to be dead.

    The owner is forgotten at once, or `linger` seconds later: until then its BLMOVE may be served. `blamed`
    are the (id, run) that were running when it died; None blames all that were claimed. With `is_spared`
    they are not to blame for it, and only those fail that must not run again.
    """
    blame = "all" if blamed is None else "spared" if is_spared else "named"
    named = [part for job in blamed or () for part in job]
    pause_ms, linger_ms = milliseconds(pause), milliseconds(linger)
    args: list[Argument] = [owner, 0, 0, pause_ms, evidence, 0, linger_ms, blame, *named]
    return _call("reclaim", [keys], args, _read_swept)


def sweep(
    keys: QueueKeys,
    *,
    now_ms: float,
    tolerance: float,
    evidence: bytes,
    lease: float,
    pause: float,
    linger: float,
) -> Call[Swept]:
    """Take back what owners hold whose lease has run out, and forget those that died long enough ago."""
    tolerance_ms, pause_ms, lease_ms, linger_ms = map(milliseconds, (tolerance, pause, lease, linger))
    args: list[Argument] = ["", int(now_ms), tolerance_ms, pause_ms, evidence, lease_ms, linger_ms, "all"]
    return _call("reclaim", [keys], args, _read_swept)


def _read_swept(reply: Any) -> Swept:
    state, *jobs = reply
    taken = [
        TakenBack(text_of(i), text_of(owner), text_of(fate), lost, *map(text_of, why))
        for i, owner, fate, lost, *why in jobs
    ]
    return Swept(taken, state == b"refused", state == b"more")


@dataclass(frozen=True, slots=True)
class Promoted:
    """How many jobs became due, and seconds until the next one; None if there is none.

    `is_more`: another call has more to trim. `is_sweep_due`: a sweep has something to do.
    `failed` is the number of failed jobs, if it was asked to trim.
    """

    moved: int
    next_in: float | None
    is_more: bool = False
    is_sweep_due: bool = False
    failed: int | None = None
    aside: Sequence[SetAside] = ()


def promote(
    keys: QueueKeys, *, most: int = 200, trim: bool = False, missed: Iterable[str] = ()
) -> Call[Promoted]:
    """Move due jobs into the queue; with `trim`, also trim the indexes of ended jobs.

    `missed` are ids of jobs that are due now, if a worker has parked them because it did not know their
    function, and nobody has run them since.
    """
    args: list[Argument] = [most, defaults.MOST_FINISHED if trim else "", *missed]
    return _call("promote", [keys], args, _read_promoted)


def _read_promoted(reply: Any) -> Promoted:
    moved, next_ms, _, trim, sweep, failed, aside = reply
    failed = None if failed < 0 else failed
    return Promoted(moved, _seconds(next_ms), bool(trim), bool(sweep), failed, _set_aside(aside))


@dataclass(frozen=True, slots=True)
class Taken:
    """The names that the caller looks after now; seconds until the next one may be taken."""

    names: list[str]
    next_in: float


def maintain(keys: Keys, *, most: int, pause: float, also: Sequence[str] = ()) -> Call[Taken]:
    """Take over what nobody has looked after; for `pause` seconds no other worker is handed it."""
    args: tuple[Argument, ...] = ("1", keys.maintenance, most, milliseconds(pause), *also)
    return Call(args, _read_taken, script("maintain"))


def _read_taken(reply: Any) -> Taken:
    next_ms, *names = reply
    return Taken([name for name in map(text_of, names) if can_be_key(name)], next_ms / 1000)


# --- one job ----------------------------------------------------------------------------------


def cancel(keys: QueueKeys, job_id: str, *, keep: bool = True, payload: bytes = b"") -> Call[str]:
    """Cancel (or, without `keep`, delete) a job; the reply is the status it had (lua/cancel.lua)."""
    return _call("cancel", [keys], [job_id, int(keep), payload], text_of)


def stop(keys: QueueKeys, job_id: str) -> Call[str]:
    """Interrupt a job that runs, so that it ends as stopped; the reply is its status, "" without one."""
    return _call("stop", [keys], [job_id], text_of)


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A run that is asked to stop, and the owner that holds it."""

    owner: str
    queue: str
    id: str
    run: int


def read_stop_request(message: bytes) -> StopRequest | None:
    """Read what was published about a run that shall stop; None for what cannot be read."""
    try:
        run, owner_ends, queue_length, rest = message.split(b" ", 3)
        at, id_at = int(owner_ends), int(owner_ends) + int(queue_length)
        return StopRequest(text_of(rest[:at]), text_of(rest[at:id_at]), text_of(rest[id_at:]), int(run))
    except ValueError:
        return None


def requeue(keys: QueueKeys, job_id: str, *, at_front: bool = False) -> Call[str]:
    """Run an ended job again; the reply is "requeued" or the reason why not (lua/requeue.lua)."""
    nonce = secrets.token_hex(4)
    return _call("requeue", [keys], [job_id, "front" if at_front else "queue", nonce], text_of)


def note(keys: QueueKeys, job_id: str, fields: dict[str, Argument], *, run: int | None = None) -> Call[bool]:
    """Write fields into the record of a job that exists, and that `run` holds if it is given."""
    written = chain.from_iterable(fields.items())
    return _call("note", [keys], [job_id, "" if run is None else run, *written], bool)


def wait(keys: QueueKeys, job_id: str, waiter: str, *, here: bool) -> Call[str]:
    """Register a waiter for the job's end, or take it off; the reply is the job's status, "" without one."""
    return _call("wait", [keys], [job_id, waiter, int(here)], text_of)


# --- a whole queue ----------------------------------------------------------------------------


def empty(keys: QueueKeys, place: str, *, most: int = 500) -> Call[tuple[int, int]]:
    """Delete a chunk of the jobs in one place (lua/empty.lua); (looked at, deleted)."""
    return _call("empty", [keys], [place, most], lambda reply: (reply[0], reply[1]))


def pause(keys: QueueKeys, *, seconds: float | None) -> Call[bool]:
    """Pause a queue for this many seconds; None pauses until it is resumed, 0 resumes it."""
    return _call("pause", [keys], [-1 if seconds is None else milliseconds(seconds)], bool)


# --- how a call is made -----------------------------------------------------------------------


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, rounded up, so that nothing comes early; -1 stays -1."""
    return -1 if seconds == -1 else -int(-seconds * 1000 // 1)


def _seconds(ms: int) -> float | None:
    return None if ms < 0 else ms / 1000


def _call(event: str, queues: Sequence[QueueKeys], args: Sequence[Argument], read: Any) -> Call[Any]:
    return Call((len(queues), *(keys.queue for keys in queues), *args), read, script(event))


def text_of(value: bytes) -> str:
    """A text from Redis. Bytes that are not UTF-8 come as surrogates and are sent as those bytes again."""
    return value.decode("utf-8", "surrogateescape")
