"""Environments: one virtual environment per peer, with the versions that its requirements file pins.

They live in .venv-bench/ and are made when they are missing or their requirements have changed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-bench"
_REQUIREMENTS = Path(__file__).resolve().parent / "requirements"


class EnvironmentFault(Exception):
    """An environment could not be made; says what pip said."""


def ensure_environment(name: str) -> Path:
    """Return the interpreter of an environment, made first if need be."""
    folder = FOLDER / name
    python = folder / "bin" / "python"
    wanted = _wanted(name)
    stamp = folder / "installed"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"Making {folder.relative_to(ROOT)} ...", file=sys.stderr, flush=True)
    venv.create(folder, clear=True, with_pip=True)
    arguments = ["-r", str(_REQUIREMENTS / f"{name}.txt")]
    if name == "minirq":
        arguments += ["-e", str(ROOT)]
    made = subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise EnvironmentFault(f"{name}: pip could not install {arguments[1]}:\n{made.stderr.strip()}")
    stamp.write_text(wanted)
    return python


def versions_in(python: Path) -> dict[str, str]:
    """The packages of an environment and their versions."""
    code = (
        "import json, importlib.metadata as m;"
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    asked = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(asked.stdout)
    return found


def _wanted(name: str) -> str:
    wanted = sys.version + "\n" + (_REQUIREMENTS / f"{name}.txt").read_text()
    return wanted + (ROOT / "pyproject.toml").read_text() if name == "minirq" else wanted
