"""The algorithm itself, as a small model, and every state that it can get into.

Two processes, one job; replies are lost, requests are sent again and served late, leases run out,
processes die. From each state everything must be able to settle: the job ends once. Each way of
breaking the algorithm must lead to a state that shows why the rule exists.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pytest

LIVE, LATE, BURIED, FORGOTTEN = "live", "late", "buried", "forgotten"
QUEUED, STARTED, DONE = "queued", "started", "done"
MOST_RUNS = 2
MOST_UNSERVED = 2


@dataclass(frozen=True)
class Rules:
    """The rules of the algorithm, each of which can be broken."""

    owner_ids_are_used_once: bool = True
    settling_needs_the_run: bool = True
    settling_needs_a_started_job: bool = True
    claims_adopt: bool = True
    owners_register_first: bool = True
    the_dead_are_remembered: bool = True


class Message(NamedTuple):
    verb: str  # bring, claim, finish, release
    process: int
    run: int = 0


class Process(NamedTuple):
    is_alive: bool = True
    hand: int = 0  # the run that it holds
    waits_for: Message | None = None


class State(NamedTuple):
    """`held` says in which owner's processing list the payload is, `trouble` how many faults may come."""

    in_queue: bool = True
    held: tuple[bool, bool] = (False, False)
    status: str = QUEUED
    run: int = 0
    holder: int = -1
    leases: tuple[str, str] = (LIVE, LIVE)
    processes: tuple[Process, Process] = (Process(), Process())
    unserved: tuple[Message, ...] = ()
    settled: frozenset[int] = frozenset()
    trouble: int = 3


class Broken(Exception):
    """What must never happen."""


Step = tuple[str, State]


def put(pair: tuple, index: int, value: object) -> tuple:
    return (value, pair[1]) if index == 0 else (pair[0], value)


class Model:
    """All that can happen, under these rules."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def first(self) -> State:
        if not self.rules.owners_register_first:
            return State(leases=(FORGOTTEN, LIVE))
        if self.rules.owner_ids_are_used_once:
            return State()
        # the second process starts when the first is thought dead, and takes over its id
        return State(leases=(LIVE, BURIED), processes=(Process(), Process(is_alive=False)))

    def owner(self, process: int) -> int:
        return process if self.rules.owner_ids_are_used_once else 0

    # --- the scripts --------------------------------------------------------------------------

    def serve(self, state: State, message: Message) -> tuple[State, int | str]:
        """The server runs a request; the answer is a run (0 for none), or that the owner is lost."""
        owner = self.owner(message.process)
        match message.verb:
            case "bring":
                if state.in_queue:
                    state = state._replace(in_queue=False, held=put(state.held, owner, True))
                return state, 0
            case "claim":
                return self.claim(state, owner)
            case _:
                return self.settle(state, owner, message), 0

    def claim(self, state: State, owner: int) -> tuple[State, int | str]:
        lease = state.leases[owner]
        if lease != LIVE:
            return state, 0 if lease == LATE else "lost"
        if state.held[owner] and state.status == STARTED and state.holder == owner:
            return state, state.run if self.rules.claims_adopt else 0
        if state.in_queue or (state.held[owner] and self.rules.claims_adopt):
            held = put(state.held, owner, True)
            run = state.run + 1
            return state._replace(in_queue=False, held=held, status=STARTED, holder=owner, run=run), run
        return state, 0

    def settle(self, state: State, owner: int, message: Message) -> State:
        fits = state.held[owner]
        if self.rules.settling_needs_a_started_job:
            fits = fits and state.status == STARTED
        if self.rules.settling_needs_the_run:
            fits = fits and state.run == message.run
        if not fits:
            return state
        if message.run != state.run:
            raise Broken("an old run settled a new one")
        if message.run in state.settled:
            raise Broken("a run was settled twice")
        state = state._replace(held=put(state.held, owner, False), settled=state.settled | {message.run})
        if message.verb == "release":
            return state._replace(in_queue=True, status=QUEUED)
        return state._replace(status=DONE)

    def sweep(self, state: State) -> State:
        for owner, lease in enumerate(state.leases):
            if lease not in (LATE, BURIED):
                continue
            if state.held[owner]:
                state = state._replace(in_queue=True, held=put(state.held, owner, False), status=QUEUED)
            after = BURIED if self.rules.the_dead_are_remembered else FORGOTTEN
            state = state._replace(leases=put(state.leases, owner, after))
        return state

    # --- what can happen next -----------------------------------------------------------------

    def steps(self, state: State) -> Iterator[Step]:
        for number, process in enumerate(state.processes):
            if process.is_alive:
                yield from self.steps_of(state, number, process)
        for message in set(state.unserved):
            yield from self.steps_with(state, message)
        yield "sweep", self.sweep(state)
        for owner, lease in enumerate(state.leases):
            if lease == LIVE and state.trouble:
                late = put(state.leases, owner, LATE)
                yield f"lease {owner} runs out", state._replace(leases=late, trouble=state.trouble - 1)
            if lease == BURIED and not state.held[owner] and not self.may_be_heard_of(state, owner):
                yield f"{owner} forgotten", state._replace(leases=put(state.leases, owner, FORGOTTEN))
        is_unborn = not self.rules.owner_ids_are_used_once and not state.processes[1].is_alive
        if is_unborn and state.leases[0] == BURIED and state.trouble:
            born = state._replace(leases=put(state.leases, 0, LIVE), trouble=state.trouble - 1)
            yield "1 starts as 0", replace_process(born, 1, Process())

    def may_be_heard_of(self, state: State, owner: int) -> bool:
        """Within an hour, frozen processes wake up and late requests are served."""
        processes = {message.process for message in state.unserved}
        processes |= {number for number, process in enumerate(state.processes) if process.is_alive}
        return owner in map(self.owner, processes)

    def steps_of(self, state: State, number: int, process: Process) -> Iterator[Step]:
        if state.trouble:
            died = replace_process(state, number, Process(is_alive=False))
            yield f"{number} dies", died._replace(trouble=state.trouble - 1)
        if state.leases[self.owner(number)] == LATE:
            yield f"{number} beats", state._replace(leases=put(state.leases, self.owner(number), LIVE))
        if len(state.unserved) == MOST_UNSERVED:
            return
        if process.waits_for is None:
            verbs = ("finish", "release") if process.hand else ("bring", "claim")
            for verb in verbs:
                message = Message(verb, number, process.hand)
                sent = state._replace(unserved=tuple(sorted((*state.unserved, message))))
                waiting = process._replace(waits_for=message)
                yield f"{number} sends {verb}", replace_process(sent, number, waiting)
        elif state.trouble:
            again = tuple(sorted((*state.unserved, process.waits_for)))
            yield f"{number} sends again", state._replace(unserved=again, trouble=state.trouble - 1)

    def steps_with(self, state: State, message: Message) -> Iterator[Step]:
        unserved = list(state.unserved)
        unserved.remove(message)
        served, answer = self.serve(state, message)
        served = served._replace(unserved=tuple(unserved))
        if state.processes[message.process].waits_for == message:
            yield f"{message} served", self.hear(served, message, answer)
        yield f"{message} served unheard", served

    def hear(self, state: State, message: Message, answer: int | str) -> State:
        process = state.processes[message.process]
        if answer == "lost":
            return replace_process(state, message.process, Process(is_alive=False))
        hand = int(answer) if message.verb == "claim" else 0
        if hand and state.processes[1 - message.process].hand == hand:
            raise Broken("two processes execute the same run")
        return replace_process(state, message.process, process._replace(hand=hand, waits_for=None))

    # --- what must hold -----------------------------------------------------------------------

    def check(self, state: State) -> None:
        copies = state.in_queue + sum(state.held)
        if copies != (state.status != DONE):
            raise Broken("the job is not in exactly one place")
        if self.settle_down(state).status != DONE:
            raise Broken("the job is stuck")

    def settle_down(self, state: State) -> State:
        """No more trouble: the living go on, the dead are swept, and a healthy worker takes what is there."""
        state = state._replace(unserved=())
        for number, process in enumerate(state.processes):
            owner = self.owner(number)
            if process.is_alive and state.leases[owner] == LATE:
                state = state._replace(leases=put(state.leases, owner, LIVE))
            elif not process.is_alive and state.leases[owner] == LIVE and owner == number:
                state = state._replace(leases=put(state.leases, owner, LATE))
        state = self.sweep(state)
        for number, process in enumerate(state.processes):
            if not process.is_alive:
                continue
            if process.waits_for:
                state, answer = self.serve(state, process.waits_for)
                state = self.hear(state, process.waits_for, answer)
            state = self.finish_off(state, number)
        state = self.sweep(state)
        if state.in_queue:
            state = state._replace(in_queue=False, status=DONE)
        return state

    def finish_off(self, state: State, number: int) -> State:
        if state.processes[number].is_alive and not state.processes[number].hand:
            message = Message("claim", number)
            state, answer = self.serve(state, message)
            state = self.hear(state, message, answer)
        if state.processes[number].hand:
            state, _ = self.serve(state, Message("finish", number, state.processes[number].hand))
        return state


def replace_process(state: State, number: int, process: Process) -> State:
    return state._replace(processes=put(state.processes, number, process))


def explore(rules: Rules) -> tuple[int, str | None, list[str]]:
    """Look at every state: how many there are, what was broken first, and the shortest way to it."""
    model = Model(rules)
    first = model.first()
    came_from: dict[State, Step | None] = {first: None}
    todo = deque([first])
    while todo:
        state = todo.popleft()
        try:
            model.check(state)
            steps = list(model.steps(state))
        except Broken as broken:
            return len(came_from), str(broken), way_to(state, came_from)
        for what, following in steps:
            if following not in came_from and following.run <= MOST_RUNS:
                came_from[following] = what, state
                todo.append(following)
    return len(came_from), None, []


def way_to(state: State, came_from: dict[State, Step | None]) -> list[str]:
    way = []
    while (step := came_from[state]) is not None:
        way.append(step[0])
        state = step[1]
    return way[::-1]


def test_whatever_happens_the_job_ends_once() -> None:
    count, broken, way = explore(Rules())
    assert broken is None, way
    assert count > 10_000


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        (Rules(owner_ids_are_used_once=False), "two processes execute the same run"),
        (Rules(settling_needs_the_run=False), "an old run settled a new one"),
        (Rules(settling_needs_a_started_job=False), "a run was settled twice"),
        (Rules(claims_adopt=False), "the job is stuck"),
        (Rules(owners_register_first=False), "the job is stuck"),
        (Rules(the_dead_are_remembered=False), "the job is stuck"),
    ],
    ids=lambda value: None if isinstance(value, str) else broken_rule(value),
)
def test_without_this_rule_a_job_is_lost_or_runs_in_two_hands(rules: Rules, what: str) -> None:
    _, broken, way = explore(rules)
    print(broken, *way, sep="\n  ")
    assert broken == what


def broken_rule(rules: Rules) -> str:
    return next(name for name in Rules.__dataclass_fields__ if not getattr(rules, name))
