"""The compiler kept the pointwise tiles' accumulators in registers: the built library's code shows it.

Timing tells the same, but not on a busy machine, and not about an instruction set that this machine lacks.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import mnv2_kernels
from mnv2_kernels import _native

LIBRARY = Path(mnv2_kernels.__file__).parent / "libmnv2_ops.so"
TILE = re.compile(r"cpu\d+(avx2|avx512)12_GLOBAL__N_1\d+pointwise_tilesILi(\d+)ELi(\d+)ELb([01])EE\w*$")
VECTOR = r"%[xyz]mm\d+"

pytestmark = [
    pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump (binutils) is not installed"),
    pytest.mark.skipif(_native.build_info()["build_type"] != "Release", reason="only Release is optimised"),
]


class Instruction(NamedTuple):
    address: int
    name: str
    operands: str

    @property
    def is_multiply_add(self) -> bool:
        return self.name.startswith("vfmadd")

    @property
    def is_spill(self) -> bool:
        """Moves a vector to or from the stack."""
        return "(%rsp" in self.operands and re.search(VECTOR, self.operands) is not None

    @property
    def target(self) -> int | None:
        """Where a jump goes."""
        found = re.match(r"[0-9a-f]+", self.operands) if self.name.startswith("j") else None
        return int(found[0], 16) if found else None


@cache
def tile_symbols() -> dict[tuple[str, int, int, bool], str]:
    """Mangled names of the tiles by instruction set, rows, vectors and whether they are for long sums."""
    output = subprocess.run(["nm", str(LIBRARY)], check=True, capture_output=True, text=True).stdout
    symbols = [line.split()[-1] for line in output.splitlines()]
    if not symbols:
        pytest.skip(f"{LIBRARY.name} is stripped")
    found = [(TILE.search(symbol), symbol) for symbol in symbols]
    return {(m[1], int(m[2]), int(m[3]), m[4] == "1"): symbol for m, symbol in found if m}


def disassemble(symbol: str) -> list[Instruction]:
    command = ["objdump", "--disassemble=" + symbol, "--no-show-raw-insn", str(LIBRARY)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = re.findall(r"^\s*([0-9a-f]+):\s+(\S+)[ \t]*(.*?)\s*$", output, flags=re.MULTILINE)
    return [Instruction(int(address, 16), name, operands) for address, name, operands in lines]


def innermost_loops(code: list[Instruction]) -> list[list[Instruction]]:
    """From a backward jump's target to the jump, where no other such loop lies within."""
    index_of = {instruction.address: index for index, instruction in enumerate(code)}
    ranges = [
        (index_of[instruction.target], index)
        for index, instruction in enumerate(code)
        if instruction.target in index_of and index_of[instruction.target] <= index
    ]
    return [
        code[begin : end + 1]
        for begin, end in ranges
        if not any(other != (begin, end) and begin <= other[0] and other[1] <= end for other in ranges)
    ]


def is_over_depth(loop: list[Instruction], per_depth: int) -> bool:
    """More than a third are multiply-adds; the epilogue has some too, among loads, clamps and stores."""
    count = sum(instruction.is_multiply_add for instruction in loop)
    return count >= per_depth and 3 * count > len(loop)


def multiply_add_loops(isa: str, vectors: int, is_long: bool) -> tuple[int, list[list[Instruction]]]:
    """Of the tallest tile of that width: one depth's multiply-adds, and the loops over the depth."""
    if isa not in _native.build_info()["isas"]:
        pytest.skip(f"this build has no {isa}")
    rows = max(rows for name, rows, wide, _ in tile_symbols() if (name, wide) == (isa, vectors))
    code = disassemble(tile_symbols()[isa, rows, vectors, is_long])
    per_depth = rows * vectors
    loops = [loop for loop in innermost_loops(code) if is_over_depth(loop, per_depth)]
    assert loops, f"no loop with {per_depth} multiply-adds in the {rows}x{vectors} tile of {isa}"
    return per_depth, loops


@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_the_inner_loop_keeps_its_accumulators_in_registers(isa, vectors, is_long):
    per_depth, loops = multiply_add_loops(isa, vectors, is_long)
    for loop in loops:
        assert sum(instruction.is_multiply_add for instruction in loop) % per_depth == 0
        assert not [instruction for instruction in loop if instruction.is_spill]


@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("vectors", [1, 2])
def test_avx512_broadcasts_within_the_multiply_add(vectors, is_long):
    _, loops = multiply_add_loops("avx512", vectors, is_long)
    for instruction in (instruction for loop in loops for instruction in loop if instruction.is_multiply_add):
        assert "{1to16}" in instruction.operands
