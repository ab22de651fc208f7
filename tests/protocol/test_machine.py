"""Any sequence of events against the real server: nothing is lost, nothing runs or settles twice.

Workers crash, freeze, lose replies and are cut off; old requests are served late; people cancel, delete
and requeue meanwhile. `model` says what should have happened. MINIRQ_PROPERTY_EXAMPLES=5000 runs longer,
with new sequences each time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis as redis_py
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)  # fmt: skip
from model import BURIED, ENDED, LATE, Key, Model
from stage import Stage, payload, settlement

from minirq.protocol.commands import MISSED_TOO_LONG, SETTLED, Settled, Settlement

EXAMPLES = int(os.environ.get("MINIRQ_PROPERTY_EXAMPLES", "0"))
# finding the shortest sequence takes minutes; bin/mutants only asks whether there is one
SHRINKS = os.environ.get("MINIRQ_PROPERTY_SHRINK", "1") != "0"
IDS = ("u", "v", "x", "y")
MOST_LETTERS = 8

numbers = st.integers(0, 99)
queues = st.integers(0, 1)
job_ids = st.sampled_from(IDS)
pauses = st.sampled_from([0, 60])
flags = st.booleans()
verb = st.sampled_from(["finished", "failed", "retry", "release", "miss"])
verbs = st.lists(verb, min_size=3, max_size=3)


@dataclass
class Request:
    """A finish that was sent, as it may be served again."""

    owner: str
    settlements: tuple[Settlement, ...]
    want: int
    in_hand: tuple[Key, ...]
    company: str = ""


@dataclass
class Process:
    """A worker's child as it sees itself: the runs it holds, and the request whose answer it waits for."""

    hand: dict[Key, int] = field(default_factory=dict)
    company: str = ""
    unanswered: Request | None = None


#: chooses the sequences that are tried each time: ones that reach all STORIES
SEED = 1


class Machine(RuleBasedStateMachine):
    client: redis_py.Redis
    saw: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.stage = Stage(self.client, "p", "q")
        self.model = Model(2, self.saw)
        self.alive: dict[str, Process] = {}
        self.letters: list[Request] = []
        self.posted: dict[Key, Callable[[], Any]] = {}
        self.count = 0

    # --- producing ----------------------------------------------------------------------------

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        for job_id in IDS[:count]:
            self.enqueue(0, job_id, "queue", 2, False)
            self.enqueue(1, job_id, "queue", 2, False)

    @rule(
        queue=queues, job_id=job_ids, place=st.sampled_from(["queue", "queue", "front", "delay"]),
        loss_limit=st.sampled_from([2, 2, 1, 0]), is_reply_lost=flags,
        is_kept=st.sampled_from([True, True, False]),
    )  # fmt: skip
    def enqueue(
        self, queue: int, job_id: str, place: str, loss_limit: int, is_reply_lost: bool, is_kept: bool = True
    ) -> None:
        key, nonce = (queue, job_id), self.fresh("call")
        blob = nonce.encode()
        fields = {} if loss_limit == 2 else {"loss_limit": loss_limit}
        if not is_kept:
            fields["failure_ttl_ms"] = 0

        def post() -> Any:
            (reply,) = self.stage.enqueue(
                job_id, queue=queue, nonce=nonce, place=place, ms=60_000, blob=blob, fields=fields
            )
            return reply

        for _ in range(1 + is_reply_lost):
            reply = post()
            code = self.model.enqueue(key, payload(job_id, blob), nonce, place, loss_limit, is_kept)
            assert (reply.is_new, reply.is_being_cleared) == (code > 0, code < 0)
            if code == 1:
                self.posted[key] = post
                # the record of a deleted job is gone, and run 1 comes again: older requests could fit
                if self.model.jobs[key].run == 0:
                    self.forget_letters(key)

    # --- workers ------------------------------------------------------------------------------

    @rule(
        n=numbers, count=st.integers(1, 3), want=st.integers(0, 3), verbs=verbs,
        seconds=st.sampled_from([0, 60]), is_reply_lost=flags,
    )  # fmt: skip
    def work(
        self, n: int, count: int, want: int, verbs: Sequence[str], seconds: int, is_reply_lost: bool
    ) -> None:
        """A process settles some of what it holds and claims more; but first it gets its answer."""
        owner = pick(self.alive or [self.born()], n)
        request = self.alive[owner].unanswered
        if request is not None:
            self.saw["sent again"] += 1
            self.answer(request, self.serve(request))
            return
        hand = sorted(self.alive[owner].hand.items())[:count]
        self.saw["settled by a buried owner"] += bool(hand) and BURIED in self.model.leases[owner]
        outcomes = tuple(
            outcome(key, run, verb, seconds) for (key, run), verb in zip(hand, verbs, strict=False)
        )
        self.request(owner, outcomes, want if hand else max(want, 1), is_reply_lost)

    @rule(
        n=numbers, verb=st.sampled_from(["retry", "release"]), is_reply_lost=flags,
        then=st.sampled_from(["nothing", "cancel", "pause"]),
    )  # fmt: skip
    def brought_back(self, n: int, verb: str, is_reply_lost: bool, then: str) -> None:
        """A job that was given back returns to the same owner before the old request is served once more."""
        owner = self.busy(n)
        key, run = min(self.alive[owner].hand.items())
        self.request(owner, (outcome(key, run, verb, 0, place="front"),), 0, is_reply_lost)
        self.bring_to(owner, key[0])
        self.late_duplicate(len(self.letters) - 1)
        if then == "cancel":
            self.cancel(*key, keep=True, is_found=False)
        elif then == "pause":
            self.pause_or_resume(key[0], is_paused=True)
            if owner in self.alive and not is_reply_lost:
                self.request(owner, (), 1, is_reply_lost=False)
            self.pause_or_resume(key[0], is_paused=False)

    @rule(n=numbers, verb=verb, seconds=st.sampled_from([0, 60]), keep=flags, is_reply_lost=flags)
    def canceled_while_it_runs(
        self, n: int, verb: str, seconds: int, keep: bool, is_reply_lost: bool
    ) -> None:
        owner = self.busy(n)
        key, run = min(self.alive[owner].hand.items())
        self.cancel(*key, keep=keep, is_found=True)
        self.request(owner, (outcome(key, run, verb, seconds),), 1, is_reply_lost)

    @rule(queue=queues, keep=flags, is_kept=flags)
    def canceled_while_it_is_delayed(self, queue: int, keep: bool, is_kept: bool) -> None:
        """A debounced call: it is canceled and enqueued anew."""
        job_id = self.fresh("job")
        self.enqueue(queue, job_id, "delay", 2, False, is_kept)
        self.cancel(queue, job_id, keep=keep, is_found=True)
        self.enqueue(queue, job_id, "delay", 2, False, is_kept)

    @rule(n=numbers)
    def late_duplicate(self, n: int) -> None:
        """What was sent over a connection that was cut is served now; nobody hears the answer."""
        if self.letters:
            self.saw["late duplicate"] += 1
            self.serve(self.letters[n % len(self.letters)])

    @rule(n=numbers, queue=queues)
    def bring(self, n: int, queue: int) -> None:
        """A BLMOVE is served, maybe for an owner that died long ago."""
        owners = sorted(self.model.leases)[-4:] or [self.born()]
        self.bring_to(owners[n % len(owners)], queue)

    # --- faults -------------------------------------------------------------------------------

    @rule(
        n=numbers, evidence=st.sampled_from(["all", "named", "spared", "spared", "none"]), pause=pauses,
        guilty=st.integers(0, 3), is_cut_short=flags,
    )  # fmt: skip
    def crash(self, n: int, evidence: str, pause: float, guilty: int, is_cut_short: bool) -> None:
        """A process dies, and its supervisor buries it, unless it dies in the middle of that."""
        owner = self.busy(n)
        hand = sorted(self.alive.pop(owner).hand.items())[:guilty]
        for queue in range(2 - is_cut_short):
            named = [(job_id, run) for (q, job_id), run in hand if q == queue]
            blamed = {"all": None, "none": []}.get(evidence, named)
            self.bury(owner, queue, blamed, pause, is_spared=evidence == "spared")
        self.let_lease_run_out(owner)

    @rule(n=numbers, then=st.sampled_from(["nothing", "sweep", "beat"]), pause=pauses)
    def freeze(self, n: int, then: str, pause: float) -> None:
        """A process that holds something is cut off for longer than its lease, and comes back."""
        owner = self.busy(n)
        self.let_lease_run_out(owner)
        if then == "sweep":
            self.sweep(n % 2, pause)
        elif then == "beat":
            self.beat(owner)

    @rule(pause=pauses)
    def outage(self, pause: float) -> None:
        """All leases run out and are swept, while the processes live on with what they hold."""
        for owner in self.model.leases:
            self.let_lease_run_out(owner)
        for queue in range(2):
            self.sweep(queue, pause)
            while any(leases[queue] == LATE for leases in self.model.leases.values()):
                self.sweep(queue, pause)

    @rule(times=st.integers(1, 3), want=st.integers(1, 3), pause=pauses)
    def crash_loop(self, times: int, want: int, pause: float) -> None:
        """One process after the other claims, and dies."""
        for _ in range(times):
            owner = self.born()
            self.request(owner, (), want, is_reply_lost=False)
            del self.alive[owner]
            for queue in range(2):
                self.bury(owner, queue, None, pause)
                self.promote(queue)

    @rule(
        n=numbers, many=st.integers(1, 3), is_reply_lost=flags,
        then=st.sampled_from(["claim", "bring", "wait long", "become free", "old request"]),
    )  # fmt: skip
    def death_of_many(self, n: int, many: int, is_reply_lost: bool, then: str) -> None:
        """A process dies with all that it runs, while another one holds something."""
        owner, dead = self.busy(n), self.born()
        self.pause_or_resume(0, is_paused=False)
        for _ in range(many):
            self.enqueue(0, self.fresh("job"), "front", 2, False)
        self.request(dead, (), many, is_reply_lost=False)
        del self.alive[dead]
        self.bury(dead, 0, None, 0)
        if then == "bring":
            self.bring_to(owner, 0)
        self.request(owner, (), 3, is_reply_lost)
        if then == "wait long":
            self.stage.let_skips_age(0)
            self.work(n, 0, 3, (), 0, is_reply_lost)
            if owner in self.alive:
                self.request(owner, (), 3, is_reply_lost)
        elif then in ("become free", "old request") and owner in self.alive and not is_reply_lost:
            old = len(self.letters) - 1
            hand = sorted(self.alive[owner].hand.items())
            self.request(owner, tuple(outcome(*one, "finished", 60) for one in hand), 3, False)
            if then == "old request":
                self.late_duplicate(old)

    # --- chores and people --------------------------------------------------------------------

    @rule(
        n=numbers,
        queue=queues,
        pause=pauses,
        what=st.sampled_from(["beat", "sweep", "promote", "flush", "age"]),
    )
    def chore(self, n: int, queue: int, pause: float, what: str) -> None:
        if what == "beat" and self.alive:
            self.beat(pick(self.alive, n))
        elif what == "sweep":
            self.sweep(queue, pause)
        elif what == "promote":
            self.promote(queue)
        elif what == "flush":
            self.client.script_flush()
        elif what == "age":
            self.stage.let_skips_age(queue)

    @rule(key=st.tuples(queues, job_ids), keep=flags, is_found=flags)
    def cancel_some(self, key: Key, keep: bool, is_found: bool) -> None:
        self.cancel(*key, keep=keep, is_found=is_found)

    @rule(n=numbers, at_front=flags)
    def requeue(self, n: int, at_front: bool) -> None:
        if self.model.jobs:
            ended = [key for key, job in self.model.jobs.items() if job.status in ENDED]
            queue, job_id = key = pick(ended or self.model.jobs, n)
            reply = self.stage.requeue(job_id, at_front=at_front, queue=queue)
            assert reply == self.model.requeue(key)

    @rule(queue=queues, what=st.sampled_from(["pause", "resume", "resume", "wait", "wait", "wait", "empty"]))
    def people(self, queue: int, what: str) -> None:
        if what == "wait":
            for job_id in IDS:
                self.wait(queue, job_id)
        elif what == "empty":
            assert self.stage.empty("queue", queue=queue) == self.model.empty(queue)
        else:
            self.pause_or_resume(queue, is_paused=what == "pause")

    @precondition(lambda self: self.posted)
    @rule(n=numbers)
    def old_enqueue(self, n: int) -> None:
        """A request to enqueue is served late, while the record still tells."""
        key = pick(self.posted, n)
        if key in self.model.jobs:
            self.saw["an old enqueue"] += 1
            assert self.posted[key]().is_new

    # --- what must always hold ----------------------------------------------------------------

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        self.model.check(self.client, [keys.prefix for keys in self.stage.queues])

    def teardown(self) -> None:
        """Everything that was accepted comes to an end."""
        for queue in range(2):
            self.pause_or_resume(queue, is_paused=False)
        self.outage(0)
        closer = self.fresh("closer")
        self.stage.register(closer)
        self.model.register(closer)
        for _ in range(400):
            self.promote(0)
            self.promote(1)
            settled = self.serve(Request(closer, (), 10, ()))
            got = settled.claim.jobs
            outcomes = tuple(settlement(job.id, job.run, queue=job.queue) for job in got)
            assert self.serve(Request(closer, outcomes, 0, ())).codes == [1] * len(got)
            if not got:
                break
        self.every_job_is_in_one_place()
        assert {job.status for job in self.model.jobs.values()} <= ENDED
        assert not any(job.is_tombstone for job in self.model.jobs.values())
        del self.stage.sender  # its connection is the next example's: hypothesis keeps this one alive

    # --- how it is done -----------------------------------------------------------------------

    def born(self) -> str:
        """Start a process: it is registered, and only then claims."""
        owner = self.fresh("o")
        assert self.stage.register(owner).lost == frozenset()
        self.model.register(owner)
        self.alive[owner] = Process()
        return owner

    def busy(self, n: int) -> str:
        """A process that holds a job and waits for no answer; a new one if there is none."""
        for owner in sorted(self.alive, key=lambda owner: (owner[-1:], owner), reverse=n % 2 > 0):
            request = self.alive[owner].unanswered
            if request is not None:
                self.saw["sent again"] += 1
                self.answer(request, self.serve(request))
            if owner in self.alive and self.alive[owner].hand:
                return owner
        owner = self.born()
        self.pause_or_resume(0, is_paused=False)
        self.enqueue(0, self.fresh("job"), "front", 2 if n % 3 else 0, False)
        self.request(owner, (), 1 + n % 3, is_reply_lost=False)
        assert self.alive[owner].hand
        return owner

    def request(self, owner: str, outcomes: tuple[Settlement, ...], want: int, is_reply_lost: bool) -> None:
        """A process says how runs ended and asks for more."""
        process = self.alive[owner]
        settled_here = {(outcome.queue, outcome.id) for outcome in outcomes}
        in_hand = tuple(key for key in process.hand if key not in settled_here)
        request = Request(owner, outcomes, want, in_hand, process.company if in_hand else "")
        self.letters = [*self.letters, request][-MOST_LETTERS:]
        settled = self.serve(request)
        if is_reply_lost:
            process.unanswered = request
            self.saw["reply lost"] += 1
        else:
            self.answer(request, settled)

    def serve(self, request: Request) -> Settled:
        """The server runs a request, whoever hears the answer."""
        expected = [self.model.settle(request.owner, outcome) for outcome in request.settlements]
        settled = self.stage.finish(
            request.owner,
            *request.settlements,
            want=request.want,
            in_hand=request.in_hand,
            company=request.company,
        )
        codes = [SETTLED if code < 0 or code == MISSED_TOO_LONG else code for code in settled.codes]
        assert codes == expected
        self.saw.update(
            ("fenced", "settled", "settled before", "deleted while it ran")[code] for code in expected
        )
        if request.want:
            self.model.claim(
                request.owner,
                request.want,
                request.in_hand,
                request.company,
                settled.claim,
                self.is_cleared,
            )
        return settled

    def answer(self, request: Request, settled: Settled) -> None:
        """The process hears the answer."""
        process = self.alive[request.owner]
        process.unanswered = None
        for outcome in request.settlements:
            del process.hand[outcome.queue, outcome.id]
        for job in settled.claim.jobs:
            assert (job.queue, job.id) not in process.hand, "handed out twice"
            process.hand[job.queue, job.id] = job.run
            process.company = settled.claim.company
        if settled.claim.state == "lost":
            del self.alive[request.owner]

    def bring_to(self, owner: str, queue: int) -> None:
        keys = self.stage.queues[queue]
        raw = self.client.lmove(keys.queue, keys.processing(owner), "RIGHT", "LEFT")
        if raw is not None:
            self.model.bring(owner, queue, raw)

    def beat(self, owner: str) -> None:
        is_lost = self.model.beat(owner)
        assert self.stage.beat(owner).lost == ({owner} if is_lost else set())
        if is_lost:
            del self.alive[owner]

    def sweep(self, queue: int, pause: float) -> None:
        taken = self.stage.sweep(queue=queue, pause=pause).taken
        assert fates(taken) == self.model.sweep(queue, pause)

    def promote(self, queue: int) -> None:
        scheduled = [i for (q, i), job in self.model.jobs.items() if (q, job.status) == (queue, "scheduled")]
        if scheduled:
            self.stage.make_due(*scheduled, queue=queue)
        assert self.stage.promote(queue=queue).moved == self.model.promote(queue)

    def cancel(self, queue: int, job_id: str, *, keep: bool, is_found: bool) -> None:
        expected = self.model.cancel((queue, job_id), keep=keep, is_found=is_found)
        act = self.stage.cancel if is_found else self.stage.mark_canceled
        assert act(job_id, keep=keep, queue=queue) == expected

    def wait(self, queue: int, job_id: str) -> None:
        job = self.model.jobs.get((queue, job_id))
        assert self.stage.wait(job_id, job_id, queue=queue) == (job.status if job else "")
        if job and job.status not in ENDED:
            job.waited_for = True

    def pause_or_resume(self, queue: int, *, is_paused: bool) -> None:
        self.stage.pause(None if is_paused else 0, queue=queue)
        self.model.paused[queue] = is_paused

    def bury(
        self,
        owner: str,
        queue: int,
        blamed: Sequence[tuple[str, int]] | None,
        pause: float,
        *,
        is_spared: bool = False,
    ) -> None:
        taken = self.stage.bury(owner, blamed=blamed, pause=pause, queue=queue, is_spared=is_spared)
        assert fates(taken) == self.model.bury(owner, queue, blamed, pause, is_spared=is_spared)

    def let_lease_run_out(self, owner: str) -> None:
        self.model.let_lease_run_out(owner)
        for keys, lease in zip(self.stage.queues, self.model.leases[owner], strict=True):
            if lease == LATE:
                self.client.zadd(keys.owners, {owner: 1}, xx=True)

    def is_cleared(self, key: Key) -> bool:
        return self.stage.ttl_ms(self.stage.queues[key[0]].job(key[1])) != -1

    def forget_letters(self, key: Key) -> None:
        self.letters = [
            letter
            for letter in self.letters
            if key not in [(outcome.queue, outcome.id) for outcome in letter.settlements]
        ]

    def fresh(self, what: str) -> str:
        self.count += 1
        return f"{what}{self.count:04}"


def outcome(key: Key, run: int, verb: str, seconds: int, place: str = "queue") -> Settlement:
    queue, job_id = key
    options: dict[str, Any] = {"place": place} if verb == "retry" else {}
    if verb in ("finished", "retry", "miss"):
        options["seconds"] = seconds
    return settlement(job_id, run, verb, queue=queue, **options)


def pick(items: Any, n: int) -> Any:
    return sorted(items)[n % len(items)]


def fates(taken: Any) -> set[tuple[str, str, str, int]]:
    assert taken is not None
    return {(job.id, job.owner, job.fate, job.lost) for job in taken}


#: what a run must have met to say anything
STORIES = (
    "a late owner was renewed", "a tombstone was cleared", "a tombstone was left", "adopted",
    "an ended id was replaced", "an old enqueue", "brought to a buried owner", "claimed alone",
    "claimed with those of the same death", "deleted", "deleted while it ran", "failed", "fenced",
    "finished", "given back by a paused queue", "kept until the process is free", "late duplicate", "lost",
    "lost too often", "miss", "nothing kept of a delayed job", "paused after a loss", "promoted",
    "redelivered", "release", "reply lost",
    "requeued", "retry", "sent again", "settled", "settled before", "settled by a buried owner",
    "skipped when it was brought", "spared in vain", "taken back without blame", "told", "told to drain",
)  # fmt: skip


@pytest.mark.timeout(0 if EXAMPLES else 600)
def test_whatever_happens_no_job_is_lost_or_settled_twice(redis: redis_py.Redis) -> None:
    Machine.client, Machine.saw = redis, Counter()
    run_state_machine_as_test(
        Machine if EXAMPLES else seed(SEED)(Machine),  # else the text of the class is the seed
        settings=settings(
            max_examples=EXAMPLES or 200,
            stateful_step_count=50,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink] if SHRINKS else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(*(f"{count:6} {what}" for what, count in sorted(Machine.saw.items())), sep="\n")
    seldom = {what: Machine.saw[what] for what in STORIES if Machine.saw[what] < 5}
    assert not seldom, "the sequences do not reach this often enough"
