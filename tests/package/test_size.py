"""How much there is to read in the package: lines of code and files. `bin/check` prints the table.

Lines of code are those with a token that is neither a comment nor a docstring; in Lua, those that are neither
blank nor a comment. What is larger than the budget says what it buys, and the budget changes with it.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

from support import ROOT

#: lines of code of the whole package; extras, once there are any, get a budget of their own
BUDGET = 11_400
#: lines of a Python file, all counted; files that are shorter or longer are exceptions, and few
FILE = range(100, 451)
LONGER, SHORTER = 4, 20

_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
PACKAGE = ROOT / "minirq"
PYTHON = sorted(PACKAGE.rglob("*.py"))
LUA = sorted(PACKAGE.rglob("*.lua"))


def code_lines(text: str) -> int:
    """Count the lines of Python that are neither blank nor a comment nor a docstring."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            docstrings.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    with_code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            with_code.update(range(token.start[0], token.end[0] + 1))
    return len(with_code - docstrings)


def lua_lines(text: str) -> int:
    return sum(bool(line.strip()) and not line.strip().startswith("--") for line in text.splitlines())


def folder_of(file: Path) -> str:
    folders = file.relative_to(PACKAGE).parts[:-1]
    return "lua" if file.suffix == ".lua" else folders[0] if folders else "."


def lines_by_folder() -> Counter[str]:
    lines: Counter[str] = Counter()
    for file in PYTHON:
        lines[folder_of(file)] += code_lines(file.read_text("utf-8"))
    for file in LUA:
        lines[folder_of(file)] += lua_lines(file.read_text("utf-8"))
    return lines


def outside_the_range() -> tuple[list[str], list[str]]:
    """The files that are longer, and those that are shorter, than most."""
    lengths = {
        str(file.relative_to(PACKAGE)): len(file.read_text("utf-8").splitlines())
        for file in PYTHON
        if not file.name.startswith("__")
    }
    longer = [f"{name} ({lines})" for name, lines in lengths.items() if lines >= FILE.stop]
    shorter = [f"{name} ({lines})" for name, lines in lengths.items() if lines < FILE.start]
    return longer, shorter


def table() -> str:
    lines, files = lines_by_folder(), Counter(map(folder_of, [*PYTHON, *LUA]))
    rows = [f"{folder:12} {files[folder]:5} {count:6,}" for folder, count in sorted(lines.items())]
    total = f"{'in all':12} {files.total():5} {lines.total():6,} of {BUDGET:,}"
    longer, shorter = outside_the_range()
    range_ = f"{FILE.start} to {FILE.stop - 1} lines"
    exceptions = (
        f"outside {range_}: {len(longer)} longer, {len(shorter)} shorter of {len(PYTHON)} Python files"
    )
    return "\n".join(["folder       files  lines", *rows, total, exceptions])


def test_lines_of_code_are_those_that_say_something() -> None:
    assert code_lines('"""Module."""\n\nx = (  # why\n    1,\n)\n') == 3
    assert code_lines('def f():\n    """Do."""\n    # so\n    return """a\nb"""\n') == 3
    assert lua_lines("-- contract\n\nlocal a = 1 -- why\n  -- so\nreturn a\n") == 2


def test_the_package_stays_within_its_budget() -> None:
    assert 0 < lines_by_folder().total() <= BUDGET, f"make it smaller, or say what it buys:\n{table()}"


def test_most_files_are_neither_long_nor_short() -> None:
    longer, shorter = outside_the_range()
    assert len(longer) <= LONGER, f"too many long files: {', '.join(longer)}"
    assert len(shorter) <= SHORTER, f"too many short files: {', '.join(shorter)}"


if __name__ == "__main__":
    print(table())
