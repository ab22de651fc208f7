"""Read the arguments of a job from a command line. The syntax is RQ's.

    text            as it is           name=text          a keyword argument
    :[1, 2]         JSON               name:=[1, 2]
    %(1, {2, 3})    a Python literal   name%={2, 3}

A value that begins with "@" names a file, whose content is read in the same way: ":@points.json".
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from minirq.text import safe_text

#: longest argument that a message quotes, characters
_LONGEST = 60


class BadArgument(click.ClickException):
    """An argument on the command line cannot be read; the message names it."""

    exit_code = 2


def parse_arguments(words: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and the keyword arguments. Raises BadArgument."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for number, word in enumerate(words, start=1):
        keyword, mode, text = _split(word)
        what = keyword or f"{number} ({safe_text(word, _LONGEST)!r})"
        value = _value(mode, text, f"argument {what}")
        if not keyword:
            args.append(value)
        elif keyword in kwargs:
            raise BadArgument(f"argument {keyword} is given twice")
        else:
            kwargs[keyword] = value
    return args, kwargs


def _split(word: str) -> tuple[str, str, str]:
    """The keyword ("" without one), the mode (":", "%" or ""), and the text."""
    if word[:1] in (":", "%"):
        return "", word[0], word[1:]
    before, equals, text = word.partition("=")
    mode = before[-1:] if before[-1:] in (":", "%") else ""
    keyword = before.removesuffix(mode)
    # a URL with a query is text, and not the value of a keyword that no function could have
    if equals and keyword.isidentifier():
        return keyword, mode, text
    return "", "", word


def _value(mode: str, text: str, what: str) -> Any:
    if text.startswith("@"):
        text = _content(text[1:], what)
    match mode:
        case ":":
            try:
                return json.loads(text)
            except (ValueError, RecursionError) as error:
                raise BadArgument(f"{what} is not JSON: {_reason(error)}") from None
        case "%":
            try:
                return ast.literal_eval(text)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
                raise BadArgument(f"{what} is not a Python literal: {_reason(error)}") from None
    return text


def _content(name: str, what: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise BadArgument(f"{what}: the file {safe_text(name)!r} cannot be read: {error.strerror}") from None
    except ValueError:  # not UTF-8, or a name that no file can have
        raise BadArgument(f"{what}: the file {safe_text(name)!r} does not hold text in UTF-8") from None


def _reason(error: BaseException) -> str:
    match error:
        case json.JSONDecodeError() | SyntaxError():
            return safe_text(error.msg)
        case RecursionError() | MemoryError():
            return "it is nested too deeply"
    return "only text, numbers, lists, tuples, dicts, sets, True, False and None are"
