"""Tells a wheel for another machine from the other reasons why this package may not import."""

from __future__ import annotations

import struct
from pathlib import Path

PACKAGE = Path(__file__).parent
# Not platform.machine(), which is the kernel's: Raspberry Pi OS runs a 32-bit Python on a 64-bit kernel.
INTERPRETER = Path("/proc/self/exe")

# ELF's e_machine of the machines that wheels are built for.
MACHINES = {62: "x86_64", 183: "aarch64"}


def wrong_machine(package: Path = PACKAGE) -> str | None:
    """What to say where a library of the package is for another machine than this Python, else None."""
    # Every machine has its own name for _native, so one for each may lie here.
    for pattern in ("libmnv2_ops.so", "_native.*so"):
        machines = {path: machine for path in package.glob(pattern) if (machine := _machine(path))}
        if machines and (here := _machine(INTERPRETER)) not in machines.values():
            path, built = min(machines.items())
            return f"{path.name} is built for {built}, this machine is {here}; install the wheel for it"
    return None


def _machine(path: Path) -> str | None:
    """None where the file is no ELF."""
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or not header.startswith(b"\x7fELF"):
        return None
    (number,) = struct.unpack_from("<H", header, 18)
    return MACHINES.get(number, f"unknown (ELF machine {number})")
