"""The function that the worker runs: it measures one source file."""

from __future__ import annotations

import ast
import hashlib
import warnings
from pathlib import Path


def measure(path: str) -> dict[str, int | str]:
    """Measure a Python source file: lines, functions, the longest function, SHA-256.

    Raises SyntaxError for a file that Python cannot parse. Nothing catches it here: the job fails, Redis
    keeps its traceback, and the report counts it.
    """
    source = Path(path).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's warnings are not part of this report
        tree = ast.parse(source, path)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    longest = max(functions, key=_lines_of, default=None)
    return {
        "lines": len(source.splitlines()),
        "functions": len(functions),
        "longest": longest.name if longest else "",
        "longest_lines": _lines_of(longest) if longest else 0,
        "sha256": hashlib.sha256(source).hexdigest(),
    }


def _lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1
