"""Prints what llvm-mca predicts for the ARM kernels' hot loops, out of the object code of the aarch64 build.

    python benchmarks/mca.py [--check] [--network] [--library FILE]

Needs an aarch64 build (cmake --preset arm), objdump for aarch64 and llvm-mca, but no ARM machine. With
--check the exit code is 1 where a loop misses what arm_kernels.py asks of it; --network adds the loops up to
whole networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import arm_kernels
import mca_network
import typer
from arm_kernels import CORES, MISTAKEN_CORES, OLD_CORES, HotLoop
from disassembly import Aarch64
from rich import box
from rich.console import Console
from rich.table import Table

MISSED = 1
CANNOT = 2
WIDTH = 120  # A pipe has none.
COLUMNS = (*CORES, *OLD_CORES)


def table_of(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def cells(loop: HotLoop) -> Iterator[str]:
    digits = 3 if loop.is_pointwise else 2
    return (f"{loop.cycles(core):.{digits}f}" if core in loop.isa.bound else "" for core in COLUMNS)


def loops_table(loops: list[HotLoop]) -> Table:
    table = table_of(
        "Cycles; pointwise: a multiply-add, depthwise: an output vector",
        *("loop", "FMLA", "loads", "moves", "spills", *(core.removeprefix("neoverse-") for core in COLUMNS)),
    )
    for loop in loops:
        counts = (loop.multiply_adds, loop.loads, loop.moves, loop.spills)
        table.add_row(str(loop), *map(str, counts), *cells(loop))
    for isa in {loop.isa.name: loop.isa for loop in loops}.values():
        for label, figures in (
            ("pointwise, the bound", isa.bound),
            ("pointwise 6x8, XNNPACK's", isa.xnnpack),
        ):
            if not figures:
                continue
            known = (f"{figures[core]:.3f}" if core in figures else "" for core in COLUMNS)
            table.add_row(f"{isa.name} {label}", *[""] * 4, *known)
    return table


def mistaken_table(loops: list[HotLoop]) -> Table:
    table = table_of("The same by descriptions of cores that are known to be wrong:", "loop", *MISTAKEN_CORES)
    for loop in loops:
        table.add_row(str(loop), *(f"{loop.cycles(core):.2f}" for core in MISTAKEN_CORES))
    return table


def network_table(library: Path) -> Table:
    table = table_of(
        f"{mca_network.NETWORK}, one core, ms: predicted by llvm-mca, not measured",
        *("machine", "GHz", "model", "pointwise", "tiles' ends", "depthwise", "classifier", "sum"),
    )
    for machine in mca_network.MACHINES:
        ms = mca_network.predict(library, machine)
        table.add_row(
            *(machine.name, f"{machine.ghz:g}", machine.model),
            *(f"{part:.1f}" for part in ms.values()),
            f"{sum(ms.values()):.1f}",
        )
    return table


def too_many_cycles(loop: HotLoop) -> Iterator[str]:
    limits = [loop.isa.limit_of(loop.kernel), *([loop.isa.xnnpack] if loop.is_pointwise else [])]
    for limit_on in limits:
        for core, limit in limit_on.items():
            cycles = round(loop.cycles(core), 3)
            if cycles > limit:
                yield f"{loop} on {core}: expected at most {limit:g} cycles, got {cycles:g}"


def misses(loop: HotLoop) -> Iterator[str]:
    """What the loop has to do and does not."""
    yield from too_many_cycles(loop)
    allowed = 0 if loop.is_pointwise else loop.isa.depthwise_spills
    if loop.spills > allowed:
        yield f"{loop}: expected at most {allowed} spills, got {loop.spills}"
    if loop.is_pointwise and loop.moves > loop.isa.pointwise_moves:
        yield f"{loop}: expected at most {loop.isa.pointwise_moves} moves of vectors, got {loop.moves}"


def missing_tool(library: Path) -> str | None:
    """What has to be installed or built first."""
    if not library.is_file():
        return f"{library} is not built (cmake --preset arm && cmake --build build/arm)"
    if Aarch64.objdump() is None:
        return "objdump for aarch64 is not installed (Debian: binutils-aarch64-linux-gnu)"
    if arm_kernels.MCA is None:
        return "llvm-mca of LLVM 16 or newer is not installed (Debian: llvm-19)"
    return None


def main(
    check: Annotated[bool, typer.Option("--check", help="Fail where a loop is too slow.")] = False,
    network: Annotated[bool, typer.Option("--network", help="Predict whole networks, too.")] = False,
    library: Annotated[Path, typer.Option(help="The aarch64 build's.")] = arm_kernels.LIBRARY,
) -> None:
    if missing := missing_tool(library):
        typer.echo(missing, err=True)
        raise typer.Exit(CANNOT)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    loops = arm_kernels.hot_loops(library)
    console.print(loops_table(loops), mistaken_table(loops))
    if network:
        console.print(network_table(library))
    if missed := [miss for loop in loops for miss in misses(loop) if check]:
        typer.echo("\n".join(missed), err=True)
        raise typer.Exit(MISSED)


if __name__ == "__main__":
    typer.run(main)
