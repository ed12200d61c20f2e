"""Prints how fast each stage of MobileNetV2 could run on a GPU if one resource of it were the only limit.

    python benchmarks/gpu_floors.py [--gpu h100] [--dtype float16] [--counts FILE]... [--library LIB]

Floors are microseconds an image. DRAM is what any fused run has to move, each tensor once and the weights
once a batch; without counts, mma is the multiply-accumulates of the products alone. FILE holds what the
emulator counted while it ran a stage's kernel (emulator_counts prints one): a JSON list of

    {"kernel": "tile_block", "dtype": "float16", "in_channels": 64, "expanded_channels": 384,
     "out_channels": 64, "stride": 1, "size": 14, "mma_m16n8k8": ..., "shared_wavefronts": ...,
     "pair_operations": ..., "float_operations": ..., "global_read_bytes": ..., "global_written_bytes": ...,
     "instructions": {"HMMA.16816": ..., "LDS.64": ..., "STG": ...}}

with all counts of one image; a stem, a head and a block without expand have 0 expanded channels, and a stem
in one kernel with the block behind it, as 16 bits have, expanded channels for what lies between them. Where
several kernels were counted for a stage, the one whose largest floor is lowest is shown. Counts that a
kernel has no hooks for may be left out; a sum without all of them is a lower bound.

Issue is what the kernel's loops issue at least (sass_loops.py), by the machine code in LIB: libmnv2_cuda.so
of this checkout where it is built, or any other file with the kernels.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import sass
import sass_loops
import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mnv2_kernels.shapes import BlockShape, ClassifierShape, HeadShape, StemShape, describe, mobilenet_v2

WIDTH = 150  # A pipe has none.
BAR_US = 3.0  # of the sum of largest floors, H100, float16

MMA_MACS = 16 * 8 * 8  # of mma.m16n8k8
WAVEFRONTS_A_CLOCK = 1  # 128 bytes of a multiprocessor's shared memory
INSTRUCTIONS_A_CLOCK = 4  # of warps: a multiprocessor's schedulers
COUNTED_FLOORS = ("DRAM", "L2", "shared", "mma", "half2/FP32")
FLOORS = (*COUNTED_FLOORS, "issue")

# What the kernels for large batches are called in machine code.
FUNCTIONS = {
    "stem": "stem_mma_kernel<{T}, {stride}>",
    "stem_block": "stem_block_kernel<StemBlock<{T}, {stride}, 28>>",
    "register_block": "register_block_kernel<RegisterBlock<{T}, RegisterShape{{"
    "{in_channels}, {out_channels}, {stride},",
    "tile_block": "tile_block_kernel<TileBlock<{T}, TileShape{{{in_channels}, {out_channels}, {stride},",
    "head_pool": "head_pool_mma_kernel<HeadPoolMma<{T}, 2, 2, 8>>",
}
CUDA_TYPES = {"float16": "__half", "bfloat16": "__nv_bfloat16"}


@dataclass(frozen=True)
class StemBlock:
    """The stem and the block behind it in one kernel: what lies between them moves nowhere."""

    stem: StemShape
    block: BlockShape

    @property
    def batch(self) -> int:
        return self.stem.batch

    @property
    def product_macs(self) -> int:
        return product_macs(self.stem) + product_macs(self.block)

    def floor_bytes(self, dtype: torch.dtype) -> int:
        between = self.stem.output_bytes(dtype) + self.block.input_bytes(dtype)
        return self.stem.floor_bytes(dtype) + self.block.floor_bytes(dtype) - between

    def __str__(self) -> str:
        channels = (self.stem.in_channels, self.stem.out_channels, self.block.out_channels)
        return f"{self.stem.height}x{self.stem.width} {'-'.join(map(str, channels))} s{self.stem.stride}"


Shape = StemShape | BlockShape | HeadShape | ClassifierShape | StemBlock
Stage = tuple[int, int, int, int, int]  # input, expanded and output channels, stride, size


@dataclass(frozen=True)
class Gpu:
    """What a GPU serves; of a multiprocessor and clock where not said otherwise."""

    name: str
    arch: str  # of its machine code
    multiprocessors: int
    clock_ghz: float
    dram_gb_per_s: float
    l2_bytes: float  # a clock, of all
    mma_macs: float  # by mma.sync, 16 bit with float32 sums
    pairs: float  # operations on two 16-bit numbers
    floats: float  # float32 operations

    def us(self, amount: float, rate: float) -> float:
        """Time of an amount at a rate of each multiprocessor and clock."""
        return amount / (rate * self.multiprocessors * self.clock_ghz * 1e3)


GPUS = {
    # Datasheet: SXM5, 132 multiprocessors, 3.35 TB/s, of which copies move 3.0; 1.7 GHz assumed under load,
    # of 1.98. 989 TFLOP/s dense are 2048 multiply-accumulates, of which mma.sync reaches 62 % (arXiv
    # 2501.12084). Throughput of arithmetic: CUDA C++ Programming Guide. The L2 cache's 5120 bytes are A100's
    # (its whitepaper): nothing is published for H100.
    "h100": Gpu("H100 SXM", "sm_90", 132, 1.7, 3000, 5120, 1270, 128, 128),
    # Whitepaper: SXM4 80 GB, 108 multiprocessors, 1.41 GHz, which it keeps under load; 2.04 TB/s, of which a
    # copy is taken to move nine tenths, as on an H100; 312 TFLOP/s dense are 1024 multiply-accumulates.
    "a100": Gpu("A100 SXM 80 GB", "sm_80", 108, 1.41, 1830, 5120, 1024, 128, 64),
}


@dataclass(frozen=True)
class Row:
    """A stage's floors in microseconds an image; those that nothing is known of are missing."""

    shape: Shape
    repeats: int  # of the network; 0: a kernel that a better one stands for
    kernel: str | None  # that was counted
    floors: Mapping[str, float]

    @property
    def is_whole(self) -> bool:
        """Whether all was counted; of the classifier, which is torch's, nothing is but bytes and products."""
        return isinstance(self.shape, ClassifierShape) or set(COUNTED_FLOORS) <= set(self.floors)

    @property
    def largest(self) -> str:
        return max(self.floors, key=self.floors.__getitem__)

    @property
    def us(self) -> float:
        """What the stage's repeats take at least."""
        return self.repeats * self.floors[self.largest]


def stage_of(shape: Shape) -> Stage:
    if isinstance(shape, StemBlock):
        stem = shape.stem
        return stem.in_channels, stem.out_channels, shape.block.out_channels, stem.stride, stem.height
    if isinstance(shape, ClassifierShape):
        return shape.in_features, 0, shape.out_features, 1, 1
    expanded = shape.expanded_channels if isinstance(shape, BlockShape) and shape.expand else 0
    stride = 1 if isinstance(shape, HeadShape) else shape.stride
    return shape.in_channels, expanded, shape.out_channels, stride, shape.height


def stages(batch: int, joined: bool = False) -> Counter[Shape]:
    """The network's stem, different blocks, head and classifier, and how often each is there.

    ``joined``: the stem and the first block are one kernel.
    """
    network = mobilenet_v2(batch=batch)
    first, *others = network.blocks
    begin = (StemBlock(network.stem, first),) if joined else (network.stem, first)
    return Counter((*begin, *others, network.head, network.classifier))


def product_macs(shape: Shape) -> int:
    """Multiply-accumulates of a batch's matrix products: all but the depthwise convolution's."""
    if isinstance(shape, StemBlock):
        return shape.product_macs
    if not isinstance(shape, BlockShape):
        return shape.macs
    taps = shape.batch * shape.out_height * shape.out_width * shape.expanded_channels * 9
    return shape.macs - taps


def moved_bytes(shape: Shape, dtype: torch.dtype) -> int:
    """Input, output and weights of a batch, each once."""
    if not isinstance(shape, ClassifierShape):
        return shape.floor_bytes(dtype)
    features = shape.batch * (shape.in_features + shape.out_features)
    return (features + shape.parameters) * dtype.itemsize


def computed_floors(shape: Shape, dtype: torch.dtype, gpu: Gpu) -> dict[str, float]:
    """What follows from the shape alone."""
    macs = product_macs(shape) / shape.batch
    products = (
        {"half2/FP32": gpu.us(macs, gpu.floats)}
        if dtype == torch.float32
        else {"mma": gpu.us(macs, gpu.mma_macs)}
    )
    return {"DRAM": moved_bytes(shape, dtype) / shape.batch / (gpu.dram_gb_per_s * 1e3), **products}


# The counts that each floor takes.
FLOOR_COUNTS = {
    "L2": ("global_read_bytes", "global_written_bytes"),
    "shared": ("shared_wavefronts",),
    "mma": ("mma_m16n8k8",),
    "half2/FP32": ("pair_operations", "float_operations"),
}
COUNTS = tuple(name for names in FLOOR_COUNTS.values() for name in names)


def counted_floors(counts: Mapping[str, float], gpu: Gpu) -> dict[str, float]:
    """What a kernel asks for, an image; without the floors of what was not counted."""
    rates = {
        "global_read_bytes": gpu.l2_bytes / gpu.multiprocessors,
        "global_written_bytes": gpu.l2_bytes / gpu.multiprocessors,
        "shared_wavefronts": WAVEFRONTS_A_CLOCK,
        "mma_m16n8k8": gpu.mma_macs / MMA_MACS,
        "pair_operations": gpu.pairs,
        "float_operations": gpu.floats,
    }
    return {
        floor: sum(gpu.us(counts[name], rates[name]) for name in names)
        for floor, names in FLOOR_COUNTS.items()
        if all(name in counts for name in names)
    }


@dataclass
class MachineCode:
    """The kernels of a library; None has none."""

    library: Path | None
    _functions: dict[str, dict[str, str]] = field(default_factory=dict)  # code by name, by architecture

    def instructions(self, counts: Mapping[str, Any], arch: str) -> float | None:
        """What the warps of a counted kernel issue an image, at least; None where that is not known."""
        if self.library is None or counts["kernel"] not in FUNCTIONS or "instructions" not in counts:
            return None
        name = FUNCTIONS[counts["kernel"]].format(T=CUDA_TYPES.get(counts["dtype"]), **counts)
        code = next((code for each, code in self._of(arch).items() if each.startswith(name)), None)
        return code and sass_loops.instructions_issued(sass_loops.loops_of(code), counts["instructions"])

    def _of(self, arch: str) -> dict[str, str]:
        if arch not in self._functions:
            self._functions[arch] = sass.read_functions(self.library, arch)
        return self._functions[arch]


NO_CODE = MachineCode(None)


def rows_of(
    gpu: Gpu,
    dtype: torch.dtype,
    batch: int,
    counted: Sequence[Mapping[str, Any]],
    code: MachineCode = NO_CODE,
) -> list[Row]:
    """A row for each stage, in the network's order; stem and first block are one in 16 bits.

    Where they are, and kernels of their own were counted, too, rows for these follow, outside of the network.
    """
    network = stages(batch, joined=dtype.itemsize == 2)
    rows = [_row(shape, repeats, gpu, dtype, counted, code) for shape, repeats in network.items()]
    alone = (_row(shape, 0, gpu, dtype, counted, code) for shape in stages(batch) if shape not in network)
    return rows + [row for row in alone if row.kernel]


def _row(
    shape: Shape,
    repeats: int,
    gpu: Gpu,
    dtype: torch.dtype,
    counted: Sequence[Mapping[str, Any]],
    code: MachineCode,
) -> Row:
    computed = computed_floors(shape, dtype, gpu)
    wanted = (*stage_of(shape), str(dtype).removeprefix("torch."))
    rows = []
    for counts in counted:
        if _key(counts) != wanted:
            continue
        floors = computed | counted_floors(counts, gpu)
        if instructions := code.instructions(counts, gpu.arch):
            floors["issue"] = gpu.us(instructions, INSTRUCTIONS_A_CLOCK)
        rows.append(Row(shape, repeats, counts["kernel"], floors))
    return min(rows, key=lambda row: row.floors[row.largest], default=Row(shape, repeats, None, computed))


def _key(counts: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("in_channels", "expanded_channels", "out_channels", "stride", "size", "dtype")
    return tuple(counts[name] for name in names)


def read_counts(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The counts in files. Raises ValueError for a stage that the network has not."""
    known = {stage_of(shape) for joined in (False, True) for shape in stages(1, joined)}
    for file in files:
        for counts in json.loads(file.read_text()):
            if not set(COUNTS) & set(counts):
                raise ValueError(f"{file}: counts none of {', '.join(COUNTS)}")
            if _key(counts)[:-1] not in known:
                raise ValueError(f"{file}: the network has no stage {_key(counts)[:-1]}")
            yield counts


# --- a table ---


def table_of(rows: Sequence[Row], gpu: Gpu, dtype: str, batch: int) -> Table:
    title = f"Floors on {gpu.name}, {dtype}, batch {batch}: microseconds an image"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("stage", "times", "kernel", *FLOORS, "largest", "all repeats"):
        table.add_column(column, justify="left" if column in ("stage", "kernel", "largest") else "right")
    for row in rows:
        floors = [f"{row.floors[name]:.3f}" if name in row.floors else "-" for name in FLOORS]
        kernel = row.kernel or ("torch" if isinstance(row.shape, ClassifierShape) else "not counted")
        times, us = (str(row.repeats), f"{row.us:.3f}") if row.repeats else ("alone", "")
        table.add_row(
            _label(row.shape), times, kernel, *floors, f"{row.largest} {row.floors[row.largest]:.3f}", us
        )
    return table


def _label(shape: Shape) -> str:
    return str(shape) if isinstance(shape, StemBlock) else describe(shape)


def summary(rows: Sequence[Row], bar_us: float | None) -> str:
    """The sum of the largest floors, beside the bar where there is one."""
    total = sum(row.us for row in rows)
    uncounted = sum(row.repeats for row in rows if not row.is_whole)
    text = f"Sum of the largest floors: {total:.2f} us an image, {1e3 / total:.0f} thousand images/s"
    if uncounted:
        stages_in_all = sum(row.repeats for row in rows)
        text += f"; a lower bound: {uncounted} of {stages_in_all} stages are not wholly counted"
    if bar_us is not None:
        most = max(rows, key=lambda row: row.us)
        text += f". The bar is {bar_us} us: {_verdict(total, bar_us, uncounted > 0)}. "
        text += f"Most: {_label(most.shape)}, {most.us:.2f} us of {most.largest}"
    return text + "."


def _verdict(total: float, bar_us: float, is_lower_bound: bool) -> str:
    if total > bar_us:
        return f"missed by {total - bar_us:.2f}"
    return "not settled" if is_lower_bound else f"held by {bar_us - total:.2f}"


def main(
    gpu: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(GPUS)}; all by default.")] = None,
    dtype: Annotated[Literal["float16", "bfloat16", "float32"], typer.Option(help="Of tensors.")] = "float16",
    batch: Annotated[int, typer.Option(min=1, help="Images that share the weights' traffic.")] = 256,
    counts: Annotated[list[Path] | None, typer.Option(help="What the emulator counted.")] = None,
    library: Annotated[Path | None, typer.Option(help="Machine code, for issue.", show_default=False)] = None,
) -> None:
    """Prints a table for each GPU."""
    if unknown := [name for name in gpu or () if name not in GPUS]:
        raise typer.BadParameter(f"expected of {', '.join(GPUS)}, got {unknown[0]!r}", param_hint="--gpu")
    try:
        counted = list(read_counts(counts or ()))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--counts") from None
    if library is None and sass.LIBRARY.exists() and not sass.missing_tools():
        library = sass.LIBRARY
    code = MachineCode(library)
    for name in gpu or GPUS:
        try:
            rows = rows_of(GPUS[name], getattr(torch, dtype), batch, counted, code)
        except sass.SassError as error:
            raise typer.BadParameter(str(error), param_hint="--library") from None
        Console(width=WIDTH).print(table_of(rows, GPUS[name], dtype, batch))
        print(summary(rows, BAR_US if (name, dtype) == ("h100", "float16") else None) + "\n")


if __name__ == "__main__":
    typer.run(main)
