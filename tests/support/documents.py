"""Documents whose examples are tested: their blocks, their commands, and the reader who tries them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from minirq.cli.main import COMMANDS, cli
from support import ROOT


class Document:
    """A page of documentation. Blocks that begin with "# tasks.py" are that module, the others a program."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (ROOT / name).read_text("utf-8")

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"```{language}\n(.*?)```", self.text, re.DOTALL)

    @property
    def tasks(self) -> str:
        return "\n".join(block for block in self.blocks("python") if block.startswith("# tasks.py\n"))

    @property
    def program(self) -> str:
        return "\n".join(block for block in self.blocks("python") if not block.startswith("# tasks.py\n"))

    @property
    def shell(self) -> list[str]:
        return [line for block in self.blocks("sh") for line in block.splitlines()]

    @property
    def commands(self) -> list[str]:
        """All commands of minirq, in blocks and in the text."""
        inline = re.findall(r"`(minirq [^`]*)`", self.text)
        shown = re.findall(r"^\$ (minirq .*)$", self.text, re.MULTILINE)
        return sorted({*inline, *shown, *(line for line in self.shell if line.startswith("minirq "))})

    @property
    def prints(self) -> list[str]:
        """What the program is said to print."""
        return re.findall(r"print\(.*\)  # (.*)", self.program)

    def run(self) -> None:
        """Run the program."""
        exec(compile(self.program, self.name, "exec"), {})


@contextmanager
def reader(document: Document, folder: Path, redis_url: str) -> Iterator[None]:
    """The working directory of who reads it: tasks.py, a Redis that is configured."""
    (folder / "tasks.py").write_text(document.tasks)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setenv("MINIRQ_REDIS_URL", redis_url)
        sys.modules.pop("tasks", None)
        yield
        sys.modules.pop("tasks", None)


@contextmanager
def running_worker() -> Iterator[None]:
    """The worker that the reader has started."""
    with subprocess.Popen([sys.executable, "-m", "minirq", "worker"], stderr=subprocess.DEVNULL) as process:
        yield
        process.terminate()


@cache
def help_of(*command: str) -> str:
    done = CliRunner().invoke(cli, [*command, "--help"])
    assert done.exit_code == 0, done.output
    return done.output


def assert_exists(line: str) -> None:
    """Fail unless this command exists with its options."""
    _, name, *words = shlex.split(line)
    assert name in COMMANDS
    text = help_of(name, *words[:1]) if name == "server" else help_of(name)
    for option in [word for word in words if word.startswith("-")]:
        assert re.search(rf"(^|[\s,]){option}\b", text), f"{option} is no option of minirq {name}"
