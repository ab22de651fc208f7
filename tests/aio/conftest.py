"""Tests that are coroutines run in an event loop of their own, in debug mode, and no warning is let pass."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # what other tests have left open is not this one's
    asyncio.run(pyfuncitem.obj(**given), debug=True)
    gc.collect()  # what was left open complains now, in this test
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("error"), append=False)
