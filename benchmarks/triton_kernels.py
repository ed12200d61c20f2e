"""Compiles the Triton kernels ahead of time and prints what each takes of a GPU; needs none.

    python benchmarks/triton_kernels.py [--target sm_90] [--dtype float32] [--tf32] [--width 1.4] [--check]

Registers, spilled bytes and shared memory of every block of MobileNetV2 under its fixed configuration, and
the instructions of the loop over the expanded channels, for each output pixel and expanded channel (the
waste of halos included). With --check the exit code is 1 where a kernel spills, does not fit, does not use
the matrix units, or issues more than the instructions that a stage has been brought to.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any

import torch
import triton
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mnv2_kernels.shapes import BlockShape, describe, mobilenet_v2
from mnv2_kernels.triton.configs import block_config
from mnv2_kernels.triton.inverted_residual import Launch, block_launch
from mnv2_kernels.triton.packing import block_packing

MISSED = 1
WIDTH = 120  # A pipe has none.
# Enough that no program is left half empty.
BATCH = 256

KIB = 1024
POINTERS = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}


@dataclass(frozen=True)
class Target:
    """A GPU to compile for: its table of configurations and shared memory, in KiB, of a program."""

    gpu: GPUTarget
    family: str
    shared_kib: int


TARGETS = {
    "sm_80": Target(GPUTarget("cuda", 80, 32), "ampere", 163),
    "sm_86": Target(GPUTarget("cuda", 86, 32), "ampere", 99),
    "sm_90": Target(GPUTarget("cuda", 90, 32), "hopper", 227),
    "sm_100": Target(GPUTarget("cuda", 100, 32), "blackwell", 227),
    "gfx942": Target(GPUTarget("hip", "gfx942", 64), "amd", 64),
}

# Instructions for each output pixel and expanded channel on sm_90 in float16, by stage: as recorded with
# Triton 3.8, and a hundredth for its other versions' whims.
SLACK = 1.01
RECORDED_INSTRUCTIONS = {
    (16, 96, 24, 2): 25.4,
    (24, 144, 24, 1): 25.2,
    (24, 144, 32, 2): 33.3,
    (32, 192, 32, 1): 22.7,
    (32, 192, 64, 2): 33.2,
    (64, 384, 64, 1): 23.7,
    (64, 384, 96, 1): 24.2,
    (96, 576, 96, 1): 26.6,
    (96, 576, 160, 2): 54.4,
    (160, 960, 160, 1): 33.3,
    (160, 960, 320, 1): 36.3,
}

# What multiplies matrices, by a compiler's name for it.
MATRIX_UNITS = re.compile(r"\b(HMMA|HGMMA|UTCHMMA|OMMA|v_mfma)")


@dataclass(frozen=True)
class Compiled:
    """What a block's kernel takes on one target; instructions are None where no disassembler counts them."""

    block: str
    target: str
    kind: str
    registers: int
    spilled: int
    shared: int
    programs: int
    has_matrix_unit: bool
    instructions: float | None
    misses: list[str]


def blocks(width: float) -> list[BlockShape]:
    return list(dict.fromkeys(mobilenet_v2(width, 224, BATCH).blocks))


def launch_of(shape: BlockShape, dtype: torch.dtype, family: str, precision: str = "ieee") -> Launch:
    packing = block_packing(shape, dtype)
    return block_launch(shape, packing, block_config(shape, dtype, family), dtype, precision)


def compile_kernel(launch: Launch, dtype: torch.dtype, gpu: GPUTarget) -> Any:
    """Triton's compiled kernel, its pointers aligned to 16 bytes."""
    names = launch.kernel.arg_names
    types = {name: POINTERS[dtype] if name.endswith("_ptr") else "i32" for name in names}
    types |= {"v_ptr": "*fp32"} | dict.fromkeys(launch.constants, "constexpr")
    aligned = {
        (index,): [["tt.divisibility", 16]] for index, name in enumerate(names) if name.endswith("_ptr")
    }
    source = ASTSource(launch.kernel, signature=types, constexprs=launch.constants, attrs=aligned)
    return triton.compile(source, target=gpu, options={"num_warps": launch.warps})


# --- what the compiler made of it ---


def cuobjdump(kernel: Any, option: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, option, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def nvidia_resources(kernel: Any) -> tuple[int, int]:
    """Registers of a thread and bytes of its stack, which holds what was spilled."""
    found = re.search(r"REG:(\d+) STACK:(\d+)", cuobjdump(kernel, "--dump-resource-usage"))
    return int(found[1]), int(found[2])


def amd_resources(kernel: Any) -> tuple[int, int]:
    counts = dict(re.findall(r"\.(vgpr_count|vgpr_spill_count):\s+(\d+)", kernel.asm["amdgcn"]))
    return int(counts["vgpr_count"]), int(counts["vgpr_spill_count"])


def longest_loop(sass: str) -> int:
    """Instructions of the longest loop, which is that over the expanded channels."""
    addresses = [int(address, 16) for address in re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+\S", sass, re.M)]
    branches = re.findall(
        r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+ )?BRA(?:\.\S+)?(?: \S+,)? `?\(?(\S+?)\)? ;", sass
    )
    loops = [
        sum(int(target, 16) <= address <= int(branch, 16) for address in addresses)
        for branch, target in branches
        if target.startswith("0x") and int(target, 16) <= int(branch, 16)
    ]
    return max(loops, default=0)


def instructions(kernel: Any, launch: Launch, shape: BlockShape) -> float:
    """Instructions of the loop over the expanded channels, for each output pixel and expanded channel."""
    (programs,) = launch.grid
    pixels = shape.batch * shape.out_height * shape.out_width / programs * launch.constants["GROUPS"]
    threads = launch.warps * 32
    return longest_loop(cuobjdump(kernel, "-sass")) * threads / (pixels * launch.constants["BC"])


# --- a row ---


def compiled(shape: BlockShape, dtype: torch.dtype, name: str, precision: str) -> Compiled:
    target = TARGETS[name]
    launch = launch_of(shape, dtype, target.family, precision)
    kernel = compile_kernel(launch, dtype, target.gpu)
    is_nvidia = target.gpu.backend == "cuda"
    registers, spilled = nvidia_resources(kernel) if is_nvidia else amd_resources(kernel)
    code = cuobjdump(kernel, "-sass") if is_nvidia else kernel.asm["amdgcn"]
    row = Compiled(
        block=describe(shape),
        target=name,
        kind=launch.kernel.__name__.removesuffix("_kernel"),
        registers=registers,
        spilled=spilled,
        shared=kernel.metadata.shared,
        programs=launch.grid[0],
        has_matrix_unit=bool(MATRIX_UNITS.search(code)),
        instructions=round(instructions(kernel, launch, shape), 1) if is_nvidia else None,
        misses=[],
    )
    row.misses.extend(misses(row, shape, dtype, precision))
    return row


def misses(row: Compiled, shape: BlockShape, dtype: torch.dtype, precision: str) -> Iterator[str]:
    where = f"{row.block} on {row.target} in {dtype}"
    if row.spilled:
        yield f"{where}: expected no spilled registers, got {row.spilled}"
    limit = TARGETS[row.target].shared_kib * KIB
    if row.shared > limit:
        yield f"{where}: expected at most {limit} bytes of shared memory, got {row.shared}"
    if (dtype, precision) != (torch.float32, "ieee") and not row.has_matrix_unit:
        yield f"{where}: expected instructions of the matrix units, found none"
    stage = (shape.in_channels, shape.expanded_channels, shape.out_channels, shape.stride)
    recorded = RECORDED_INSTRUCTIONS.get(stage) if row.target == "sm_90" and dtype == torch.float16 else None
    if recorded is not None and row.instructions > recorded * SLACK:
        yield f"{where}: expected at most {recorded} instructions a value, got {row.instructions}"


def table_of(rows: list[Compiled], dtype: str) -> Table:
    title = (
        f"Triton kernels compiled ahead of time, {dtype}; instructions an output pixel and expanded channel"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    columns = ("block", "target", "kernel", "registers", "spilled", "shared KiB", "instructions")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index > 2 else "left")
    for row in rows:
        counts = (str(row.registers), str(row.spilled), f"{row.shared / KIB:.1f}")
        table.add_row(row.block, row.target, row.kind, *counts, f"{row.instructions or '-'}")
    return table


def main(
    target: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(TARGETS)}; all by default.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float16, bfloat16 or float32.")] = "float16",
    tf32: Annotated[bool, typer.Option("--tf32", help="Products of float32 by the matrix units.")] = False,
    width: Annotated[float, typer.Option(help="Multiplier of the channels.")] = 1.0,
    check: Annotated[bool, typer.Option("--check", help="Fail where a kernel misses its limits.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compiles, two kernels at a time."""
    names = target or list(TARGETS)
    jobs = [(shape, name) for name in names for shape in blocks(width)]
    with ProcessPoolExecutor(2) as pool:
        compile_one = partial(_compile_job, dtype, "tf32" if tf32 else "ieee")
        rows = list(pool.map(compile_one, jobs))
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        Console(width=WIDTH).print(table_of(rows, dtype))
    if missed := [miss for row in rows for miss in row.misses if check]:
        typer.echo("\n".join(missed), err=True)
        raise typer.Exit(MISSED)


def _compile_job(dtype: str, precision: str, job: tuple[BlockShape, str]) -> Compiled:
    return compiled(job[0], getattr(torch, dtype), job[1], precision)


if __name__ == "__main__":
    typer.run(main)
