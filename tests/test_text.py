"""Text from elsewhere cannot drive a terminal or forge a line of a log."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirq.text import safe_block, safe_repr, safe_text


def test_printable_text_is_shown_as_it_is() -> None:
    for text in ("", "myapp.tasks.send", "größe 寸法 Ж 👍", r"C:\temp", "'quoted' \"twice\""):
        assert safe_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        ("\u202eexe.txt\u2066\u200f", r"\u202eexe.txt\u2066\u200f"),
        ("\u200b\ufeff", r"\u200b\ufeff"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("pay\u200d\u00adment\u3164\ufe0f", r"pay\u200d\xadment\u3164\ufe0f"),
    ],
)
def test_what_drives_terminals_or_hides_is_escaped(text: str, shown: str) -> None:
    assert safe_text(text) == shown


def test_no_format_character_gets_through() -> None:
    formats = [chr(n) for n in range(0x110000) if unicodedata.category(chr(n)) == "Cf"]
    assert len(formats) > 100
    assert [char for char in formats if char in safe_text(f"a{char}b")] == []


def test_the_lines_of_a_block_stay_lines() -> None:
    assert safe_block("one\n\x1b[2Jtwo\rthree\n") == "one\n\\x1b[2Jtwo\\rthree"


def test_long_text_is_cut_to_the_limit() -> None:
    assert safe_text("x" * 200) == "x" * 200
    assert safe_text("x" * 201) == "x" * 199 + "…"
    assert safe_text("\0" * 10_000_000, 10) == r"\x00\x00\…"


@given(st.text(), st.integers(1, 300))
def test_no_text_gets_through_unsafe_or_too_long(text: str, limit: int) -> None:
    shown = safe_text(text, limit)
    assert len(shown) <= limit
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)
    assert not any(unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI") for c in shown)
    shown.encode()


def test_a_value_that_has_no_repr_is_shown_by_its_type() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert safe_repr("a\x1b") == r"'a\x1b'"
    assert safe_repr(10**10_000) == "<int>"
    assert safe_repr(Broken(), 200).endswith("Broken>")
