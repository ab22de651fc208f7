"""Functions get names that lead back to them, and workers follow only names that they may."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirq.exceptions import FunctionNotFound, FunctionRefused, MinirqError, UnnamedFunction
from minirq.protocol.function import defined_in_stdlib, name_function, resolve_function

APP = """
    import functools
    import os
    import os.path as path
    from os import getpid, system
    from pathlib import Path

    print_it = print
    number = 7
    partial = functools.partial(os.system, "true")

    def plain(x=1): return ("plain", x)
    def _single(): return "single"
    def __hidden(): return "hidden"
    def größe(): return "größe"

    def decorator(f):
        @functools.wraps(f)
        def wrapper(*args): return ("wrapped", f(*args))
        return wrapper

    @decorator
    def decorated(): return "decorated"

    original = decorated.__wrapped__

    @functools.lru_cache
    def cached(): return "cached"

    class Tasks:
        def method(self): return ("method", self)
        @classmethod
        def build(cls): return ("build", cls.__name__)
        @staticmethod
        def static(): return "static"
        def __call__(self): return ("called", self)
        class Inner:
            @staticmethod
            def deep(): return "deep"

    class Child(Tasks, dict):
        pass

    instance = Tasks()
    bound = instance.method
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An application: `shop` with `shop.tasks`, `shop.broken`, `shop.exits`, and a package without it."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("import os\n")
    (package / "tasks.py").write_text(textwrap.dedent(APP), encoding="utf-8")
    (package / "broken.py").write_text("import shop_missing_dependency\n")
    (package / "fails.py").write_text("raise ValueError('no \\x1b[31m settings')\n")
    (package / "exits.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "touchy.py").write_text("raise RuntimeError('was imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    import shop.tasks  # type: ignore[import-not-found]

    yield shop.tasks
    for name in set(sys.modules) - before:
        if name.startswith(("shop", "touchy")):
            del sys.modules[name]


# --- a name for a function --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("get", "name"),
    [
        (lambda app: app.plain, "shop.tasks.plain"),
        (lambda app: app._single, "shop.tasks._single"),
        (lambda app: app.größe, "shop.tasks.größe"),
        (lambda app: app.decorated, "shop.tasks.decorated"),
        (lambda app: app.cached, "shop.tasks.cached"),
        (lambda app: app.Tasks, "shop.tasks.Tasks"),
        (lambda app: app.Tasks.method, "shop.tasks.Tasks.method"),
        (lambda app: app.Tasks.static, "shop.tasks.Tasks.static"),
        (lambda app: app.instance.static, "shop.tasks.Tasks.static"),
        (lambda app: app.Tasks.build, "shop.tasks.Tasks.build"),
        (lambda app: app.instance.build, "shop.tasks.Tasks.build"),
        (lambda app: app.Child.build, "shop.tasks.Child.build"),
        (lambda app: app.Child.fromkeys, "shop.tasks.Child.fromkeys"),
        (lambda app: app.Tasks.Inner.deep, "shop.tasks.Tasks.Inner.deep"),
        (lambda app: len, "builtins.len"),
        (lambda app: os.getpid, "os.getpid"),
        (lambda app: str.upper, "builtins.str.upper"),
        (lambda app: dict.fromkeys, "builtins.dict.fromkeys"),
        (lambda app: collections.OrderedDict, "collections.OrderedDict"),
        (lambda app: os.path.join, "posixpath.join"),
        (lambda app: "any.dotted.name", "any.dotted.name"),
    ],
)
def test_a_function_is_named_by_where_it_is_defined(app: Any, get: Callable[[Any], Any], name: str) -> None:
    for _ in range(2):
        assert name_function(get(app), allow_instance=False) == (name, None)


def test_a_name_leads_back_to_the_function(app: Any) -> None:
    for f in (app.plain, app.decorated, app.cached, app.Tasks, app.Tasks.build, app.Tasks.static):
        name, _ = name_function(f, allow_instance=False)
        assert resolve_function(name) == f


@pytest.mark.parametrize(
    ("get", "name"),
    [
        (lambda app: app.instance.method, "shop.tasks.Tasks.method"),
        (lambda app: app.instance, "shop.tasks.Tasks.__call__"),
        (lambda app: app.instance.__call__, "shop.tasks.Tasks.__call__"),
    ],
)
def test_a_method_comes_with_its_instance_where_that_can_be_sent(app: Any, get: Any, name: str) -> None:
    assert name_function(get(app), allow_instance=True) == (name, app.instance)
    assert resolve_function(name)(app.instance)[1] is app.instance
    with pytest.raises(UnnamedFunction, match="serializer='pickle'"):
        name_function(get(app), allow_instance=False)


def test_a_method_of_c_code_comes_with_its_instance() -> None:
    items: list[int] = []
    assert name_function(items.append, allow_instance=True) == ("builtins.list.append", items)


@pytest.mark.parametrize(
    ("get", "says"),
    [
        (lambda app: lambda: None, "lambda"),
        (lambda app: app.decorator(app.plain), "another object"),
        (lambda app: app.original, "decorated"),
        (lambda app: functools.partial(app.plain, 1), "pass its arguments"),
        (lambda app: getattr(app, "__hidden"), "two underscores"),
        (lambda app: app.number, "not callable"),
        (lambda app: None, "not callable"),
        (lambda app: "plain", "not a dotted name"),
        (lambda app: "", "not a dotted name"),
        (lambda app: "__main__.f", "two underscores"),
        (lambda app: "a.\x1b[31m", r"a\.\\x1b"),
    ],
)
def test_what_a_worker_could_not_find_is_refused(app: Any, get: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(UnnamedFunction, match=says):
        name_function(get(app), allow_instance=True)


def test_a_function_inside_a_function_is_refused() -> None:
    def nested() -> None: ...

    class Local:
        def method(self) -> None: ...

    for f in (nested, Local, Local.method):
        with pytest.raises(UnnamedFunction, match="defined inside a function"):
            name_function(f, allow_instance=False)
    with pytest.raises(UnnamedFunction):
        name_function(Local().method, allow_instance=True)


def test_a_function_of_the_running_script_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from minirq.protocol.function import name_function\n"
        "def f(): ...\n"
        "try: name_function(f, allow_instance=False)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True
    )
    assert "UnnamedFunction '__main__.f' is defined in the script" in done.stdout


def test_names_of_functions_that_are_gone_are_not_kept(app: Any) -> None:
    from minirq.protocol import function

    name_function(app.plain, allow_instance=False)
    before = len(function._names)
    del app.plain
    import gc

    gc.collect()
    assert len(function._names) < before


# --- a function for a name --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("shop.tasks.plain", ("plain", 1)),
        ("shop.tasks._single", "single"),
        ("shop.tasks.größe", "größe"),
        ("shop.tasks.decorated", ("wrapped", "decorated")),
        ("shop.tasks.cached", "cached"),
        ("shop.tasks.Tasks.static", "static"),
        ("shop.tasks.Tasks.build", ("build", "Tasks")),
        ("shop.tasks.Child.build", ("build", "Child")),
        ("shop.tasks.Tasks.Inner.deep", "deep"),
    ],
)
def test_the_applications_functions_are_found(app: Any, name: str, result: object) -> None:
    assert resolve_function(name)() == result


def test_a_module_is_imported_when_a_job_needs_it(app: Any) -> None:
    del sys.modules["shop.tasks"], sys.modules["shop"]
    assert resolve_function("shop.tasks.plain")() == ("plain", 1)


def test_a_replaced_function_is_found_at_once(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_function("shop.tasks.plain")
    monkeypatch.setattr(app, "plain", lambda: "other")
    assert resolve_function("shop.tasks.plain")() == "other"


@pytest.mark.parametrize(
    ("name", "says", "cause"),
    [
        ("nowhere.f", "No module named 'nowhere'", ModuleNotFoundError),
        ("shop.nowhere.f", "'shop' has no module or attribute 'nowhere'", ModuleNotFoundError),
        ("shop.tasks.nothing", "'shop.tasks' has no attribute 'nothing'", AttributeError),
        ("shop.tasks.Tasks.nothing", "'shop.tasks.Tasks' has no attribute 'nothing'", AttributeError),
        (
            "shop.broken.f",
            "importing 'shop.broken' raised ModuleNotFoundError: No module named 'shop_missing",
            ModuleNotFoundError,
        ),
        ("shop.fails.f", r"importing 'shop.fails' raised ValueError: no \x1b[31m settings", ValueError),
        ("shop.exits.f", "importing 'shop.exits' raised SystemExit: 3", SystemExit),
    ],
)
def test_what_is_not_found_says_why_and_keeps_the_cause(
    app: Any, name: str, says: str, cause: type[BaseException]
) -> None:
    with pytest.raises(FunctionNotFound) as caught:
        resolve_function(name)
    assert f"'{name}'" in str(caught.value)
    assert says in str(caught.value)
    assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize(
    "name", ["shop.tasks.number", "shop.tasks.number.real", "shop.tasks.instance.method"]
)
def test_only_callables_in_modules_and_classes_are_found(app: Any, name: str) -> None:
    with pytest.raises(FunctionNotFound, match=r"which is not callable|neither a module nor a class"):
        resolve_function(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "f",
            "a.",
            ".a",
            "a..b",
            "a. b",
            " a.b",
            "a.b ",
            "a.b()",
            "a/b.c",
            "1a.b",
            "a.b\n",
            "a:b",
            "a.\0",
        ),
        *("a." * 5000 + "f", "x" * 10_000 + ".f", "a.\x1b]0;x\x07", "a.\u202ef"),
        *("shop.__init__.os", "shop.tasks.__builtins__", "shop.tasks.Tasks.__init__", "shop.tasks.__hidden"),
        *("shop.tasks.plain.__globals__", "shop.tasks.Tasks.__class__", "__main__.f", "builtins.__import__"),
        *("shop.tasks.Tasks.__subclasses__", "shop.tasks.Tasks.__call__.__call__", "__call__.__call__"),
    ],
)
def test_weird_names_are_not_found_and_shown_safely(app: Any, name: str) -> None:
    with pytest.raises((FunctionNotFound, FunctionRefused)) as caught:
        resolve_function(name, allow=("*",))
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


@given(st.text(max_size=30) | st.text(alphabet="ab._ \0é", max_size=12))
def test_any_text_is_a_function_or_a_minirq_error(name: str) -> None:
    with contextlib.suppress(MinirqError):
        resolve_function(name)


# --- what may run -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("os.getpid", "--allow 'os.getpid'"),
        ("os.system", "--allow 'os.system'"),
        ("builtins.eval", "--allow 'builtins.eval'"),
        ("subprocess.Popen", "--allow 'subprocess.Popen'"),
        ("subprocess.Popen.communicate", "--allow"),
        ("minirq.text.safe_text", "--allow 'minirq.text.safe_text'"),
        ("shop.tasks.system", "--allow 'posix.system'"),
        ("shop.tasks.print_it", "--allow 'builtins.print'"),
        ("shop.tasks.Path", "--allow 'pathlib.Path'"),
        ("shop.tasks.Path.cwd", "--allow 'pathlib.Path.cwd'"),
        ("shop.tasks.partial", "--allow 'functools.partial'"),
        ("shop.tasks.Child.fromkeys", "--allow"),
        ("shop.tasks.Child.pop", "--allow 'builtins.dict.pop'"),
        ("shop.tasks.Child.mro", "--allow"),
    ],
)
def test_what_is_not_the_applications_own_is_refused(app: Any, name: str, hint: str) -> None:
    with pytest.raises(FunctionRefused) as caught:
        resolve_function(name)
    assert name in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize("name", ["shop.tasks.os.system", "shop.tasks.path.join", "shop.os.system"])
def test_modules_that_were_imported_by_others_are_no_way(app: Any, name: str) -> None:
    for allow in ((), ("*",), (name,)):
        with pytest.raises(FunctionRefused, match="is the module"):
            resolve_function(name, allow=allow)


def test_a_callable_of_unknown_origin_is_refused(app: Any) -> None:
    class Strange:
        __module__ = None  # type: ignore[assignment]

        def __call__(self) -> None: ...

    app.strange = Strange()
    with pytest.raises(FunctionRefused, match="unknown"):
        resolve_function("shop.tasks.strange")
    assert resolve_function("shop.tasks.strange", allow=("shop.tasks.strange",)) is app.strange


@pytest.mark.parametrize(
    ("allow", "runs", "refused"),
    [
        (("os.getpid",), ["os.getpid", "shop.tasks.plain"], ["os.system", "shop.tasks.system"]),
        (("os.*",), ["os.getpid", "os.system", "shop.tasks.plain"], ["shop.tasks.system", "builtins.eval"]),
        (("posix.system",), ["shop.tasks.system", "shop.tasks.plain"], ["os.getpid"]),
        (("builtins.print",), ["builtins.print", "shop.tasks.print_it"], ["builtins.eval"]),
        (("minirq.text.*",), ["minirq.text.safe_text", "shop.tasks.plain"], ["minirq.retry.Retry"]),
        (("shop.*",), ["shop.tasks.plain"], ["shop.tasks.system", "os.getpid", "touchy.f"]),
        (("shop.tasks.p*",), ["shop.tasks.plain"], ["shop.tasks.cached", "shop.tasks.print_it"]),
        (("shop.tasks.system",), ["shop.tasks.system"], ["shop.tasks.plain", "os.system"]),
        (("shop.tasks.plain", "os.getpid"), ["shop.tasks.plain", "os.getpid"], ["shop.tasks.cached"]),
        (("*",), ["shop.tasks.plain", "os.getpid", "shop.tasks.system", "shop.tasks.Child.fromkeys"], []),
        (("SHOP.*",), [], ["shop.tasks.plain"]),
    ],
)
def test_allow_opens_and_narrows(
    app: Any, allow: tuple[str, ...], runs: list[str], refused: list[str]
) -> None:
    for name in runs:
        assert callable(resolve_function(name, allow=allow))
    for name in refused:
        with pytest.raises(FunctionRefused):
            resolve_function(name, allow=allow)


def test_a_refused_name_is_not_imported(app: Any) -> None:
    sys.modules.pop("antigravity", None)
    for name, allow in (("antigravity.f", ()), ("antigravity.f", ("os.*",)), ("touchy.f", ("shop.*",))):
        with pytest.raises(FunctionRefused):
            resolve_function(name, allow=allow)
    assert "antigravity" not in sys.modules
    with pytest.raises(FunctionNotFound, match="was imported"):
        resolve_function("touchy.f")


def test_the_producer_can_tell_what_workers_refuse(app: Any) -> None:
    for f in (
        os.getpid,
        print,
        len,
        os.path.join,
        collections.OrderedDict,
        str.upper,
        app.partial,
        [].append,
    ):
        assert defined_in_stdlib(f)
    for f in (app.plain, app.Tasks, app.Tasks.build, app.instance.method, app.instance, app.cached):
        assert not defined_in_stdlib(f)
