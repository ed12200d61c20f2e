"""A whole network's time on ARM machines by llvm-mca's cycles for its kernels: predicted, not measured.

It adds up loops, tiles' ends and depthwise outputs, as if all operands lay in the first-level cache and all
tiles were the tallest. For an x86 prototype the same sum was 6 % less than the measured time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from arm_kernels import ISAS, TileEnds, hot_loop
from disassembly import Kernel, tallest_tile

from mnv2_kernels import shapes

NETWORK = "MobileNetV2 1.0, 224x224, batch 1, float32"
ISA = next(isa for isa in ISAS if isa.name == "neon")
VECTORS = 2  # All of this network's layers have a multiple of two vectors of channels.
# As sums-inl.h has them.
LONG_DEPTH = 192
SUM_DEPTH = 96


class Machine(NamedTuple):
    name: str
    ghz: float
    model: str  # llvm-mca's core


MACHINES = (
    Machine("Raspberry Pi 4 (Cortex-A72)", 1.5, "cortex-a72"),
    Machine("Raspberry Pi 5 (Cortex-A76)", 2.4, "neoverse-n1"),  # cortex-a76's description is wrong
    Machine("Graviton 2 (Neoverse N1)", 2.5, "neoverse-n1"),
    Machine("Graviton 3 (Neoverse V1)", 2.6, "neoverse-v1"),
    Machine("Graviton 4 (Neoverse V2)", 2.8, "neoverse-v2"),
    Machine("Apple M1", 3.2, "neoverse-v1"),  # as apple-m1's
)


@dataclass(frozen=True)
class Pointwise:
    """A matrix product over pixels; the stem is one, over its windows."""

    pixels: int
    depth: int
    channels: int
    residual: bool = False

    @property
    def multiply_adds(self) -> float:
        return self.outputs * self.depth

    @property
    def outputs(self) -> float:
        """Vectors of output."""
        return self.pixels * self.channels / ISA.lanes

    @property
    def flushes(self) -> float:
        """Vectors that are moved to the second accumulator."""
        return self.outputs * -(-self.depth // SUM_DEPTH) if self.depth >= LONG_DEPTH else 0


def pointwise_layers(network: shapes.NetworkShape) -> Iterator[Pointwise]:
    stem, head = network.stem, network.head
    yield Pointwise(stem.out_height * stem.out_width, stem.accumulation_depth, stem.out_channels)
    for block in network.blocks:
        if block.expand:
            yield Pointwise(block.height * block.width, block.in_channels, block.expanded_channels)
        pixels = block.out_height * block.out_width
        yield Pointwise(pixels, block.expanded_channels, block.out_channels, block.residual)
    yield Pointwise(head.height * head.width, head.in_channels, head.out_channels)


def predict(library: Path, machine: Machine) -> dict[str, float]:
    """Milliseconds of an image by what they are spent on."""
    network = shapes.mobilenet_v2()
    core = machine.model
    tile, long_tile = (tallest_tile(library, ISA.name, VECTORS, is_long) for is_long in (False, True))
    ends, long_ends = TileEnds(library, tile), TileEnds(library, long_tile)
    a_multiply_add = hot_loop(library, ISA, tile).cycles(core)
    layers = list(pointwise_layers(network))
    cycles = {
        "pointwise": sum(layer.multiply_adds for layer in layers) * a_multiply_add,
        "tiles' ends": sum(
            layer.outputs * ends.epilogue_cycles(core, layer.residual)
            + layer.flushes * long_ends.flush_cycles(core)
            for layer in layers
        ),
        "depthwise": sum(
            block.out_height
            * block.out_width
            * (block.expanded_channels / ISA.lanes)
            * hot_loop(library, ISA, Kernel(ISA.name, "depthwise_rows", (block.stride,))).cycles(core)
            for block in network.blocks
        ),
        "classifier": network.classifier.macs / ISA.lanes * a_multiply_add,
    }
    return {part: count / machine.ghz / 1e6 for part, count in cycles.items()}
