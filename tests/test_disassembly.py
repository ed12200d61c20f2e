"""The compiler kept the pointwise tiles' accumulators in registers: the built library's code shows it.

Timing tells the same, but not on a busy machine, and not about an instruction set that this machine lacks.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from disassembly import X86, Code, depth_loops, kernel_symbols, multiply_adds, tallest_tile

import mnv2_kernels
from mnv2_kernels import _native

LIBRARY = Path(mnv2_kernels.__file__).parent / "libmnv2_ops.so"

pytestmark = [
    pytest.mark.skipif(X86.objdump() is None, reason="objdump (binutils) is not installed"),
    pytest.mark.skipif(_native.build_info()["build_type"] != "Release", reason="only Release is optimised"),
]


def multiply_add_loops(
    isa: str, vectors: int, is_long: bool, name: str = "pointwise_tiles"
) -> tuple[int, list[Code[X86]]]:
    """Of the tallest tile of that width: one depth's multiply-adds, and the loops over the depth."""
    if isa not in _native.build_info()["isas"]:
        pytest.skip(f"this build has no {isa}")
    if not kernel_symbols(LIBRARY):
        pytest.skip(f"{LIBRARY.name} is stripped")
    tile = tallest_tile(LIBRARY, isa, vectors, is_long, name)
    loops = depth_loops(LIBRARY, tile, X86)
    per_depth = tile.arguments[0] * vectors
    assert loops, f"no loop with {per_depth} multiply-adds in {tile}"
    return per_depth, loops


@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_the_inner_loop_keeps_its_accumulators_in_registers(isa, vectors, is_long):
    per_depth, loops = multiply_add_loops(isa, vectors, is_long)
    for loop in loops:
        assert multiply_adds(loop) % per_depth == 0
        assert not [instruction for instruction in loop if instruction.is_spill]


@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("vectors", [1, 2])
def test_avx512_broadcasts_within_the_multiply_add(vectors, is_long):
    _, loops = multiply_add_loops("avx512", vectors, is_long)
    for instruction in (instruction for loop in loops for instruction in loop if instruction.is_multiply_add):
        assert "{1to16}" in instruction.operands


@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("vectors", [1, 3])
def test_two_depths_take_a_broadcast_from_memory_and_nothing_else(vectors, is_long):
    per_two_depths, loops = multiply_add_loops("avx512", vectors, is_long, "two_depth_tiles")
    for loop in loops:
        broadcasts = [instruction for instruction in loop if instruction.name == "vbroadcastsd"]
        assert len(broadcasts) * vectors == multiply_adds(loop)
        assert multiply_adds(loop) % per_two_depths == 0
        assert all("(" in instruction.operands for instruction in broadcasts)
        assert not [instruction for instruction in loop if instruction.is_spill]
