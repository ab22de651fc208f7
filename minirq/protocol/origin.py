"""Whether a module belongs to the application, to Python or to another distribution. Nothing is imported.

The place of its file decides:

- A module is the application's own below one of its directories, or where an editable install points to.
  These directories are given; by default they are those of sys.path.
- It is not, if it is below the standard library, site-packages or dist-packages, including those of a virtual
  environment inside the project, or if a distribution beside it lists it (`pip install --target`).

Both the path of a file and the path to which its links lead count. A module without a file is not the
application's own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

__all__ = ["file_of", "is_guarded", "is_installed", "is_own", "runs_code", "top_of"]

#: minirq's functions are no jobs, wherever it is installed; bundles hide the files of Python's modules
_GUARDED = sys.stdlib_module_names | {"builtins", "minirq"}
_LIBRARIES = frozenset({"site-packages", "dist-packages"})


def is_own(module: str, paths: tuple[str, ...] = ()) -> bool:
    """Say whether a module is the application's own; `paths` are its directories."""
    file = file_of(module)
    if file is None or is_installed(module):
        return False
    forms = _forms(file)
    return _is_below(forms, paths or _search_path()) or _is_below(forms, _editable())


def is_installed(module: str) -> bool:
    """Say whether a module belongs to Python, to minirq, or to a distribution, unless it is editable."""
    if is_guarded(module):
        return True
    file = file_of(module)
    if file is None:
        return False
    forms = _forms(file)
    is_in_library = any(not _LIBRARIES.isdisjoint(form.parts) for form in forms)
    return (
        is_in_library or _is_below(forms, _python()) or _is_listed(_container(module, file), top_of(module))
    )


def is_guarded(module: str) -> bool:
    """Say whether the name shows that a module is Python's or minirq's."""
    return top_of(module) in _GUARDED


def top_of(module: str) -> str:
    """Return the first name of a dotted one."""
    return module.partition(".")[0]


def runs_code(module: str) -> bool:
    """Say whether there is such a module, and code in it: a namespace package has none."""
    spec = _spec(module)
    if spec is None:
        return module in sys.modules
    return spec.submodule_search_locations is None or spec.origin is not None


def file_of(module: str) -> str | None:
    """Return the file of a module, None if it has none. The package above it has to be imported."""
    if module in sys.modules:
        file = getattr(sys.modules[module], "__file__", None)
        return file if isinstance(file, str) else None
    spec = _spec(module)
    return spec.origin if spec is not None and spec.has_location else None


def _spec(module: str) -> ModuleSpec | None:
    try:
        return find_spec(module)
    except (ImportError, ValueError, AttributeError):  # its package is none, or a stand-in without a spec
        return None


def _forms(path: str | Path) -> set[Path]:
    return {Path(os.path.abspath(path)), Path(path).resolve()}  # noqa: PTH100 (it takes ".." out)


def _is_below(forms: set[Path], directories: Iterable[str | Path]) -> bool:
    roots = {root for directory in directories for root in _forms(directory)}
    return any(not roots.isdisjoint(form.parents) for form in forms)


def _search_path() -> Iterable[str]:
    # a bundle (PyInstaller, cx_Freeze) has application and libraries in one place: nothing tells them apart
    return () if getattr(sys, "frozen", False) else sys.path


def _python() -> tuple[Path, ...]:
    # its extension modules are below the first one, on Windows in the second
    return Path(os.__file__).parent, Path(sys.base_prefix, "DLLs")


def _container(module: str, file: str) -> Path:
    """Return the directory, or zip file, that the top package of a module is in."""
    above = Path(file).absolute().parents
    depth = module.count(".") + (Path(file).stem == "__init__")
    return above[min(depth, len(above) - 1)]


@lru_cache(maxsize=256)
def _is_listed(container: Path, top: str) -> bool:
    """Say whether a distribution in this directory says that this package or module is its own."""
    if container.is_dir() and not any(container.glob("*.dist-info")):
        return False
    from importlib.metadata import distributions  # 2 MiB that most applications do not pay

    files = (file for found in distributions(path=[str(container)]) for file in found.files or ())
    return any(file.parts[0].partition(".")[0] == top for file in files)


@lru_cache(maxsize=1)
def _editable() -> tuple[str, ...]:
    """Return the directories that editable installs point to, in their metadata or in a .pth file."""
    from importlib.metadata import distributions  # as above
    from urllib.parse import urlsplit  # as above
    from urllib.request import url2pathname  # as above

    found = []
    for distribution in distributions():
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
        if direct.get("dir_info", {}).get("editable"):
            found.append(url2pathname(urlsplit(direct.get("url", "")).path))
    for file in (
        file for path in sys.path if Path(path).name in _LIBRARIES for file in Path(path).glob("*.pth")
    ):
        found += [
            line for line in file.read_text("utf-8", "replace").splitlines() if Path(line).is_absolute()
        ]
    return tuple(found)
