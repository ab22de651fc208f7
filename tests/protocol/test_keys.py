"""Keys are spelled once, and the scripts spell them the same way; each script says what it does."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

import pytest
import redis as redis_py

import minirq.protocol
from minirq.protocol import keys
from minirq.protocol.commands import script
from minirq.protocol.keys import Keys
from minirq.protocol.record import ENDED, JobStatus

LUA = Path(minirq.protocol.__file__).parent / "lua"
SCRIPTS = sorted(LUA.glob("*.lua"))
TEXTS = {path.stem: path.read_text("utf-8") for path in sorted(LUA.rglob("*.lua"))}

# what stands before the name of a key: the queue's prefix, however it was made
APPENDED = re.compile(r'(?:prefix|prefix_of\([^()]*(?:\[[^]]*\])?\)|1, -6\)) \.\. "([^"]*)"')
# names that are kept free for what is to come
RESERVED = {"deferred", "outbox", "unique:", "dependents:", "stats"}


def appended() -> set[str]:
    return {name for text in TEXTS.values() for name in APPENDED.findall(text)}


def test_the_names_that_scripts_append_are_known() -> None:
    assert appended() - set(keys.SUFFIXES) == set()
    assert {"queue", "owners", "processing:", "job:", "payload:"} <= appended()


def test_the_known_names_are_used_or_reserved() -> None:
    indexes = {str(status) for status in ENDED}
    assert set(keys.SUFFIXES) - appended() - indexes == RESERVED


def test_python_and_lua_know_the_same_states() -> None:
    ended, others = TEXTS["states"].split("function is_known")
    assert set(re.findall(r'"(\w+)"', ended)) == {str(status) for status in ENDED}
    assert set(re.findall(r'"(\w+)"', others)) == {str(status) for status in JobStatus if status not in ENDED}


def test_every_key_of_a_queue_has_its_namespace_and_hash_tag() -> None:
    queue = Keys("ns").of("q")
    spelled = [
        queue.queue, queue.processing("o"), queue.owners, queue.index("failed"), queue.job("x"),
        queue.payload("x"), queue.errors("x"), queue.bell, queue.mailbox("w"), queue.meta, queue.promoter,
    ]  # fmt: skip
    assert len(set(spelled)) == len(spelled)
    for key in spelled:
        assert key.startswith("ns:{q}:")
        assert key.removeprefix("ns:{q}:").startswith(keys.SUFFIXES)


def test_global_keys_have_their_namespace_and_no_hash_tag() -> None:
    spelled = Keys("ns")
    for key in (
        spelled.queues,
        spelled.workers,
        spelled.worker("w"),
        spelled.chores,
        spelled.maintenance,
        spelled.served,
    ):
        assert key.startswith("ns:")
        assert "{" not in key


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_has_a_head(path: Path) -> None:
    lines = path.read_text("utf-8").split("\n")
    head = "\n".join(takewhile(lambda line: line.startswith("--") and "#include" not in line, lines))
    assert head.startswith(f"-- {path.stem}: ")
    for word in ("KEYS", "ARGV", "Returns"):
        assert f"\n-- {word} " in head


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_compiles_as_it_is_sent(path: Path, redis: redis_py.Redis) -> None:
    sent = script(path.stem)
    assert "#include" not in sent.text
    assert redis.script_load(sent.text) == sent.sha


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_but_enqueue_makes_room_at_maxmemory(path: Path) -> None:
    included = path.read_text("utf-8").partition("--#include ")[2].partition("\n")[0].split()
    # maintain has another key, and makes room with it; what people see can wait for memory
    assert ("room" in included) == (path.stem not in ("enqueue", "maintain", "show"))
