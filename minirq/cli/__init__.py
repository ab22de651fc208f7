"""The command line: each command parses, makes one call and prints. The top floor; nothing imports it."""

from __future__ import annotations

from importlib import import_module

#: not from the package's metadata, which is missing where only the files were copied
VERSION: str = import_module("minirq").__version__
