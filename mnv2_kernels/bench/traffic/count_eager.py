"""Run under callgrind: counts blocks of torch's own layers one after another, NCHW and channels_last.

    python -m mnv2_kernels.bench.traffic.count_eager CACHE_BYTES BLOCK...

A BLOCK is the number of one of MobileNetV2 1.0's, from 0.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from mnv2_kernels import _native, shapes
from mnv2_kernels.bench.traffic.callgrind import start_simulation
from mnv2_kernels.nn.mobilenet_v2 import FusedMobileNetV2
from mnv2_kernels.nn.networks import eager_copy

LAYOUTS = (torch.contiguous_format, torch.channels_last)
STEM = 1  # modules in front of the blocks


def main(cache_bytes: int, blocks: list[int]) -> None:
    networks = [eager_copy(FusedMobileNetV2()) for _ in range(2)]
    start_simulation()
    for index in blocks:
        shape = shapes.mobilenet_v2().blocks[index]
        for layout in LAYOUTS:
            modules = [network.features[STEM + index].to(memory_format=layout) for network in networks]
            inputs = [_input(shape, layout) for _ in modules]
            with torch.inference_mode():
                _count(modules, inputs, cache_bytes)


def _input(shape: shapes.BlockShape, layout: torch.memory_format) -> Tensor:
    return torch.randn(shape.batch, shape.in_channels, shape.height, shape.width).to(memory_format=layout)


def _count(modules: list[nn.Module], inputs: list[Tensor], cache_bytes: int) -> None:
    """As BlockRun.count: the first module's pass leaves what the second one's finds in the caches."""
    modules[0](inputs[0])
    _native.replace_cache(cache_bytes)
    kept = modules[0](inputs[0])
    _native.count_begin()
    modules[1](inputs[1])
    _native.count_end()
    del kept  # so far its memory was not the counted result's


if __name__ == "__main__":
    main(int(sys.argv[1]), [int(index) for index in sys.argv[2:]])
