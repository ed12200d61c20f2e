"""Every block beside what the processor allows: operations a second over operations a byte.

Bytes are what a block has to move: fused its input, output and weights, unfused each convolution's, once
each. The roof is the multiply-add peak and, left of it, how fast a copy runs whose data lies outside of the
second-level cache. One thread, float32, the same microkernels fused and unfused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from .. import _native, shapes
from ..layer import block_arguments
from ..timing import interleaved_medians, interleaved_times
from .setting import torch_threads

# How many times the second-level cache a copy reads and writes together.
COPIED_CACHES = 8


@dataclass(frozen=True)
class RooflineRow:
    """One shape of block; times are medians, bytes are computed, the roof is measured in the same run."""

    KIND: ClassVar[str] = "roofline"
    block: str
    height: int
    blocks: int  # of the network
    macs: int
    fused_bytes: int
    unfused_bytes: int
    fused_ms: float
    unfused_ms: float
    peak_gflops: float
    copy_gb_per_s: float

    @property
    def fused_gflops(self) -> float:
        return 2e-6 * self.macs / self.fused_ms

    @property
    def unfused_gflops(self) -> float:
        return 2e-6 * self.macs / self.unfused_ms

    @property
    def fused_intensity(self) -> float:
        """Operations a byte, two for each multiply-accumulate."""
        return 2 * self.macs / self.fused_bytes

    @property
    def unfused_intensity(self) -> float:
        return 2 * self.macs / self.unfused_bytes


def measure_roofline(rounds: int) -> Iterator[RooflineRow]:
    """A row for each different block of MobileNetV2 1.0 at 224 x 224, batch 1: fused and unfused in turn."""
    repeats = Counter(shapes.mobilenet_v2().blocks)
    l2_bytes = _native.plan(**block_arguments(next(iter(repeats))))["l2_bytes"]
    peak, copied = _native.measure_fma_peak(), _copy_gb_per_s(COPIED_CACHES * l2_bytes, rounds)
    for shape, blocks in repeats.items():
        arguments = block_arguments(shape)
        fused, unfused = _native.BlockRun(**arguments), _native.BlockRun(**arguments, fused=False)
        medians = interleaved_medians({"fused": fused.run, "unfused": unfused.run}, rounds)
        yield RooflineRow(
            block=shapes.describe(shape),
            height=shape.height,
            blocks=blocks,
            macs=shape.macs,
            fused_bytes=shape.floor_bytes(torch.float32),
            unfused_bytes=shape.unfused_bytes(torch.float32),
            fused_ms=medians["fused"],
            unfused_ms=medians["unfused"],
            peak_gflops=peak,
            copy_gb_per_s=copied,
        )


def _copy_gb_per_s(moved_bytes: int, rounds: int) -> float:
    """The best of some copies that read half of these bytes and write the other half, by one thread."""
    source = torch.ones(moved_bytes // 2, dtype=torch.uint8)
    target = torch.empty_like(source)
    with torch_threads(1):
        times = interleaved_times({"copy": lambda: target.copy_(source)}, rounds)["copy"]
    return 1e-6 * moved_bytes / min(times)
