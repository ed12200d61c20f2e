"""Hashes of what every kernel computes: ``python tests/golden.py FILE`` before a change and after it.

Blocks, stem, head and linear layer of MobileNetV2 at two widths and whole networks, in every dtype: by every
instruction set that this machine runs, by the CUDA kernels (without a GPU in the emulator) and by
Triton's interpreter. FILE gets a JSON object, name to SHA-256; if it exists, the hashes are compared with it,
and a difference is an error. Compare files of one machine: another may sum in another order.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # before Triton's decorators look at it

import torch
from models import randomised
from torch import Tensor

from mnv2_kernels import FusedMobileNetV2, _native
from mnv2_kernels.shapes import mobilenet_v2

WIDTHS = (0.35, 1.0)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SEED = 0

# Stages of 28, 14, 7, 4 and 2 pixels: strips, borders and remainders, in little time.
RESOLUTION, BATCH = 56, 3
# The emulator and the interpreter take seconds for a block.
SLOW_RESOLUTION, SLOW_BATCH = 24, 1

Weights = tuple[Tensor | None, ...]
Layer = tuple[str, Tensor, Weights, dict[str, Any]]  # operator, input, weights, options


class Numbers:
    """Random tensors, the same ones in the same order."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(SEED)

    def normal(self, *size: int) -> Tensor:
        return torch.randn(size, generator=self._generator)

    def convolution(self, *size: int) -> Weights:
        """Weight, scale and bias whose results are about as large as their inputs."""
        depth = math.prod(size[1:])
        scale = 0.5 + torch.rand(size[0], generator=self._generator)
        return 2 * self.normal(*size) / depth**0.5, scale, self.normal(size[0])


def layers_of(width: float, resolution: int, batch: int) -> Iterator[tuple[str, Layer]]:
    """Every layer of the network by itself, each distinct block once; float32."""
    numbers, network = Numbers(), mobilenet_v2(width, resolution, batch)
    stem, head, linear = network.stem, network.head, network.classifier
    x = numbers.normal(batch, stem.in_channels, resolution, resolution)
    yield "stem", ("stem", x, numbers.convolution(stem.out_channels, stem.in_channels, 3, 3), {})
    for index, block in enumerate(network.blocks, 1):
        expand = (
            numbers.convolution(block.expanded_channels, block.in_channels, 1, 1)
            if block.expand
            else (None,) * 3
        )
        depthwise = numbers.convolution(block.expanded_channels, 1, 3, 3)
        project = numbers.convolution(block.out_channels, block.expanded_channels, 1, 1)
        x = numbers.normal(batch, block.in_channels, block.height, block.width)
        options = {"stride": block.stride, "residual": block.residual}
        yield f"block {index}", ("fused_block", x, (*expand, *depthwise, *project), options)
    x = numbers.normal(batch, head.in_channels, head.height, head.width)
    yield "head", ("head_pool", x, numbers.convolution(head.out_channels, head.in_channels, 1, 1), {})
    weight, _, bias = numbers.convolution(linear.out_features, linear.in_features)
    yield "linear", ("linear", numbers.normal(batch, linear.in_features), (weight, bias), {})


def layer_results(
    operator: Callable[[str], Callable[..., Tensor]], resolution: int, batch: int, device: str = "cpu"
) -> Iterator[tuple[str, Tensor]]:
    for width in WIDTHS:
        for name, (op, x, weights, options) in layers_of(width, resolution, batch):
            for dtype in DTYPES:
                tensors = [None if each is None else each.to(device, dtype) for each in weights]
                yield f"{width} {dtype} {name}", operator(op)(x.to(device, dtype), *tensors, **options)


def networks(device: str = "cpu") -> Iterator[tuple[str, Tensor]]:
    for width in WIDTHS:
        torch.manual_seed(SEED)
        model = randomised(FusedMobileNetV2(width_mult=width)).eval()
        x = Numbers().normal(BATCH, 3, RESOLUTION, RESOLUTION)
        for dtype in DTYPES:
            yield f"{width} {dtype} network", model.to(device, dtype).deploy()(x.to(device, dtype))


def on_cpu() -> Iterator[tuple[str, Tensor]]:
    for isa in (isa["name"] for isa in _native.isas() if isa["compiled"] and isa["supported"]):
        os.environ["MNV2_FORCE_ISA"] = isa
        for name, y in layer_results(lambda op: getattr(torch.ops.mnv2, op), RESOLUTION, BATCH):
            yield f"{isa} {name}", y
        for name, y in networks():
            yield f"{isa} {name}", y
    del os.environ["MNV2_FORCE_ISA"]


def on_cuda() -> Iterator[tuple[str, Tensor]]:
    from cuda_operators import DEVICE, ON_GPU, OPS

    for name, y in layer_results(lambda op: getattr(OPS, op), SLOW_RESOLUTION, SLOW_BATCH, DEVICE):
        yield f"cuda {name}", y
    if ON_GPU:
        for name, y in networks(DEVICE):
            yield f"cuda {name}", y


def by_triton() -> Iterator[tuple[str, Tensor]]:
    from mnv2_kernels.triton import operators

    for name, y in layer_results(lambda op: getattr(operators, op), SLOW_RESOLUTION, SLOW_BATCH):
        yield f"triton {name}", y


BACKENDS = {"cpu": on_cpu, "cuda": on_cuda, "triton": by_triton}


def digest(y: Tensor) -> str:
    return hashlib.sha256(y.contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()


def main() -> str | None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=[*BACKENDS])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        found = {name: digest(y) for each in arguments.backends for name, y in BACKENDS[each]()}
    if not arguments.file.exists():
        arguments.file.write_text(json.dumps(found, indent=1))
        print(f"{len(found)} hashes written to {arguments.file}")
        return None
    expected = json.loads(arguments.file.read_text())
    other = [name for name, value in found.items() if expected.get(name) != value]
    print(f"{len(found) - len(other)} of {len(found)} hashes are those of {arguments.file}")
    return f"other bits: {', '.join(other)}" if other else None


if __name__ == "__main__":
    sys.exit(main())
