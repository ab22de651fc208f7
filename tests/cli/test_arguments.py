"""The syntax of arguments on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minirq.cli.enqueue import BadArgument, parse_arguments


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text", "text"),
        ("", ""),
        ("1", "1"),
        ("=x", "=x"),
        ("a b=c", "a b=c"),
        ("http://host/?a=1&b:=2", "http://host/?a=1&b:=2"),
        ("2+2=4", "2+2=4"),
        (":1", 1),
        (":[1, {\"a\": null}]", [1, {"a": None}]),
        (":\"a=b\"", "a=b"),
        ("%1.5", 1.5),
        ("%(1, 2)", (1, 2)),
        ("%{'a': {1, 2}, b'x': None}", {"a": {1, 2}, b"x": None}),
        ("mail@example.com", "mail@example.com"),
    ],
)  # fmt: skip
def test_a_positional_argument(word: str, value: Any) -> None:
    assert parse_arguments([word]) == ([value], {})


@pytest.mark.parametrize(
    ("word", "keyword", "value"),
    [
        ("a=text", "a", "text"),
        ("a=", "a", ""),
        ("a==b", "a", "=b"),
        ("a=:1", "a", ":1"),
        ("a:=1", "a", 1),
        ("a:=\"b=c\"", "a", "b=c"),
        ("a%=(1,)", "a", (1,)),
        ("job_id=x", "job_id", "x"),
        ("größe:=2", "größe", 2),
    ],
)  # fmt: skip
def test_a_keyword_argument(word: str, keyword: str, value: Any) -> None:
    assert parse_arguments([word]) == ([], {keyword: value})


def test_their_order() -> None:
    assert parse_arguments(["b=1", "x", "a:=2", ":3"]) == (["x", 3], {"b": "1", "a": 2})


@pytest.mark.parametrize(
    ("word", "value"),
    [("@{}", '{"é": 1}\n'), (":@{}", {"é": 1}), ("%@{}", {"é": 1})],
)
def test_a_value_from_a_file(tmp_path: Path, word: str, value: Any) -> None:
    file = tmp_path / "value"
    file.write_text('{"é": 1}\n', encoding="utf-8")
    assert parse_arguments([word.format(file)]) == ([value], {})
    mode = word[0].strip("@")
    assert parse_arguments([f"a{mode}=@{file}"]) == ([], {"a": value})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x", ":{"], "argument 2 (':{') is not JSON: Expecting property name"),
        (["a:=[1,]"], "argument a is not JSON: "),
        ([":" + "[" * 100_000], "is not JSON: it is nested too deeply"),
        (["%x"], "argument 1 ('%x') is not a Python literal: only text, numbers"),
        (["a%=(1"], "argument a is not a Python literal: '(' was never closed"),
        (["%__import__('os')"], "is not a Python literal: only text"),
        (["%{[]: 1}"], "is not a Python literal: "),
        (
            [":@no-such-file"],
            "argument 1 (':@no-such-file'): the file 'no-such-file' cannot be read: No such",
        ),
        (["a=@/"], "argument a: the file '/' cannot be read: Is a directory"),
        (["a=@\0"], "argument a: the file '\\\\x00' does not hold text"),
        (["a=1", "a:=2"], "argument a is given twice"),
        ([":\x1b[2J"], r"argument 1 (':\\x1b[2J') is not JSON"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_names_the_argument(words: list[str], said: str) -> None:
    with pytest.raises(BadArgument) as caught:
        parse_arguments(words)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"\xff\xfe")
    with pytest.raises(BadArgument, match=r"argument a: the file .* does not hold text in UTF-8"):
        parse_arguments([f"a=@{tmp_path / 'image'}"])
