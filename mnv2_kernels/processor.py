"""This machine's processor, and the variable that chooses its instruction set."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def forced_isa(name: str) -> Iterator[None]:
    """What is packed meanwhile is packed for this instruction set; the environment is the process's."""
    before = os.environ.get(FORCE_ISA_VARIABLE)
    os.environ[FORCE_ISA_VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCE_ISA_VARIABLE]
        else:
            os.environ[FORCE_ISA_VARIABLE] = before
