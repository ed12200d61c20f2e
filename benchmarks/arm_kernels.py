"""The hot code of the aarch64 build's kernels, and its cycles by llvm-mca.

llvm-mca takes all operands to be in the first-level cache. Its figures are as good as LLVM's description of a
core; where that is known to be wrong, so are they (MISTAKEN_CORES).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from disassembly import (
    Aarch64,
    Code,
    Kernel,
    basic_blocks,
    disassemble,
    innermost_loops,
    is_dense,
    kernel_symbols,
    multiply_adds,
    tallest_tile,
)

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / os.environ.get("MNV2_ARM_BUILD", "build/arm") / "libmnv2_core.a"
CORES = ("neoverse-n1", "neoverse-n2", "neoverse-v1", "neoverse-v2")
# For instruction sets that newer cores have something better than.
OLD_CORES = ("cortex-a72",)


def _find_mca() -> str | None:
    """One that describes the newest of CORES, as releases before 16 do not. The recorded figures are 19's."""
    for path in filter(None, map(shutil.which, ("llvm-mca-19", "llvm-mca"))):
        command = [path, "-mtriple=aarch64", f"-mcpu={CORES[-1]}"]
        answer = subprocess.run(command, input="nop", capture_output=True, text=True)
        if "not a recognized processor" not in answer.stderr:
            return path
    return None


MCA = _find_mca()

# cortex-a53: an independent load waits for a multiply-add; -a55: two 128-bit multiply-adds a cycle, not one;
# -a76: the A57's description, one a cycle, not two; apple-m1: an older core's, three pipes, not four.
MISTAKEN_CORES = ("cortex-a53", "cortex-a55", "cortex-a76", "apple-m1")

# Between them lies the steady state, without the first iterations' latencies.
FEWER_ITERATIONS, MORE_ITERATIONS = 40, 140


@dataclass(frozen=True)
class Isa:
    """An instruction set of the build: the cores that have it, and the figures to reach there."""

    name: str
    lanes: int
    multiply_add: str  # of a pointwise loop,
    operand: re.Pattern[str]  # and how its last operand ends
    # Cycles a multiply-add: with every pipe busy; and in the main loop of XNNPACK's 6x8, by the same tool.
    bound: dict[str, float]
    xnnpack: dict[str, float]
    # At most: cycles a multiply-add, and cycles a vector of depthwise output.
    pointwise_limit: dict[str, float]
    depthwise_limit: dict[str, float]
    # Tiles one vector wide may take longer.
    narrow_limit: dict[str, float] = field(default_factory=dict)
    tile: str = "pointwise_tiles"  # the pointwise kernel
    channels: int = 0  # of a tile of bytes
    pointwise_moves: int = 0  # at most, where they take no cycles
    depthwise_spills: int = 0

    @property
    def is_int8(self) -> bool:
        return self.channels > 0

    def limit_of(self, kernel: Kernel) -> dict[str, float]:
        """Cycles of the kernel's loop, by core."""
        if kernel.name != self.tile:
            return self.depthwise_limit
        is_narrow = not self.is_int8 and kernel.arguments[1] == 1
        return self.pointwise_limit | (self.narrow_limit if is_narrow else {})


ISAS = (
    Isa(
        name="neon",
        lanes=4,
        multiply_add="fmla",
        operand=re.compile(r"\.s\[[0-3]\]$"),
        bound=dict(zip(CORES, (0.5, 0.5, 0.25, 0.25), strict=True)),
        xnnpack=dict(zip(CORES, (0.501, 0.501, 0.334, 0.251), strict=True)),
        pointwise_limit=dict(zip(CORES, (0.51, 0.51, 0.255, 0.255), strict=True)),  # within 2 % of the bound
        depthwise_limit={"neoverse-n1": 7.2, "neoverse-v2": 3.6},
        # V1's description forwards nothing to an accumulator: 14 chains cannot fill its four pipes.
        narrow_limit={"neoverse-v1": 0.29},
    ),
    Isa(
        name="neon_fp16",
        lanes=8,
        multiply_add="fmla",
        operand=re.compile(r"\.h\[[0-7]\]$"),
        bound=dict(zip(CORES, (0.5, 0.5, 0.25, 0.25), strict=True)),
        xnnpack={},
        pointwise_limit=dict(zip(CORES, (0.51, 0.51, 0.255, 0.255), strict=True)),
        depthwise_limit={},  # float32 in two registers a vector
        narrow_limit={"neoverse-v1": 0.5},  # eight chains
    ),
    Isa(
        name="neon_bf16",
        lanes=4,
        multiply_add="bfmmla",
        operand=re.compile(r"\.8h$"),
        bound=dict(zip(CORES[1:], (0.5, 0.25, 0.25), strict=True)),
        xnnpack={},
        pointwise_limit=dict(zip(CORES[1:], (0.51, 0.255, 0.255), strict=True)),
        depthwise_limit={},
    ),
    # Kernels of bytes; a vector of depthwise output is sixteen channels. Besides products, each register of
    # a pixel's bytes costs one instruction in the same pipes: one for 16 SDOT, one for 8 USMMLA.
    Isa(
        name="int8 neon_dotprod",
        lanes=4,
        multiply_add="sdot",
        operand=re.compile(r"\.4b\[[0-3]\]$"),
        bound=dict(zip(CORES, (0.532, 0.532, 0.266, 0.266), strict=True)),
        xnnpack={},
        pointwise_limit=dict(zip(CORES, (0.532, 0.532, 0.266, 0.266), strict=True)),
        depthwise_limit={"neoverse-n1": 36, "neoverse-v1": 17.5, "neoverse-v2": 16.5},
        tile="panel_tiles",
        channels=16,
    ),
    Isa(
        name="int8 neon_i8mm",
        lanes=4,
        multiply_add="usmmla",
        operand=re.compile(r"\.16b$"),
        bound=dict(zip(CORES[1:], (0.563, 0.282, 0.282), strict=True)),
        xnnpack={},
        pointwise_limit=dict(zip(CORES[1:], (0.563, 0.282, 0.282), strict=True)),
        depthwise_limit={"neoverse-v1": 16, "neoverse-v2": 16},
        tile="panel_tiles",
        channels=16,
        pointwise_moves=2,
    ),
    # SMULL and SMLSL share one pipe, SADALP has another one.
    Isa(
        name="int8 neon",
        lanes=4,
        multiply_add="smull",
        operand=re.compile(r"\.(8b|16b)$"),
        bound={"cortex-a72": 1},
        xnnpack={},
        pointwise_limit={"cortex-a72": 1.02},
        depthwise_limit={"cortex-a72": 49},
        tile="panel_tiles",
        channels=8,
        pointwise_moves=2,
        depthwise_spills=1,
    ),
)


@dataclass(frozen=True)
class HotLoop:
    """A kernel's innermost loop with the most multiply-adds.

    A kernel for long sums has several copies of it, which the compiler may have treated differently. Counts
    and cycles are the worst copy's.
    """

    isa: Isa
    kernel: Kernel
    copies: tuple[Code[Aarch64], ...]

    def __str__(self) -> str:
        if not self.is_pointwise:
            return f"{self.isa.name} depthwise, stride {self.kernel.arguments[0]}"
        if self.isa.is_int8:
            return f"{self.isa.name} pointwise {self.kernel.arguments[0]}x{self.isa.channels}"
        rows, vectors, is_long = self.kernel.arguments
        tile = f"{self.isa.name} pointwise {rows}x{vectors * self.isa.lanes}"
        return f"{tile}, long sums" if is_long else tile

    @property
    def is_pointwise(self) -> bool:
        return self.kernel.name == self.isa.tile

    @property
    def multiply_adds(self) -> int:
        return multiply_adds(self.copies[0])

    @property
    def loads(self) -> int:
        return self._worst(lambda code: sum(i.vectors for i in code if i.is_load))

    @property
    def moves(self) -> int:
        return self._worst(lambda code: sum(i.is_vector_move for i in code))

    @property
    def spills(self) -> int:
        return self._worst(lambda code: sum(i.is_spill for i in code))

    def cycles(self, core: str) -> float:
        """A multiply-add's; of a depthwise loop, an output vector's."""
        units = multiply_adds if self.is_pointwise else stored_vectors
        return self._worst(lambda code: cycles(code, core) / units(code))

    def _worst(self, figure: Callable[[Code[Aarch64]], float]) -> float:
        return max(map(figure, self.copies))


def stored_vectors(code: Code[Aarch64]) -> int:
    return sum(i.vectors for i in code if i.is_store)


def assembly(code: Code[Aarch64]) -> str:
    """objdump's lines as an assembler reads them, all branches to the first one."""
    lines = [f"{i.name} {re.sub('[0-9a-f]+ <.*>', '.Lfirst', i.operands)}" for i in code]
    return "\n".join([".Lfirst:", *lines, ""])


@cache
def cycles(code: Code[Aarch64], core: str) -> float:
    """Cycles of one execution among many."""

    def total(iterations: int) -> int:
        command = [MCA, "-mtriple=aarch64", "-mattr=+fullfp16,+bf16,+fp16fml,+dotprod,+i8mm", f"-mcpu={core}"]
        command.append(f"-iterations={iterations}")
        report = subprocess.run(command, input=assembly(code), check=True, capture_output=True, text=True)
        return int(re.search(r"Total Cycles:\s+(\d+)", report.stdout)[1])

    return (total(MORE_ITERATIONS) - total(FEWER_ITERATIONS)) / (MORE_ITERATIONS - FEWER_ITERATIONS)


def hot_loop(library: Path, isa: Isa, kernel: Kernel) -> HotLoop:
    loops = innermost_loops(disassemble(library, kernel, Aarch64))
    if kernel.name == isa.tile or not isa.is_int8:  # rows of bytes have one loop, most of which is no product
        loops = list(filter(is_dense, loops))
    most = max(map(multiply_adds, loops), default=0)
    if not most:
        raise LookupError(f"{library}: no loop with multiply-adds in {kernel}")
    return HotLoop(isa, kernel, tuple(loop for loop in loops if multiply_adds(loop) == most))


def built_isas(library: Path) -> list[Isa]:
    """The library's vector instruction sets; LookupError where ISAS lacks one of them."""
    names = {kernel.isa for kernel in kernel_symbols(library)} - {"scalar"}
    unknown = names - {isa.name for isa in ISAS}
    if unknown or not names:
        raise LookupError(
            f"{library}: expected kernels for {[isa.name for isa in ISAS]}, got {sorted(names)}"
        )
    return [isa for isa in ISAS if isa.name in names]


def hot_kernels(library: Path, isa: Isa) -> list[Kernel]:
    """The kernels that take the time: depthwise, and the tallest pointwise tiles for short and long sums."""
    built = [kernel for kernel in kernel_symbols(library) if kernel.isa == isa.name]
    depthwise = sorted(kernel for kernel in built if kernel.name == "depthwise_rows")
    if isa.is_int8:  # with a shortcut the loop is the same
        return [max(kernel for kernel in built if kernel.name == isa.tile), *depthwise]
    widths = {kernel.arguments[1:] for kernel in built if kernel.name == "pointwise_tiles"}
    tiles = [tallest_tile(library, isa.name, vectors, is_long) for vectors, is_long in sorted(widths)]
    return tiles + depthwise


def hot_loops(library: Path) -> list[HotLoop]:
    """The hot loops of every instruction set; LookupError where there is none."""
    return [
        hot_loop(library, isa, kernel) for isa in built_isas(library) for kernel in hot_kernels(library, isa)
    ]


class TileEnds:
    """What tiles do beside their loops, by llvm-mca: straight-line code, found by what it has to contain."""

    def __init__(self, library: Path, tile: Kernel) -> None:
        self._library, self._tile = library, tile

    @cached_property
    def _blocks(self) -> list[tuple[Code[Aarch64], Counter[str]]]:
        blocks = basic_blocks(disassemble(self._library, self._tile, Aarch64))
        return [(block, Counter(instruction.name for instruction in block)) for block in blocks]

    def epilogue_cycles(self, core: str, has_residual: bool) -> float:
        """An output vector's scale, bias, clamp and store."""
        candidates = [
            (names["fmin"], block) for block, names in self._blocks if ("fadd" in names) == has_residual
        ]
        clamped, block = max(candidates, key=lambda candidate: candidate[0])
        return cycles(block, core) / clamped

    def flush_cycles(self, core: str) -> float:
        """A vector's move to the second accumulator; of a tile for long sums."""
        flushes = [block for block, names in self._blocks if "fadd" in names and "fmin" not in names]
        block = max(flushes, key=stored_vectors)
        return cycles(block, core) / stored_vectors(block)
