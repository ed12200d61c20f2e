"""The same of the aarch64 build that MNV2_ARM_BUILD names, and what its loops multiply with."""

from __future__ import annotations

import os

import mca
import pytest
from arm_kernels import ISAS, LIBRARY, MCA, Isa, built_isas, hot_kernels, hot_loop, hot_loops
from disassembly import Aarch64, Kernel, depth_loops, multiply_adds

pytestmark = [
    pytest.mark.skipif("MNV2_ARM_BUILD" not in os.environ, reason="MNV2_ARM_BUILD names no build for ARM"),
    pytest.mark.skipif(Aarch64.objdump() is None, reason="objdump for aarch64 is not installed"),
]
every_isa = pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
of_floats = pytest.mark.parametrize("isa", [isa for isa in ISAS if not isa.is_int8], ids=lambda isa: isa.name)


def tallest_tiles(isa: Isa) -> list[Kernel]:
    tiles = [kernel for kernel in hot_kernels(LIBRARY, isa) if kernel.name == isa.tile]
    assert {tile.arguments[1] for tile in tiles} == ({1} if isa.is_int8 else {1, 2})
    return tiles


@of_floats
def test_the_inner_loops_keep_their_accumulators_in_registers(isa: Isa) -> None:
    for tile in tallest_tiles(isa):
        rows, vectors, _ = tile.arguments
        loops = depth_loops(LIBRARY, tile, Aarch64)
        assert loops
        for loop in loops:
            assert multiply_adds(loop) % (rows * vectors) == 0
            assert not [instruction for instruction in loop if instruction.is_spill]
            assert not [instruction for instruction in loop if instruction.is_vector_move]


@every_isa
def test_the_hot_loop_multiplies_as_claimed(isa: Isa) -> None:
    """By all the lanes of a vector of depths, or, BFMMLA, by whole registers."""
    for tile in tallest_tiles(isa):
        copies = hot_loop(LIBRARY, isa, tile).copies
        multiplies = [i for code in copies for i in code if i.is_multiply_add]
        halves = {"smlsl2"} if isa.multiply_add == "smull" else set()
        assert {i.name for i in multiplies} == {isa.multiply_add} | halves
        found = [isa.operand.search(i.operands) for i in multiplies]
        assert all(found)
        lanes = {"bfmmla": 1, "usmmla": 1, "smull": 2}.get(isa.multiply_add, isa.lanes)
        assert len({match[0] for match in found}) == lanes


def test_every_instruction_set_of_the_build_is_looked_at() -> None:
    assert built_isas(LIBRARY) == list(ISAS)


@pytest.mark.skipif(MCA is None, reason="no llvm-mca of LLVM 16 or newer")
def test_the_hot_loops_take_the_cycles_that_the_cores_allow() -> None:
    assert not [miss for loop in hot_loops(LIBRARY) for miss in mca.misses(loop)]
