"""The same of the aarch64 build, where pointwise multiply-adds also take one lane of a vector of depths each.

The build is the one that MNV2_ARM_BUILD names, else build/arm; tests skip where there is none.
"""

from __future__ import annotations

import mca
import pytest
from arm_kernels import ISAS, LIBRARY, MCA, Isa, built_isas, hot_loop, hot_loops
from disassembly import Aarch64, depth_loops, multiply_adds, tallest_tile

pytestmark = [
    pytest.mark.skipif(not LIBRARY.is_file(), reason=f"no build for ARM: {LIBRARY}"),
    pytest.mark.skipif(Aarch64.objdump() is None, reason="objdump for aarch64 is not installed"),
]
every_tile = pytest.mark.parametrize(
    ("isa", "vectors", "is_long"),
    [(isa, vectors, is_long) for isa in ISAS for vectors in (1, 2) for is_long in (False, True)],
    ids=lambda value: getattr(value, "name", None),
)


@every_tile
def test_the_inner_loops_keep_their_accumulators_in_registers(isa: Isa, vectors: int, is_long: bool) -> None:
    tile = tallest_tile(LIBRARY, isa.name, vectors, is_long)
    loops = depth_loops(LIBRARY, tile, Aarch64)
    assert loops
    for loop in loops:
        assert multiply_adds(loop) % (tile.arguments[0] * vectors) == 0
        assert not [instruction for instruction in loop if instruction.is_spill]
        assert not [instruction for instruction in loop if instruction.is_vector_move]


@every_tile
def test_the_hot_loop_multiplies_by_lanes(isa: Isa, vectors: int, is_long: bool) -> None:
    loop = hot_loop(LIBRARY, isa, tallest_tile(LIBRARY, isa.name, vectors, is_long))
    found = [isa.by_lane.search(i.operands) for code in loop.copies for i in code if i.is_multiply_add]
    assert all(found)
    assert len({match[0] for match in found}) == isa.lanes


def test_every_instruction_set_of_the_build_is_looked_at() -> None:
    assert built_isas(LIBRARY) == list(ISAS)


@pytest.mark.skipif(MCA is None, reason="llvm-mca is not installed")
def test_the_hot_loops_take_the_cycles_that_the_cores_allow() -> None:
    assert not [miss for loop in hot_loops(LIBRARY) for miss in mca.misses(loop)]
