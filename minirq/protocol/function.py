"""Functions by name: which name a producer writes into a payload, and which functions a worker runs for it.

A name is `package.module.function` or `package.module.Class.method`. Names arrive from whoever can
write to Redis, so a worker does not run everything that Python could reach by them:

- Attributes are followed through classes only, never through a module that another module imported
  (`myapp.tasks.os.system`), and no segment starts with two underscores, but for a last `__call__`.
- A function is the application's own if the module that defines it is (`origin`), whatever name led to
  it. A function of unknown module is refused. A method is defined where its function is.
- A pattern of `allow` (`*` also matches dots) permits functions that are otherwise refused. It has to match
  the name under which a function is defined, or be exactly the name asked for: `myapp.*` does not permit
  `myapp.tasks.system`, which `myapp.tasks` has only imported.
- With `only`, names that match none of its patterns are refused too. It permits nothing.
- Nothing is imported for a refused name that is not the application's own.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from types import BuiltinFunctionType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from minirq.exceptions import FunctionNotFound, FunctionRefused, UnnamedFunction
from minirq.protocol.origin import file_of, is_guarded, is_installed, is_own, runs_code, top_of
from minirq.text import safe_text

__all__ = ["Permissions", "callers", "is_foreign", "name_function", "resolve_function"]

_MAX_NAME = 1000
#: the modules under whose names people know the functions of C modules
_PUBLIC = {"posix": "os", "nt": "os"}
#: the verified names of plain functions, which are enqueued again and again
_names: WeakKeyDictionary[FunctionType, str] = WeakKeyDictionary()


def name_function(f: object, *, allow_instance: bool) -> tuple[str, object | None]:
    """Return the name by which a worker finds `f`, and the instance that a method is bound to, or None.

    `allow_instance` says that the instance can be sent along, because the queue pickles. The name must lead
    back to `f`; of a string only the form is checked. Raises UnnamedFunction.
    """
    if type(f) is FunctionType:
        name = _names.get(f)
        if name is None:
            name = _names[f] = _verified(_own_name(f), f)
        return name, None
    if isinstance(f, str):
        fault = _form_fault(f)
        if fault:
            raise UnnamedFunction(f"{_quoted(f)} {fault}; give 'package.module.function'")
        return f, None
    return _name_callable(f, allow_instance)


def _name_callable(f: Any, allow_instance: bool) -> tuple[str, object | None]:
    if isinstance(f, partial):
        raise UnnamedFunction(f"{_shown(f)} has no name; enqueue its function and pass its arguments along")
    if not callable(f):
        raise UnnamedFunction(f"{_shown(f)} is not callable; enqueue a function or its dotted name")
    owner, last = getattr(f, "__self__", None), getattr(f, "__name__", "")
    if isinstance(owner, type):
        return _verified(f"{owner.__module__}.{owner.__qualname__}.{last}", f), None
    if isinstance(f, (MethodType, BuiltinFunctionType)) and not isinstance(owner, ModuleType | None):
        return _name_of_method(f, owner, last, allow_instance)
    if isinstance(getattr(f, "__qualname__", None), str):
        return _verified(_own_name(f), f), None
    return _name_of_method(f, f, "__call__", allow_instance)


@dataclass(frozen=True, slots=True)
class Permissions:
    """Which functions a worker may run. Those of the modules below `paths` are the application's own."""

    allow: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def check_module(self, name: str, module: str) -> None:
        """Raise FunctionRefused if this module, a part of `name`, must not be imported for it."""
        if not self._opens(name) and runs_code(module) and not is_own(module, self.paths):
            raise _refused(name, name, module)

    def check_function(self, name: str, f: object) -> None:
        """Raise FunctionRefused if this function, to which `name` leads, must not run."""
        module, definition = _module_of(f), _definition(f)
        # Python's functions are known by other names than those of the C modules that define them
        is_opened = name in self.allow or self._opens(name if is_guarded(name) else definition)
        if not is_opened and not is_own(module, self.paths):
            raise _refused(name, definition, module)

    def _opens(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.allow)


def resolve_function(name: str, permissions: Permissions = Permissions()) -> Callable[..., Any]:
    """Import and return the function of this name, if this worker may run it.

    Raises FunctionNotFound, with the error of a failed import as its cause, and FunctionRefused.
    """
    fault = _form_fault(name)
    if fault:
        raise FunctionNotFound(f"{_quoted(name)} {fault}")
    if permissions.only and not any(fnmatchcase(name, pattern) for pattern in permissions.only):
        shown = ", ".join(map(_quoted, permissions.only))
        raise FunctionRefused(f"{_quoted(name)} may not run here: this worker runs only {shown} (--only)")
    f: Callable[..., Any] = _find(name, partial(permissions.check_module, name))
    if not callable(f):
        raise FunctionNotFound(f"{_quoted(name)} is {_shown(f)}, which is not callable")
    permissions.check_function(name, f)
    return f


def is_foreign(f: object) -> bool:
    """Say whether `f` belongs to Python or to another distribution than the code that calls this.

    Of a name only the top package is looked at: only workers import what it leads to.
    """
    module = top_of(f) if isinstance(f, str) else _module_of(f)
    if not module or is_guarded(module):
        return True
    return is_installed(module) and top_of(module) not in callers()


def callers() -> Iterator[str]:
    """Yield the top packages of the frames on the stack, from the caller of this up."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__package__") or frame.f_globals.get("__name__")
        yield top_of(str(name))
        frame = frame.f_back


# --- the form of a name -----------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _form_fault(name: str) -> str | None:
    """Say what is wrong with the form of a dotted name."""
    if len(name) > _MAX_NAME:
        return f"is {len(name):,} characters long; the limit is {_MAX_NAME:,}"
    segments = name.split(".")
    if len(segments) < 2 or not all(segment.isidentifier() for segment in segments):
        return "is not a dotted name"
    if segments[-1] == "__call__":
        segments.pop()
    if any(segment.startswith("__") for segment in segments):
        return "holds a private name (two underscores), which is not followed"
    return None


def _quoted(name: str) -> str:
    return f"'{safe_text(name)}'"


def _shown(f: object) -> str:
    kind = type(f)
    return f"{'an' if kind.__qualname__[:1] in 'aeiouAEIOU' else 'a'} {safe_text(kind.__qualname__)}"


# --- a name for a function --------------------------------------------------------------------


def _own_name(f: object) -> str:
    module = _module_of(f)
    qualname = getattr(f, "__qualname__", "")
    if "<lambda>" in qualname:
        raise UnnamedFunction("a lambda has no name that a worker could import; use a function of a module")
    if "<locals>" in qualname:
        raise UnnamedFunction(
            f"{_quoted(f'{module}.{qualname}')} is defined inside a function, where a worker cannot find it; "
            "move it to the top of its module"
        )
    if type(f) is BuiltinFunctionType:
        public = _PUBLIC.get(module, module.lstrip("_"))
        if getattr(sys.modules.get(public), qualname, None) is f:
            module = public
    return f"{module}.{qualname}"


def _name_of_method(f: object, instance: object, method: str, allow_instance: bool) -> tuple[str, object]:
    kind = type(instance)
    name = f"{kind.__module__}.{kind.__qualname__}.{method}"
    if not allow_instance:
        raise UnnamedFunction(
            f"{_quoted(name)} is bound to an instance, which only serializer='pickle' can send along; "
            "use that, or a plain function that takes an id or other plain data"
        )
    plain = getattr(f, "__func__", None)
    expected = plain if plain is not None and f is not instance else getattr(kind, method, None)
    return _verified(name, expected), instance


def _verified(name: str, f: object) -> str:
    """Return `name` if it leads back to `f` in this process."""
    if name.startswith("__main__."):
        raise UnnamedFunction(
            f"{_quoted(name)} is defined in the script that is running, which a worker cannot import; "
            "move it to a module of its own and import it from there"
        )
    fault = _form_fault(name)
    if fault:
        raise UnnamedFunction(f"{_quoted(name)} {fault}; enqueue a function with a plain name")
    try:
        found = _find(name)
    except (FunctionNotFound, FunctionRefused) as error:
        raise UnnamedFunction(f"{_quoted(name)} does not lead back to the function: {error}") from error
    # every access makes a new bound method, equal to the others
    if found is not f and not (isinstance(f, (MethodType, BuiltinFunctionType)) and found == f):
        raise UnnamedFunction(
            f"{_quoted(name)} leads to another object than the one given; "
            "is it decorated, or its name used twice? Enqueue what the name stands for"
        )
    return name


# --- a function for a name --------------------------------------------------------------------


def _find(name: str, check: Callable[[str], None] = lambda module: None) -> Any:
    """Return what a name leads to. `check` is called with each module before it is imported or searched."""
    segments = name.split(".")
    module, used, missing = _import_longest(name, segments[:-1], check)
    found: Any = module
    for index in range(used, len(segments)):
        if not isinstance(found, type) and index > used:
            raise _blocked(name, ".".join(segments[:index]), found)
        try:
            found = getattr(found, segments[index])
        except AttributeError as error:
            path, segment = ".".join(segments[:index]), segments[index]
            inside = "module or attribute" if missing else "attribute"
            raise FunctionNotFound(
                f"{_quoted(name)}: {_quoted(path)} has no {inside} {_quoted(segment)}"
            ) from (missing or error)
    return found


def _blocked(name: str, path: str, found: object) -> FunctionRefused | FunctionNotFound:
    if isinstance(found, ModuleType):
        return FunctionRefused(
            f"{_quoted(name)}: {_quoted(path)} is the module {_quoted(found.__name__)}, imported there; "
            "a module is reached by its own name only"
        )
    return FunctionNotFound(
        f"{_quoted(name)}: {_quoted(path)} is {_shown(found)}, neither a module nor a class"
    )


def _import_longest(
    name: str, segments: list[str], check: Callable[[str], None]
) -> tuple[ModuleType, int, ImportError | None]:
    """Import the segments that are modules. Return the last one, how many, and why the next is no module."""
    for used in range(len(segments), 0, -1):
        module = sys.modules.get(".".join(segments[:used]))
        # another thread may still be importing it: `_import` waits for that
        if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
            check(".".join(segments[:used]))
            break
    else:
        module, used = None, 0
    while used < len(segments) and (module is None or hasattr(module, "__path__")):
        imported = _import(name, ".".join(segments[: used + 1]), check)
        if isinstance(imported, ImportError):
            if module is None:
                raise FunctionNotFound(
                    f"{_quoted(name)}: {safe_text(str(imported))}; is the application installed here, "
                    "or the worker started in its directory?"
                ) from imported
            return module, used, imported
        module, used = imported, used + 1
    assert module is not None  # a name has at least two segments, so one was searched for
    return module, used, None


def _import(name: str, path: str, check: Callable[[str], None]) -> ModuleType | ImportError:
    """Import a module, or return the error that says that there is none."""
    check(path)
    try:
        return importlib.import_module(path)
    except (Exception, SystemExit) as error:  # the module's own code runs, and a script may well exit
        if isinstance(error, ModuleNotFoundError) and error.name == path:
            return error
        told = f"{type(error).__name__}: {safe_text(str(error))}"
        raise FunctionNotFound(f"{_quoted(name)}: importing {_quoted(path)} raised {told}") from error


# --- what may run -----------------------------------------------------------------------------


def _refused(name: str, definition: str, module: str) -> FunctionRefused:
    if not definition:
        return FunctionRefused(
            f"{_quoted(name)} does not tell where it is defined; "
            f"a worker runs it with --allow {_quoted(name)}"
        )
    said = "" if name == definition else f" is {_quoted(definition)}, which"
    way_out = f"--allow {_quoted(definition)}"
    file = file_of(module)
    if file is not None and not is_guarded(module):
        said = f"{said or ' is'} in {safe_text(file)} and"
        if not is_installed(module):
            way_out = f"--path to its directory, or with {way_out}"
        else:
            way_out += f", or if that is the application with --allow {_quoted(top_of(module) + '.*')}"
    return FunctionRefused(
        f"{_quoted(name)}{said} is not the application's own; a worker runs it with {way_out}"
    )


def _definition(f: object) -> str:
    """Return the dotted name under which `f` is defined, "" if it is unknown."""
    module = _module_of(f)
    qualname = getattr(f, "__qualname__", None) or type(f).__qualname__
    return f"{module}.{qualname}" if module else ""


def _module_of(f: object) -> str:
    if type(f) is FunctionType:
        return f.__module__ or ""
    owner = getattr(f, "__self__", None)
    if isinstance(f, BuiltinFunctionType) and owner is not None and not isinstance(owner, ModuleType):
        # a method of C code, such as dict.fromkeys: the module of the class that defines it
        kinds = owner.__mro__ if isinstance(owner, type) else type(owner).__mro__
        return next((kind.__module__ for kind in kinds if f.__name__ in vars(kind)), "")
    module = getattr(f, "__module__", None)
    if module is None:  # a method of C code, not bound
        module = getattr(getattr(f, "__objclass__", None), "__module__", None)
    return module if isinstance(module, str) else ""
