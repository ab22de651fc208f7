"""What happens to workers, to their networks and to the server, and when: the audit excuses nothing else."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from faults.chaos.fleet import Member
from support.own_server import OwnServer
from support.worker import LEASE

from minirq.connection import connect


@dataclass(frozen=True)
class Window:
    """A time in which these processes did not run or could not reach the server; None is all of them."""

    what: str
    pids: frozenset[int] | None
    began: float
    ended: float

    def excuses(self, pids: Iterable[int], since: float, until: float) -> bool:
        """Whether one of these was concerned within this time."""
        is_theirs = self.pids is None or not self.pids.isdisjoint(pids)
        return is_theirs and self.began <= until and self.ended >= since


class Faults:
    """Strikes at random; `heal` ends what goes on."""

    def __init__(self, dice: random.Random, server: OwnServer, members: list[Member]) -> None:
        self._random = dice
        self._server = server
        self._members = members
        self._healing: list[tuple[float, Callable[[], None]]] = []
        self.struck: Counter[str] = Counter()
        self.times: list[float] = []
        self.windows: list[Window] = []

    def pause(self) -> float:
        """How long until the next one, seconds."""
        return self._random.uniform(0.1, 0.8)

    def strike(self) -> None:
        """Have one thing happen; replace whoever has ended before."""
        self.heal(only_due=True)
        for member in self._members:
            member.replace()
        faults: dict[Callable[[], None], float] = {
            self._kill_a_child: 6, self._kill_a_supervisor: 2, self._kill_a_worker: 2,
            self._freeze_a_child: 3, self._freeze_a_worker: 2, self._hang_up: 1, self._terminate_a_worker: 1,
            self._partition_a_worker: 3, self._refuse_a_worker: 2, self._cut_a_worker_off: 2,
            self._lose_replies: 3, self._slow_a_worker_down: 1,
            self._end_all_connections: 2, self._kill_the_server: 2, self._freeze_the_server: 2,
            self._pause_all_clients: 1, self._rewrite_the_file: 1, self._forget_scripts: 1,
        }  # fmt: skip
        [fault] = self._random.choices(list(faults), list(faults.values()))
        # whom it was meant for may have ended by itself
        with suppress(ProcessLookupError):
            self.times.append(time.time())
            fault()
            self.struck[fault.__name__.strip("_").replace("_", " ")] += 1

    def heal(self, *, only_due: bool = False) -> None:
        for when, undo in list(self._healing):
            if not only_due or time.monotonic() >= when:
                self._healing.remove((when, undo))
                undo()

    def be_away(self, seconds: float, meanwhile: Callable[[], None]) -> None:
        """Have the server be away, with nothing else wrong."""
        began = time.time()
        self._server.kill()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))
            meanwhile()
        self._server.start()
        self._note("the server is away", None, began)

    # --- processes ----------------------------------------------------------------------------

    def _victim(self) -> Member:
        """Anybody but the first one, whose supervisor is spared."""
        return self._random.choice(self._members[1:])

    def _child(self) -> int:
        children = self._random.choice(self._members).worker.children
        if not children:
            raise ProcessLookupError
        return self._random.choice(children)

    def _kill_a_child(self) -> None:
        os.kill(self._child(), signal.SIGKILL)

    def _kill_a_supervisor(self) -> None:
        victim = self._victim()
        victim.is_doomed = True
        victim.worker.signal(signal.SIGKILL)

    def _kill_a_worker(self) -> None:
        victim = self._victim()
        victim.is_doomed = True
        victim.worker.kill_all()

    def _freeze_a_child(self) -> None:
        child = self._child()
        os.kill(child, signal.SIGSTOP)
        self._freeze([child], self._random.uniform(0.1, 2.5))

    def _freeze_a_worker(self) -> None:
        self._freeze(self._victim().worker.freeze(), self._random.uniform(0.1, 3 * LEASE))

    def _freeze(self, pids: list[int], seconds: float) -> None:
        began = time.time()

        def thaw() -> None:
            for pid in reversed(pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self._note("frozen", pids, began)

        self._healing.append((time.monotonic() + seconds, thaw))

    def _hang_up(self) -> None:
        worker = self._victim().worker
        if not worker.children:  # it hears no signals yet, or has no children to replace
            raise ProcessLookupError
        worker.signal(signal.SIGHUP)

    def _terminate_a_worker(self) -> None:
        victim = self._victim()
        victim.is_doomed = True
        victim.worker.signal(signal.SIGTERM)

    # --- the network of one worker ------------------------------------------------------------

    def _partition_a_worker(self) -> None:
        """Nothing gets through, and nobody is told."""
        self._disturb("hole", self._random.uniform(0.2, 3 * LEASE))

    def _refuse_a_worker(self) -> None:
        """Each connection ends at the first request."""
        self._disturb("drop_request", self._random.uniform(0.2, 2 * LEASE))

    def _slow_a_worker_down(self) -> None:
        self._disturb("delay", self._random.uniform(0.2, 2 * LEASE))

    def _disturb(self, action: str, seconds: float) -> None:
        member, began = self._victim(), time.time()
        pids = member.pids
        member.proxy.rule("any", action, times=10**6, seconds=0.05)

        def heal() -> None:
            member.proxy.heal()
            self._note(action, pids | member.pids, began)

        self._healing.append((time.monotonic() + seconds, heal))

    def _cut_a_worker_off(self) -> None:
        self._victim().proxy.reset()

    def _lose_replies(self) -> None:
        """What was asked for is done, and whoever asked does not learn of it."""
        self._victim().proxy.rule("any", "drop_reply", times=self._random.randrange(1, 6))

    # --- the server ---------------------------------------------------------------------------

    def _end_all_connections(self) -> None:
        with connect(self._server.url) as client:
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def _kill_the_server(self) -> None:
        began = time.time()
        self._server.kill()
        time.sleep(self._random.uniform(0, 1.5 * LEASE))
        self._server.start()
        self._note("the server is killed", None, began)

    def _freeze_the_server(self) -> None:
        began = time.time()
        self._server.signal(signal.SIGSTOP)
        time.sleep(self._random.uniform(0.1, 2 * LEASE))
        self._server.signal(signal.SIGCONT)
        self._note("the server is frozen", None, began)

    def _pause_all_clients(self) -> None:
        began, seconds = time.time(), self._random.uniform(0.1, LEASE)
        with connect(self._server.url) as client:
            client.execute_command("CLIENT", "PAUSE", int(seconds * 1000))
        self.windows.append(Window("clients are paused", None, began, began + seconds))

    def _rewrite_the_file(self) -> None:
        with connect(self._server.url) as client, suppress(Exception):  # one may be under way
            client.bgrewriteaof()

    def _forget_scripts(self) -> None:
        with connect(self._server.url) as client:
            client.script_flush()

    def _note(self, what: str, pids: Iterable[int] | None, began: float) -> None:
        self.windows.append(Window(what, None if pids is None else frozenset(pids), began, time.time()))
