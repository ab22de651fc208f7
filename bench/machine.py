"""The machine: what the numbers were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from bench.processes import can_pin


def describe() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "pinning": can_pin(),
        "load": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    """The first of what the kernel and the platform say of it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
