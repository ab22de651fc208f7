"""The order of the house: a module imports only from its own floor or one below it, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support import ROOT

PACKAGE = ROOT / "minirq"

# From the ground up; a new part of the package gets its floor here
FLOORS = [
    {"exceptions", "retry", "current", "durations", "text", "ownership", "backoff"},
    {"embedded"},
    {"protocol"},
    {"connection"},
    {"worker"},
    {"client"},
    {"queue", "job", "aio", "registry", "decorators", "results", "suspension"},
    {"inspect"},
    {"command"},
    {"cli"},
    {"__init__", "__main__"},
]

AT_HOME = {"redis": {"connection", "embedded"}, "msgpack": {"protocol"}, "click": {"cli"}}


@dataclass(frozen=True)
class Import:
    importer: str
    imported: str
    line: str
    inside_function: bool

    def __str__(self) -> str:
        return f"{self.importer}: {self.line.strip()}"


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def runtime_imports(
    node: ast.AST, inside_function: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, inside_function
        elif is_type_checking(child):
            assert isinstance(child, ast.If)
            for statement in child.orelse:
                yield from runtime_imports(statement, inside_function)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from runtime_imports(child, inside_function or is_function)


def names_in(statement: ast.Import | ast.ImportFrom, importer: str) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    base = statement.module or ""
    if statement.level:
        package = importer if FILES[importer].name == "__init__.py" else importer.rpartition(".")[0]
        for _ in range(statement.level - 1):
            package = package.rpartition(".")[0]
        base = f"{package}.{base}".rstrip(".")
    # `from minirq.protocol import keys` names a module, `from minirq.protocol.keys import Keys` what is in it
    submodules = [f"{base}.{alias.name}" for alias in statement.names if f"{base}.{alias.name}" in FILES]
    return submodules if len(submodules) == len(statement.names) else [base, *submodules]


def imports_of(module: str) -> list[Import]:
    source = FILES[module].read_text(encoding="utf-8")
    lines = source.splitlines()
    return [
        Import(module, name, lines[statement.lineno - 1], inside)
        for statement, inside in runtime_imports(ast.parse(source), False)
        for name in names_in(statement, module)
    ]


def part_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def floor_of(module: str) -> int:
    for number, parts in enumerate(FLOORS):
        if part_of(module) in parts:
            return number
    pytest.fail(f"{module} has no floor yet: say in FLOORS of {Path(__file__).name} where it belongs")


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "minirq"


ALL_IMPORTS = [found for module in FILES for found in imports_of(module)]
OUR_IMPORTS = [found for found in ALL_IMPORTS if is_ours(found.imported)]


def test_every_module_has_a_floor() -> None:
    assert FILES
    for module in FILES:
        floor_of(module)


def test_imports_go_down() -> None:
    upwards = [i for i in OUR_IMPORTS if floor_of(i.imported) > floor_of(i.importer)]
    assert not upwards, "imports from a floor above:\n" + "\n".join(map(str, upwards))


def test_there_are_no_circles() -> None:
    graph: dict[str, set[str]] = {}
    for found in OUR_IMPORTS:
        graph.setdefault(found.importer, set()).add(found.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize(("library", "parts"), AT_HOME.items(), ids=list(AT_HOME))
def test_a_library_is_imported_where_it_belongs(library: str, parts: set[str]) -> None:
    astray = [
        i for i in ALL_IMPORTS if i.imported.split(".")[0] == library and part_of(i.importer) not in parts
    ]
    assert not astray, f"{library} belongs to {parts} (elsewhere for types only):\n" + "\n".join(
        map(str, astray)
    )


def test_an_import_inside_a_function_says_why() -> None:
    unexplained = [i for i in ALL_IMPORTS if i.inside_function and "#" not in i.line]
    assert not unexplained, "say why in a comment on the line:\n" + "\n".join(map(str, unexplained))
