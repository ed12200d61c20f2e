"""Counts the instructions that MobileNetV2's blocks execute on ARM, fused and unfused, by qemu's log.

    python benchmarks/arm_instructions.py [--l2 BYTES] [--build FOLDER] [--first N]

Needs an aarch64 build (cmake --preset arm) and qemu-aarch64-static, but no plugin: qemu logs every block of
code that it translates, and a line for each time that one runs. Counted is what lies in the kernels of one
instruction set; memset and memmove, which they call for zero rows and copies, are not. Unfused runs the same
microkernels one convolution after another (csrc/cpu/measure/unfused-inl.h). float32, batch 1, one thread,
channels_last in and out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from disassembly import Aarch64
from mca import CANNOT, WIDTH, table_of
from rich.console import Console

from mnv2_kernels import shapes

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / os.environ.get("MNV2_ARM_BUILD", "build/arm")
QEMU = shutil.which("qemu-aarch64-static")
SYSROOT = "/usr/aarch64-linux-gnu"
CPU = "neoverse-n1"  # it runs the same float32 kernels as any other
ISA = "neon"
DEFAULT_L2 = 1 << 20  # Neoverse's, or half of it


@dataclass
class Log:
    """What qemu wrote for -d in_asm,exec: translated code, and how often it ran."""

    code: dict[int, list[str]] = field(default_factory=dict)  # names of instructions, by first address
    runs: Counter[int] = field(default_factory=Counter)

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Log:
        log = cls()
        block: list[str] | None = None
        for line in lines:
            if line.startswith("Trace"):
                # Trace 0: 0x7f35d0000100 [0000000000001001/000000550293cc40/00000001/00000200]
                log.runs[int(line.split("/", 2)[1], 16)] += 1
            elif line.startswith("IN:"):
                block = None
            elif line.startswith("0x"):
                # 0x550293cc44:  d280001d  movz     x29, #0
                address, _, name, *_ = line.split()
                if block is None:
                    # Code that is translated again replaces what it was.
                    block = log.code[int(address.rstrip(":"), 16)] = []
                block.append(name)
        return log

    def executed(self) -> Counter[str]:
        """How often each instruction ran, by name. LookupError where code ran that was never written."""
        executed: Counter[str] = Counter()
        for address, runs in self.runs.items():
            if address not in self.code:
                raise LookupError(f"qemu logged no code at {address:#x}: it has no disassembler")
            for name, count in Counter(self.code[address]).items():
                executed[name] += runs * count
        return executed


@dataclass(frozen=True)
class Count:
    """Instructions of one pass."""

    all: int
    multiply_adds: int


def kernel_range(program: Path) -> tuple[int, int]:
    """First address and size of an instruction set's code in a program that is not position-independent."""
    listing = subprocess.run(["nm", "-S", str(program)], check=True, capture_output=True, text=True).stdout
    symbol = rf"^(\w+) (\w+) [tT] \w*3cpu{len(ISA)}{ISA}12_GLOBAL__N_1\w*$"
    found = [(int(m[1], 16), int(m[2], 16)) for m in re.finditer(symbol, listing, flags=re.MULTILINE)]
    if not found:
        raise LookupError(f"{program}: no kernels of {ISA}")
    first = min(address for address, _ in found)
    return first, max(address + size for address, size in found) - first


def run_logged(program: Path, shape: shapes.BlockShape, fused: bool, l2_bytes: int, *options: str) -> Log:
    """Runs one block, with further options of qemu. CalledProcessError where it fails."""
    first, size = kernel_range(program)
    what = ("-d", "in_asm,exec,nochain", "-dfilter", f"{first:#x}+{size:#x}")
    numbers = (
        *(shape.height, shape.width, shape.in_channels, shape.expanded_channels, shape.out_channels),
        *(shape.stride, int(shape.residual), int(fused), l2_bytes),
    )
    command = [QEMU, "-L", SYSROOT, "-cpu", CPU, *what, *options, str(program), *map(str, numbers)]
    environment = {**os.environ, "MNV2_FORCE_ISA": ISA}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as qemu:
        log = Log.parse(qemu.stderr)
    if qemu.returncode:
        raise subprocess.CalledProcessError(qemu.returncode, command)
    return log


def count(program: Path, shape: shapes.BlockShape, fused: bool, l2_bytes: int = DEFAULT_L2) -> Count:
    executed = run_logged(program, shape, fused, l2_bytes).executed()
    multiply_adds = sum(runs for name, runs in executed.items() if Aarch64.MULTIPLY_ADD.fullmatch(name))
    return Count(executed.total(), multiply_adds)


def missing_tool(program: Path) -> str | None:
    """What has to be installed or built first."""
    if not program.is_file():
        return f"{program} is not built (cmake --preset arm && cmake --build build/arm)"
    if QEMU is None:
        return "qemu-aarch64-static is not installed (Debian: qemu-user-static)"
    return None


def main(
    l2: Annotated[int, typer.Option(help="Bytes of the second-level cache to plan for.")] = DEFAULT_L2,
    build: Annotated[Path, typer.Option(help="The aarch64 build.")] = BUILD,
    first: Annotated[int | None, typer.Option(help="Only the first blocks of the network.")] = None,
) -> None:
    program = build / "run_block"
    if missing := missing_tool(program):
        typer.echo(missing, err=True)
        raise typer.Exit(CANNOT)
    table = table_of(
        "Millions of instructions of one pass, all kernels",
        *("block", "times", "fused", "its multiply-adds", "unfused", "fused / unfused"),
    )
    totals = Counter[str]()
    for shape, times in Counter(shapes.mobilenet_v2().blocks[:first]).items():
        fused, unfused = (count(program, shape, way, l2) for way in (True, False))
        figures = {"fused": fused.all, "multiply-adds": fused.multiply_adds, "unfused": unfused.all}
        totals.update({name: times * figure for name, figure in figures.items()})
        table.add_row(shapes.describe(shape), str(times), *cells(figures))
    table.add_row("sum", "", *cells(totals))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)


def cells(figures: dict[str, int]) -> list[str]:
    millions = [f"{figures[name] / 1e6:.3f}" for name in ("fused", "multiply-adds", "unfused")]
    return [*millions, f"{figures['fused'] / figures['unfused']:.3f}"]


if __name__ == "__main__":
    typer.run(main)
