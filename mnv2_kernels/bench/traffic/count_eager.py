"""Run under callgrind: counts blocks of torch's own layers one after another, NCHW and channels_last.

    python -m mnv2_kernels.bench.traffic.count_eager NETWORK CACHE_BYTES BLOCKS

BLOCKS is a JSON list of the network's modules, by their names, each with the shape of its input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mnv2_kernels import _native
from mnv2_kernels.bench.traffic.callgrind import start_simulation
from mnv2_kernels.bench.zoo import build_network

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def main(network: str, cache_bytes: int, blocks: Sequence[tuple[str, Sequence[int]]]) -> None:
    models = [build_network(network).eval() for _ in range(2)]
    start_simulation()
    for name, shape in blocks:
        for layout in LAYOUTS:
            modules = [model.get_submodule(name).to(memory_format=layout) for model in models]
            inputs = [torch.randn(*shape).to(memory_format=layout) for _ in modules]
            with torch.inference_mode():
                _count(modules, inputs, cache_bytes)


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
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))
