"""Functions get names that lead back to them, and workers follow only names that they may."""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import os
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

from minirq.exceptions import FunctionNotFound, FunctionRefused, MinirqError, UnnamedFunction
from minirq.protocol import origin
from minirq.protocol.function import Permissions, is_foreign, name_function, resolve_function

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
    root = str(ROOT)
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
        resolve_function(name, Permissions(allow=("*",)))
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
        ("shop.tasks.Path", "--allow 'pathlib."),
        ("shop.tasks.Path.cwd", "--allow 'pathlib."),
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
            resolve_function(name, Permissions(allow))


def test_a_callable_of_unknown_origin_is_refused(app: Any) -> None:
    class Strange:
        __module__ = None  # type: ignore[assignment]

        def __call__(self) -> None: ...

    app.strange = Strange()
    with pytest.raises(FunctionRefused, match="does not tell where it is defined"):
        resolve_function("shop.tasks.strange")
    assert resolve_function("shop.tasks.strange", Permissions(("shop.tasks.strange",))) is app.strange


@pytest.mark.parametrize(
    ("allow", "only", "runs", "refused"),
    [
        ("os.getpid", "", ["os.getpid", "shop.tasks.plain"], ["os.system", "shop.tasks.system"]),
        ("os.*", "", ["os.getpid", "os.system", "shop.tasks.plain"], ["shop.tasks.system", "builtins.eval"]),
        ("posix.system", "", ["shop.tasks.system", "shop.tasks.plain"], ["os.getpid"]),
        ("builtins.print", "", ["builtins.print", "shop.tasks.print_it"], ["builtins.eval"]),
        ("minirq.text.*", "", ["minirq.text.safe_text", "shop.tasks.plain"], ["minirq.retry.Retry"]),
        ("shop.*", "", ["shop.tasks.plain"], ["shop.tasks.system", "os.getpid"]),
        (
            "shop.tasks.system",
            "",
            ["shop.tasks.system", "shop.tasks.plain"],
            ["os.system", "shop.tasks.print_it"],
        ),
        ("*", "", ["shop.tasks.plain", "os.getpid", "shop.tasks.system", "shop.tasks.Child.fromkeys"], []),
        ("", "shop.tasks.p*", ["shop.tasks.plain"], ["shop.tasks.cached", "shop.tasks.print_it", "touchy.f"]),
        ("", "os.*", [], ["os.getpid", "shop.tasks.plain"]),
        ("", "shop.tasks.system", [], ["shop.tasks.system", "shop.tasks.plain"]),
        ("os.*", "os.getpid", ["os.getpid"], ["os.system", "shop.tasks.plain"]),
        ("os.getpid", "shop.*", ["shop.tasks.plain"], ["os.getpid"]),
        ("", "SHOP.*", [], ["shop.tasks.plain"]),
        ("", "os.* shop.tasks.plain", ["shop.tasks.plain"], ["os.getpid", "shop.tasks.cached"]),
    ],
)
def test_allow_opens_and_only_narrows(
    app: Any, allow: str, only: str, runs: list[str], refused: list[str]
) -> None:
    permissions = Permissions(tuple(allow.split()), tuple(only.split()))
    for name in runs:
        assert callable(resolve_function(name, permissions))
    for name in refused:
        with pytest.raises(FunctionRefused):
            resolve_function(name, permissions)


def test_a_refused_name_is_not_imported(app: Any) -> None:
    sys.modules.pop("antigravity", None)
    for name, permissions in (
        ("antigravity.f", Permissions()),
        ("antigravity.f", Permissions(allow=("os.*",))),
        ("touchy.f", Permissions(only=("shop.*",))),
        ("touchy.f", Permissions(paths=("/nowhere",))),
    ):
        with pytest.raises(FunctionRefused):
            resolve_function(name, permissions)
    assert "antigravity" not in sys.modules
    with pytest.raises(FunctionNotFound, match="was imported"):
        resolve_function("touchy.f")


# --- whose a module is ------------------------------------------------------------------------


LIBRARY = """
    raised = False
    def edit(): return "a shell"
    class Base:
        def inherited(self): return "foreign"
        @classmethod
        def build(cls): return "foreign"
    def decorator(f):
        import functools
        @functools.wraps(f)
        def wrapper(): return f()
        return wrapper
"""
USER = """
    import lib
    from lib import Base, edit
    class Mine(Base):
        def own(self): return "own"
    @lib.decorator
    def decorated(): return "own"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write modules below a directory, which is searched from then on unless it is told not to be."""
    before = set(sys.modules)

    def write(where: str, *, is_searched: bool = True, **modules: str) -> Path:
        folder = tmp_path / where
        folder.mkdir(parents=True, exist_ok=True)
        for name, code in modules.items():
            file = folder / (name.replace("__slash__", "/") + ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(code))
        if is_searched:
            monkeypatch.syspath_prepend(str(folder))
        return folder

    origin._is_listed.cache_clear()
    origin._editable.cache_clear()
    yield write
    origin._is_listed.cache_clear()
    origin._editable.cache_clear()
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("lib", "mine", "other", "space", "ours"):
            del sys.modules[name]


EXPLODES = "raise SystemExit('was imported')"


@pytest.mark.parametrize(
    "where",
    [
        "lib/python3/site-packages",
        "usr/lib/python3/dist-packages",
        "project/.venv/lib/python3.11/site-packages",
    ],
)
def test_what_is_installed_is_refused_before_it_is_imported(place: Any, tmp_path: Path, where: str) -> None:
    place(where, lib=EXPLODES)
    for paths in ((), (str(tmp_path),), (str(tmp_path / where),)):
        with pytest.raises(FunctionRefused, match=r"--allow 'lib\.edit', or .* with --allow 'lib\.\*'"):
            resolve_function("lib.edit", Permissions(paths=paths))
    assert "lib" not in sys.modules
    with pytest.raises(FunctionNotFound, match="was imported"):
        resolve_function("lib.edit", Permissions(allow=("lib.*",)))


@pytest.mark.parametrize(
    "name",
    [
        *("click.edit", "click.termui.edit", "pip._internal.utils.subprocess.call_subprocess"),
        *("_testcapi.run_in_subinterp", "test.support.script_helper.assert_python_ok", "_ctypes_test.func"),
        *("redis.Redis.from_url", "msgpack.unpackb", "pytest.main", "minirq.cli.main.main"),
    ],
)
def test_code_of_others_is_no_job(name: str) -> None:
    pytest.importorskip(name.partition(".")[0])  # some systems leave pip and CPython's own tests out
    known = set(sys.modules)
    for permissions in (Permissions(), Permissions(paths=("/",)), Permissions(only=("*",))):
        with pytest.raises(FunctionRefused, match="--allow"):
            resolve_function(name, permissions)
    assert set(sys.modules) == known


def test_what_counts_is_where_a_function_is_defined(place: Any) -> None:
    place("site-packages", lib=LIBRARY)
    place("app", mine=USER)
    for name in ("mine.decorated", "mine.Mine.own", "mine.Mine"):
        assert callable(resolve_function(name))
    for name in ("mine.edit", "mine.Base", "mine.Base.inherited", "mine.Mine.inherited", "mine.Mine.build"):
        with pytest.raises(FunctionRefused, match=r"'lib\."):
            resolve_function(name)
    with pytest.raises(FunctionRefused, match=r"'lib\.edit'"):
        resolve_function("mine.edit", Permissions(allow=("mine.*",)))
    assert resolve_function("mine.edit", Permissions(allow=("lib.edit",)))() == "a shell"


def test_named_directories_are_the_only_ones(place: Any) -> None:
    here, there = place("here", mine="def f(): return 1"), place("there", other=EXPLODES)
    assert resolve_function("mine.f", Permissions(paths=(str(here),)))() == 1
    with pytest.raises(FunctionRefused, match=r"--path to its directory, or with --allow 'other\.f'"):
        resolve_function("other.f", Permissions(paths=(str(here),)))
    with pytest.raises(FunctionRefused):
        resolve_function("mine.f", Permissions(paths=(str(here.parent / "her"),)))
    with pytest.raises(FunctionNotFound, match="was imported"):
        resolve_function("other.f", Permissions(paths=(str(here), str(there))))


def test_links_count_from_both_ends(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = place("releases/7", is_searched=False, mine="def f(): return 7")
    (tmp_path / "current").symlink_to(release)
    monkeypatch.syspath_prepend(str(tmp_path / "current"))
    for path in ("current", "releases"):
        assert resolve_function("mine.f", Permissions(paths=(str(tmp_path / path),)))() == 7
    # an environment somewhere else, under a name that does not tell, and the other way around
    elsewhere = place("opt/deps", is_searched=False, lib=EXPLODES)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "site-packages").symlink_to(elsewhere)
    monkeypatch.syspath_prepend(str(tmp_path / "project" / "site-packages"))
    with pytest.raises(FunctionRefused):
        resolve_function("lib.edit", Permissions(paths=(str(tmp_path),)))
    installed = place("x/site-packages", is_searched=False, other=EXPLODES)
    (tmp_path / "app").symlink_to(installed)
    monkeypatch.syspath_prepend(str(tmp_path / "app"))
    with pytest.raises(FunctionRefused):
        resolve_function("other.edit")


def test_a_namespace_package_belongs_to_whoever_has_its_parts(place: Any) -> None:
    place("site-packages", space__slash__lib=EXPLODES)
    place("app", space__slash__mine="def f(): return 1")
    assert resolve_function("space.mine.f")() == 1
    with pytest.raises(FunctionRefused, match="site-packages"):
        resolve_function("space.lib.edit")
    assert "space.lib" not in sys.modules


def test_what_pip_has_put_into_the_applications_directory_is_refused(place: Any) -> None:
    app = place("app", mine="def f(): return 1", lib=EXPLODES)
    (app / "lib-1.0.dist-info").mkdir()
    (app / "lib-1.0.dist-info" / "METADATA").write_text("Name: lib\nVersion: 1.0\n")
    (app / "lib-1.0.dist-info" / "RECORD").write_text("lib.py,,\nlib-1.0.dist-info/RECORD,,\n")
    with pytest.raises(FunctionRefused):
        resolve_function("lib.edit", Permissions(paths=(str(app),)))
    assert resolve_function("mine.f", Permissions(paths=(str(app),)))() == 1


def test_a_zip_file_is_a_directory_like_others(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "app.pyz"
    with zipfile.ZipFile(bundle, "w") as file:
        file.writestr("mine.py", "def f(): return 1")
        file.writestr("lib.py", EXPLODES)
        file.writestr("lib-1.0.dist-info/METADATA", "Name: lib\nVersion: 1.0\n")
        file.writestr("lib-1.0.dist-info/RECORD", "lib.py,,\n")
    monkeypatch.syspath_prepend(str(bundle))
    for paths in ((), (str(bundle),), (str(tmp_path),)):
        assert resolve_function("mine.f", Permissions(paths=paths))() == 1
        with pytest.raises(FunctionRefused):
            resolve_function("lib.edit", Permissions(paths=paths))


def test_in_a_frozen_application_nothing_is_known_to_be_its_own(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place("bundle", mine="def f(): return 1")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(FunctionRefused, match="--allow"):
        resolve_function("mine.f")
    assert resolve_function("mine.f", Permissions(allow=("mine.*",)))() == 1


@pytest.mark.parametrize("kind", ["direct_url.json", ".pth"])
def test_an_editable_install_is_the_applications_own(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    source = place("src tree", mine="def f(): return 1")
    place("src tree/.venv/lib/site-packages", lib=EXPLODES)
    packages = place("site-packages")
    if kind == ".pth":
        (packages / "mine.pth").write_text(f"import os\n{source}\nrelative\n")
    else:
        info = packages / "mine-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
        (info / kind).write_text(json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}}))
    elsewhere = Permissions(paths=("/nowhere",))
    assert resolve_function("mine.f", elsewhere)() == 1
    with pytest.raises(FunctionRefused):
        resolve_function("lib.edit", elsewhere)


def test_the_producer_can_tell_what_workers_refuse(app: Any, place: Any) -> None:
    for f in (
        os.getpid,
        print,
        len,
        os.path.join,
        collections.OrderedDict,
        str.upper,
        app.partial,
        [].append,
        "os.getpid",
        "minirq.text.safe_text",
        "fastapi.FastAPI",
        redis_py.Redis.from_url,
    ):
        assert is_foreign(f)
    own = (app.plain, app.Tasks, app.Tasks.build, app.instance.method, app.instance, app.cached)
    for f in (*own, "shop.tasks.plain", "nobody.knows.f"):
        assert not is_foreign(f)


def test_an_installed_application_may_enqueue_its_own_functions(place: Any) -> None:
    place(
        "site-packages",
        ours__slash____init__="",
        ours__slash__tasks="def f(): ...",
        ours__slash__web="""
            from ours.tasks import f
            def asks(is_foreign): return is_foreign(f), is_foreign('ours.x')
        """,
    )
    from ours.tasks import f  # type: ignore[import-not-found]
    from ours.web import asks  # type: ignore[import-not-found]

    assert is_foreign(f)
    assert asks(is_foreign) == (False, False)


def test_a_module_that_another_thread_imports_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_import.py").write_text(
        "import threading\nbegun.set()\ngate.wait(10)\ndef late(): return 'late'\n"
    )
    begun, gate = threading.Event(), threading.Event()
    monkeypatch.setattr("builtins.begun", begun, raising=False)
    monkeypatch.setattr("builtins.gate", gate, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    first = threading.Thread(target=resolve_function, args=("slow_to_import.late",))
    first.start()
    assert begun.wait(10)
    threading.Timer(0.2, gate.set).start()
    assert resolve_function("slow_to_import.late")() == "late"
    first.join()
    sys.modules.pop("slow_to_import")
