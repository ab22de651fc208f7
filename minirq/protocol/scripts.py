"""The Lua scripts: one file per event, with shared pieces included by name.

A line `--#include time keys` is replaced by the text of `lua/lib/time.lua` and `lua/lib/keys.lua`;
`defaults` is made from `defaults.LUA_CONSTANTS`. Constants (`local MOST_BYTES = 1048576`) are put in where
they are used: a script's body runs anew at each call, and pays for every variable that one of its functions
sees. Everything is read from the package once.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files

from minirq.calls import Script
from minirq.protocol.defaults import LUA_CONSTANTS

_INCLUDE = "--#include "
_LUA = files("minirq.protocol") / "lua"
_CONSTANTS = re.compile(r"^local ([A-Z_]+(?:, [A-Z_]+)*) = (.+)\n", re.MULTILINE)


def _piece(name: str) -> str:
    if name == "defaults":
        return "".join(f"local {constant} = {value}\n" for constant, value in LUA_CONSTANTS.items())
    return (_LUA / "lib" / f"{name}.lua").read_text("utf-8")


@cache
def script(name: str) -> Script:
    """Return the script for this event, ready to be sent."""
    lines = (_LUA / f"{name}.lua").read_text("utf-8").splitlines()
    text = "\n".join(
        "".join(_piece(piece) for piece in line.removeprefix(_INCLUDE).split())
        if line.startswith(_INCLUDE)
        else line
        for line in lines
    )
    text = _without_constants(text)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _without_constants(text: str) -> str:
    constants: dict[str, str] = {}
    for names, values in _CONSTANTS.findall(text):
        constants.update(zip(names.split(", "), values.split(", "), strict=True))
    return re.sub(r"\b[A-Z_]+\b", lambda name: constants.get(name[0], name[0]), _CONSTANTS.sub("", text))
