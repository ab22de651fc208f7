"""The Lua scripts: one file per event, with shared pieces included by name.

A line `--#include time keys` is replaced by the text of `lua/lib/time.lua` and `lua/lib/keys.lua`;
`defaults` is made from `defaults.LUA_CONSTANTS`. Everything is read from the package once.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from minirq.calls import Script
from minirq.protocol.defaults import LUA_CONSTANTS

_INCLUDE = "--#include "
_LUA = files("minirq.protocol") / "lua"


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
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
