"""The functions that the worker runs for the web application."""

from __future__ import annotations

import re
from collections import Counter


def most_frequent(text: str, count: int = 3) -> list[tuple[str, int]]:
    """Return the most frequent words and their counts. Raises ValueError for a text without words."""
    words = Counter(re.findall(r"\w+", text.lower()))
    if not words:
        raise ValueError("the text has no words")
    return words.most_common(count)
