"""A model of what the scripts do: the same events in plain Python, and a look at whether Redis agrees.

It knows everything that happened, also what no client was told. It follows claims by their replies,
since which jobs are taken is the server's choice, and checks that the choice was allowed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis as redis_py

from minirq.protocol.commands import Claim, Settlement
from minirq.protocol.payload import id_of

Key = tuple[int, str]  # number of the queue, job id

QUEUE, PARKED, NOWHERE = "(queue)", "(parked)", "(nowhere)"
ENDED = {"finished", "failed", "canceled", "stopped", "expired"}
LIVE, LATE, BURIED = "live", "late", "buried"
OTHERS, ALONE = "others", "alone"

_DUMP = """
local dump = {}
for _, key in ipairs(redis.call("KEYS", ARGV[1] .. "*")) do
  local kind, content = redis.call("TYPE", key).ok, false
  if kind == "hash" then content = redis.call("HGETALL", key)
  elseif kind == "list" then content = redis.call("LRANGE", key, 0, -1)
  elseif kind == "zset" then content = redis.call("ZRANGE", key, 0, -1)
  elseif kind == "string" then content = redis.call("GET", key) end
  dump[#dump + 1] = { key, redis.call("PTTL", key), content }
end
return dump
"""


@dataclass
class MirroredJob:
    """A job as its hash and its place should be. `is_tombstone`: canceled, and its payload not found yet."""

    payload: bytes
    nonce: str
    life: int
    status: str = "queued"
    place: str = QUEUE
    run: int = 0
    attempts: int = 0
    lost: int = 0
    loss_limit: int = 2
    died_with: str = ""
    is_kept: bool = True
    owner: str = ""
    stop: bool = False
    gone: bool = False
    waited_for: bool = False

    @property
    def is_tombstone(self) -> bool:
        return self.status == "canceled" and self.place not in (PARKED, NOWHERE)

    @property
    def company(self) -> str:
        """With whom it may run."""
        if self.lost == 0:
            return OTHERS
        return self.died_with if self.lost == 1 and self.died_with and self.loss_limit > 1 else ALONE


@dataclass
class Model:
    """All jobs, leases and pauses; `saw` counts what happened."""

    queue_count: int
    saw: Counter[str]
    jobs: dict[Key, MirroredJob] = field(default_factory=dict)
    leases: dict[str, list[str]] = field(default_factory=dict)
    paused: list[bool] = field(default_factory=list)
    mail: Counter[Key] = field(default_factory=Counter)
    lives: Counter[Key] = field(default_factory=Counter)
    settled: set[tuple[Key, int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.paused = [False] * self.queue_count

    # --- producing ----------------------------------------------------------------------------

    def enqueue(
        self, key: Key, payload: bytes, nonce: str, place: str, loss_limit: int, is_kept: bool = True
    ) -> int:
        """Return the code of lua/enqueue.lua; `is_kept`: unless it finishes, its record outlasts its end."""
        old = self.jobs.get(key)
        if old and old.nonce == nonce:
            return 2
        if old and (old.is_tombstone or (old.status == "started" and (old.stop or old.gone))):
            return -1
        if old and old.status not in ENDED:
            return 0
        self.lives[key] += 1
        job = MirroredJob(payload, nonce, self.lives[key], loss_limit=loss_limit, is_kept=is_kept)
        if old:
            self.saw["an ended id was replaced"] += 1
            job.run = old.run
        if place == "delay":
            job.status, job.place = "scheduled", PARKED
        self.jobs[key] = job
        return 1

    # --- owners -------------------------------------------------------------------------------

    def register(self, owner: str) -> None:
        self.leases[owner] = [LIVE] * self.queue_count

    def beat(self, owner: str) -> bool:
        """Return whether the owner is lost."""
        leases = self.leases[owner]
        if BURIED in leases:
            return True
        self.saw["a late owner was renewed"] += LATE in leases
        self.leases[owner] = [LIVE] * self.queue_count
        return False

    def let_lease_run_out(self, owner: str) -> None:
        self.leases[owner] = [BURIED if lease == BURIED else LATE for lease in self.leases[owner]]

    def settle(self, owner: str, settlement: Settlement) -> int:
        """Return the code of lua/finish.lua."""
        key = settlement.queue, settlement.id
        job = self.jobs.get(key)
        if job is None:
            return 0
        if job.place != owner or job.status != "started":
            before = job.run == settlement.run and job.owner == owner and job.status != "started"
            return 2 if before else 0
        if job.run != settlement.run:
            return 0
        # each run settles at most once
        assert (key, job.life, job.run) not in self.settled
        self.settled.add((key, job.life, job.run))
        if job.gone:
            self._delete(key)
            return 3
        self._record(key, job, settlement)
        return 1

    def _record(self, key: Key, job: MirroredJob, settlement: Settlement) -> None:
        verb = settlement.verb
        job.attempts += verb not in ("release", "miss")
        self.saw[verb] += 1
        if job.stop and verb in ("retry", "release", "miss"):
            self._end(key, job, "canceled", is_kept=job.is_kept)
        elif verb in ("finished", "failed"):
            self._end(key, job, verb, is_kept=settlement.seconds != 0)
        elif verb in ("retry", "miss") and settlement.seconds:
            job.status, job.place = "scheduled", PARKED
        elif verb == "miss":  # its time is up
            self._end(key, job, "failed", is_kept=job.is_kept)
        else:
            job.status, job.place = "queued", QUEUE

    def bring(self, owner: str, queue: int, payload: bytes) -> None:
        """BLMOVE was served."""
        job = self.jobs[queue, id_of(payload)]
        assert job.place == QUEUE
        job.place = owner
        self.saw["brought"] += 1
        self.saw["brought to a buried owner"] += self.leases[owner][queue] == BURIED

    def claim(
        self,
        owner: str,
        want: int,
        in_hand: Sequence[Key],
        company: str,
        claim: Claim,
        is_cleared: Callable[[Key], bool],
    ) -> None:
        """Follow a claim, and check that it was allowed."""
        leases = self.leases.get(owner, [BURIED])
        if BURIED in leases or LATE in leases:
            assert (claim.state, claim.jobs) == ("lost" if BURIED in leases else "late", [])
            return
        held = {key for key, job in self.jobs.items() if job.place == owner}
        handed = [(job.queue, job.id) for job in claim.jobs]
        self._check_company(handed, company, claim)
        adopted = self._adopt(owner, held.difference(in_hand), set(handed), claim)
        taken = handed[len(adopted) :]
        assert set(handed[: len(adopted)]) == adopted
        assert len(taken) <= max(0, want - len(adopted))
        assert not (taken and claim.state == "drain")
        for key in taken:
            job = self.jobs[key]
            assert (job.status, job.place, self.paused[key[0]]) == ("queued", QUEUE, False)
            self._start(job, owner)
        for got in claim.jobs:
            job = self.jobs[got.queue, got.id]
            assert (got.payload, got.run, got.attempts, got.lost) == (
                job.payload, job.run, job.attempts, job.lost,
            )  # fmt: skip
            assert got.has_record
        for key, job in list(self.jobs.items()):
            if job.is_tombstone and job.place == QUEUE and not self.paused[key[0]] and is_cleared(key):
                self._clear(key)

    def _check_company(self, handed: Sequence[Key], company: str, claim: Claim) -> None:
        """A job with a death on record hurts only itself, or once more those that died with it."""
        self.saw["told to drain"] += claim.state == "drain"
        if not handed:
            return
        assert {self.jobs[key].company for key in handed} == {claim.company}
        assert company in ("", claim.company)
        if claim.company == ALONE:
            self.saw["claimed alone"] += 1
            assert (company, len(handed)) == ("", 1)
        elif claim.company != OTHERS:
            self.saw["claimed with those of the same death"] += bool(company) or len(handed) > 1

    def _adopt(self, owner: str, unknown: set[Key], handed: set[Key], claim: Claim) -> set[Key]:
        adopted = set()
        for key in unknown:
            job = self.jobs[key]
            if job.is_tombstone:
                self._clear(key)
            elif job.status == "started" and key in handed:
                adopted.add(key)
                self.saw["redelivered"] += 1
            elif job.status == "started":
                self._check_misfit(job, claim)
                assert claim.state in ("drain", "paused")
                self.saw["kept until the process is free"] += 1
            elif self.paused[key[0]]:
                job.place = QUEUE
                self.saw["given back by a paused queue"] += 1
            elif key in handed:
                self._start(job, owner)
                adopted.add(key)
                self.saw["adopted"] += 1
            else:
                self._check_misfit(job, claim)
                job.place = QUEUE
                self.saw["skipped when it was brought"] += 1
        return adopted

    def _check_misfit(self, job: MirroredJob, claim: Claim) -> None:
        assert claim.company
        assert job.company != claim.company or job.company == ALONE

    def _start(self, job: MirroredJob, owner: str) -> None:
        job.status, job.place, job.owner = "started", owner, owner
        job.run += 1

    def _clear(self, key: Key) -> None:
        self.saw["a tombstone was cleared"] += 1
        if self.jobs[key].gone:
            self._delete(key, is_told=False)
        else:
            self.jobs[key].place = PARKED if self.jobs[key].is_kept else NOWHERE

    def bury(
        self,
        owner: str,
        queue: int,
        blamed: Sequence[tuple[str, int]] | None,
        pause: float,
        *,
        is_spared: bool = False,
    ) -> set[tuple[str, str, str, int]]:
        """Return what lua/reclaim.lua says of the jobs."""
        self.leases[owner][queue] = BURIED
        taken, survivors = set(), []
        for key, job in list(self.jobs.items()):
            if key[0] != queue or job.place != owner:
                continue
            if job.status == "started":
                is_guilty = blamed is None or (key[1], job.run) in blamed
                if is_guilty and is_spared:
                    is_guilty = job.loss_limit == 0
                    self.saw["spared in vain"] += is_guilty
                fate = self._lose(key, job, is_guilty, pause)
                taken.add((key[1], owner, fate, job.lost))
                survivors += [job] if is_guilty and fate == "queued" else []
            else:
                job.place = QUEUE
                if not job.is_tombstone:
                    taken.add((key[1], owner, "queued", job.lost))
        for job in survivors if len(survivors) > 1 else []:
            job.died_with = owner
        return taken

    def _lose(self, key: Key, job: MirroredJob, is_guilty: bool, pause: float) -> str:
        job.owner = ""
        job.lost += is_guilty
        job.attempts += is_guilty
        self.saw["lost"] += is_guilty
        self.saw["taken back without blame"] += not is_guilty
        if job.gone:
            self._delete(key)
            return "deleted"
        if job.stop:
            self._end(key, job, "canceled", is_kept=job.is_kept)
        elif is_guilty and job.lost > job.loss_limit:
            self.saw["lost too often"] += 1
            self._end(key, job, "failed", is_kept=job.is_kept)
        elif is_guilty and job.lost > 1 and pause:
            self.saw["paused after a loss"] += 1
            job.status, job.place = "scheduled", PARKED
        else:
            job.status, job.place = "queued", QUEUE
        return job.status

    def sweep(self, queue: int, pause: float) -> set[tuple[str, str, str, int]]:
        late = sorted(owner for owner, leases in self.leases.items() if leases[queue] == LATE)
        buried = [owner for owner, leases in self.leases.items() if leases[queue] == BURIED]
        taken = set()
        for owner in [*late, *buried]:
            taken |= self.bury(owner, queue, None, pause)
        return taken

    # --- people -------------------------------------------------------------------------------

    def cancel(self, key: Key, *, keep: bool, is_found: bool) -> str:
        """Return the status that it had; `is_found`: the payload was searched for, too."""
        job = self.jobs.get(key)
        if job is None:
            return ""
        if job.status == "queued" or job.is_tombstone:
            if not job.is_tombstone:
                self._tell(key, job)
            job.status = "canceled"
            job.gone = job.gone or not keep
            if not is_found:
                self.saw["a tombstone was left"] += 1
                return "waiting"
            if job.place == QUEUE:
                self._clear(key)
            return "queued"
        status = job.status
        if status == "started":
            job.stop, job.gone = True, job.gone or not keep
        elif not keep:
            self._delete(key)
        elif status == "scheduled":
            self.saw["nothing kept of a delayed job"] += not job.is_kept
            self._end(key, job, "canceled", is_kept=job.is_kept)
        return status

    def requeue(self, key: Key) -> str:
        job = self.jobs.get(key)
        if job is None or job.status not in ENDED:
            return job.status if job else ""
        if job.place != PARKED:
            return "payload"
        self.saw["requeued"] += 1
        job.status, job.place, job.owner = "queued", QUEUE, ""
        job.attempts = job.lost = 0
        job.died_with = ""
        job.stop = False
        return "requeued"

    def promote(self, queue: int) -> int:
        due = [job for (q, _), job in self.jobs.items() if q == queue and job.status == "scheduled"]
        for job in due:
            job.status, job.place = "queued", QUEUE
        self.saw["promoted"] += len(due)
        return len(due)

    def empty(self, queue: int) -> int:
        deleted = 0
        for key, job in list(self.jobs.items()):
            if key[0] == queue and job.place == QUEUE:
                deleted += job.status == "queued"
                self._delete(key)
        return deleted

    # --- ends ---------------------------------------------------------------------------------

    def _end(self, key: Key, job: MirroredJob, status: str, *, is_kept: bool = True) -> None:
        job.status = status
        job.place = PARKED if is_kept or job.waited_for else NOWHERE
        self._tell(key, job)

    def _delete(self, key: Key, *, is_told: bool = True) -> None:
        if is_told:
            self._tell(key, self.jobs[key])
        self.saw["deleted"] += 1
        del self.jobs[key]

    def _tell(self, key: Key, job: MirroredJob) -> None:
        self.mail[key] += job.waited_for
        self.saw["told"] += job.waited_for
        job.waited_for = False

    # --- whether Redis agrees -----------------------------------------------------------------

    def check(self, client: redis_py.Redis, prefixes: Sequence[str]) -> None:
        """Every job is in exactly one place, as its status says, and nothing else is there."""
        for queue, prefix in enumerate(prefixes):
            self._check_queue(queue, _Dump(client, prefix))

    def _check_queue(self, queue: int, seen: _Dump) -> None:
        mine = {i: job for (q, i), job in self.jobs.items() if q == queue}
        assert set(seen.jobs) == set(mine), "records"
        assert set(seen.lists) - {QUEUE} <= seen.owners, "a processing list without its owner"
        for job_id, job in mine.items():
            fields, ttl_ms = seen.jobs[job_id]
            expected = (job.status, job.run, job.attempts, job.lost)
            counters = (int(fields.get(name, 0)) for name in ("run", "attempts", "lost"))
            assert (fields["status"], *counters) == expected, job_id
            assert fields.get("owner", "") == job.owner, job_id
            assert (fields.get("waiters", "+").replace("+", "").strip() != "") == job.waited_for, job_id
            assert fields.get("died_with", "") == job.died_with, job_id
            assert "skipped_ms" not in fields or (job.lost and job.status != "started"), job_id
            assert (ttl_ms > 0) == (job.status in ENDED and not job.is_tombstone), job_id
        expected_copies = Counter({i: 1 for i, job in mine.items() if job.place not in (PARKED, NOWHERE)})
        assert Counter(i for held in seen.lists.values() for i in held) == expected_copies, "copies"
        for place, held in seen.lists.items():
            assert {mine[i].place for i in held} <= {place}, "places"
        parked = {i: job for i, job in mine.items() if job.place == PARKED}
        assert set(seen.payloads) == set(parked), "payloads"
        for job_id, ttl_ms in seen.payloads.items():
            assert (ttl_ms > 0) == (parked[job_id].status in ENDED), job_id
        for job_id, ttl_ms in seen.errors.items():
            is_alive = job_id in mine and (mine[job_id].status not in ENDED or mine[job_id].is_tombstone)
            assert is_alive or ttl_ms > 0, f"the errors of {job_id} have no owner"
        assert seen.indexes == {(job.status, i) for i, job in parked.items()}, "indexes"
        assert seen.mail == {i: count for (q, i), count in self.mail.items() if q == queue and count}, "mail"


class _Dump:
    """All keys of a queue, sorted by what they hold."""

    def __init__(self, client: redis_py.Redis, prefix: str) -> None:
        self.jobs: dict[str, tuple[dict[str, str], int]] = {}
        self.lists: dict[str, list[str]] = defaultdict(list)
        self.payloads: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.owners: set[str] = set()
        self.indexes: set[tuple[str, str]] = set()
        self.mail: dict[str, int] = {}
        for raw, ttl_ms, content in client.eval(_DUMP, 0, prefix):
            kind, _, name = raw.decode().removeprefix(prefix).partition(":")
            self._sort(kind, name, ttl_ms, content)

    def _sort(self, kind: str, name: str, ttl_ms: int, content: Any) -> None:
        match kind:
            case "queue":
                self.lists[QUEUE] = [id_of(payload) for payload in content]
            case "processing":
                self.lists[name] = [id_of(payload) for payload in content]
            case "job":
                pairs = zip(content[::2], content[1::2], strict=True)
                self.jobs[name] = {k.decode(): v.decode("utf-8", "replace") for k, v in pairs}, ttl_ms
            case "payload":
                assert id_of(content) == name
                self.payloads[name] = ttl_ms
            case "owners":
                self.owners = {owner.decode() for owner in content}
            case "mailbox":
                self.mail[name] = len(content)
                assert ttl_ms > 0, "a mailbox without a ttl"
            case "errors":
                self.errors[name] = ttl_ms
            case "bell" | "meta":  # one of each, which the queue owns
                assert name == ""
            case "promoter":
                assert ttl_ms > 0
            case index:
                assert index in {*ENDED, "scheduled"}, "a key that nobody owns"
                self.indexes |= {(index, job_id.decode()) for job_id in content}
