"""Memory traffic of the blocks of an int8 network in a simulated last-level cache.

Counted as that of float blocks (blocks.py), with activations in blocks of channels, as inside a network.
Valgrind has neither AVX-512 nor its dot products: on x86 it runs the kernels for AVX2, whose weights are
16-bit words, or with MNV2_FORCE_ISA=scalar the portable ones, whose weights are bytes as AVX-512's are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ... import shapes
from ...layer import block_arguments
from .blocks import DEFAULT_CACHE, run_counted
from .callgrind import check_cache

# What every block is to reach.
FLOOR_FACTOR = 1.05

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Int8TrafficRow:
    """One shape of block in one cache; all bytes are of one pass, batch 1, one thread.

    ``stored_bytes``: input, packed weights and output as they lie in memory, channels that fill a block
    included. ``floor_bytes``: the same of bytes and float32 factors alone, without what fills or widens them.
    """

    KIND: ClassVar[str] = "int8_traffic"
    block: str
    height: int
    blocks: int  # of the network
    isa: str
    scratch_bytes: int
    cache_bytes: int
    floor_bytes: int
    stored_bytes: int
    fused_bytes: int

    @property
    def stored_factor(self) -> float:
        return self.fused_bytes / self.stored_bytes

    @property
    def floor_factor(self) -> float:
        return self.fused_bytes / self.floor_bytes

    @property
    def meets_floor(self) -> bool:
        return self.stored_factor <= FLOOR_FACTOR


def measure_int8_traffic(
    blocks: Sequence[shapes.BlockShape], cache_bytes: int = DEFAULT_CACHE
) -> list[Int8TrafficRow]:
    """A row for each different block.

    Raises TrafficError where there is no valgrind or no such cache, or the program failed in it.
    """
    check_cache(cache_bytes)
    repeats = Counter(blocks)
    arguments = [block_arguments(shape) for shape in repeats]
    for each in arguments:
        del each["batch"]
    plans, counts = run_counted("Int8BlockRun", arguments, cache_bytes)
    return [
        Int8TrafficRow(
            block=shapes.describe(shape),
            height=shape.height,
            blocks=repeats[shape],
            isa=plan["isa"],
            scratch_bytes=plan["scratch_bytes"],
            cache_bytes=cache_bytes,
            floor_bytes=int8_floor_bytes(shape),
            stored_bytes=plan["packed_bytes"] + plan["activation_bytes"],
            fused_bytes=count.bytes,
        )
        for shape, plan, count in zip(repeats, plans, counts, strict=True)
    ]


def int8_floor_bytes(shape: shapes.BlockShape) -> int:
    """Input, output and weights of bytes, and the float32 factors of every output channel, each once."""
    activations = shape.height * shape.width * shape.in_channels
    activations += shape.out_height * shape.out_width * shape.out_channels
    expanded = shape.expanded_channels
    weights = (shape.in_channels if shape.expand else 0) * expanded
    weights += shape.taps * expanded + expanded * shape.out_channels
    factors = 2 * ((2 if shape.expand else 1) * expanded + shape.out_channels)
    factors += shape.out_channels if shape.residual else 0
    return activations + weights + FLOAT_BYTES * factors
