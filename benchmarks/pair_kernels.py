"""Prints what llvm-mca predicts for the loops of the pair product and of the plain one, from the built code.

    python benchmarks/pair_kernels.py [LIBRARY]

Needs objdump and llvm-mca, but no processor of the kind. llvm-mca takes all operands to be in the first-level
cache, and its figures are as good as LLVM's description of a core.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from disassembly import X86, Code, depth_loops, multiply_adds, tallest_tile

LIBRARY = Path(__file__).resolve().parent.parent / "mnv2_kernels" / "libmnv2_ops.so"
MCA = shutil.which("llvm-mca-19") or shutil.which("llvm-mca")
CORES = ("znver4", "znver5")
ITERATIONS = 1000

# Depths that a pass of the loop takes.
KERNELS = {"pointwise_tiles": 8, "pair_tiles": 16}


def additions(code: Code[X86]) -> int:
    return sum(instruction.name in ("vaddps", "vsubps") for instruction in code)


def cycles(code: Code[X86], core: str) -> float:
    """Of one pass of a loop."""
    lines = [f"{i.name} {i.operands}" for i in code if not i.is_branch]
    command = [MCA, "-mtriple=x86_64", f"-mcpu={core}", f"-iterations={ITERATIONS}"]
    report = subprocess.run(command, input="\n".join(lines), check=True, capture_output=True, text=True)
    return int(re.search(r"Total Cycles:\s+(\d+)", report.stdout)[1]) / ITERATIONS


def print_loop(library: Path, name: str, vectors: int, is_long: bool) -> None:
    tile = tallest_tile(library, "avx512", vectors, is_long, name)
    # Of several copies the slowest.
    loops = [loop for loop in depth_loops(library, tile, X86) if len(loop) > 100]
    products = KERNELS[name] * tile.arguments[0] * vectors
    loop = max(loops, key=lambda each: cycles(each, CORES[0]))
    spills = sum(instruction.is_spill for instruction in loop)
    counts = f"{multiply_adds(loop):4} FMA {additions(loop):4} add {len(loop):4} all {spills:2} spills"
    per_product = "  ".join(f"{core} {cycles(loop, core) / products:.3f}" for core in CORES)
    print(f"{tile!s:32} {products:4} products {counts}  cycles a product: {per_product}")


def main() -> int:
    if MCA is None:
        print("llvm-mca is not installed (Debian: llvm)", file=sys.stderr)
        return 2
    library = Path(sys.argv[1]) if len(sys.argv) > 1 else LIBRARY
    for name in KERNELS:
        for vectors in (1, 2):
            for is_long in (False, True):
                print_loop(library, name, vectors, is_long)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
