"""This machine's processor, and the variable that chooses its instruction set."""

from __future__ import annotations

import platform
from pathlib import Path

FORCE_ISA_VARIABLE = "MNV2_FORCE_ISA"


def processor() -> str:
    """The name of its model, else of its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
