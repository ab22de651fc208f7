"""What the worker runs: one source file is read, and what is in it comes back."""

from __future__ import annotations

import ast
import hashlib
import warnings
from pathlib import Path


def measure(path: str) -> dict[str, int | str]:
    """Return what a Python source file holds: lines, functions, the longest of them, SHA-256.

    A file that Python cannot parse raises SyntaxError. Nothing catches it here: the job fails, its
    traceback is kept with it, and the report counts it.
    """
    source = Path(path).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler finds odd is no matter of this report
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
