"""The accuracy rule for weights that no network was trained to: channels of very different size.

A rounding error depends on the largest terms of a sum. A way to multiply that adds numbers of different size,
as Winograd's does, breaks the rule here and nowhere in trained networks.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache

import pytest
import torch
from conftest import every_isa
from tolerances import assert_accurate
from torch import Tensor, nn

from mnv2_kernels import FusedInvertedResidual
from mnv2_kernels.accuracy import MINIMUM_INPUTS
from mnv2_kernels.nn.networks import eager_copy
from mnv2_kernels.shapes import mobilenet_v2

SEEDS = 30
# Pixels of an image's side. Where one channel is much larger than all others, its results alone decide both
# errors: 8 images of 5 x 5 are too few, eager's own largest error then varies threefold with the seed.
SIZE, SIZE_OF_WIDE_BLOCKS = 20, 7
WIDE = 64  # input channels
LARGEST_EXPONENT = 8

# The network's blocks, each shape once.
BLOCKS = tuple(
    dict.fromkeys(
        (block.in_channels, block.expanded_channels, block.out_channels, block.stride)
        for block in mobilenet_v2().blocks
    )
)

# What instruction sets of these names multiply.
OWN_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}

Block = tuple[FusedInvertedResidual, Tensor]


def log_normal_scales(block: FusedInvertedResidual, x: Tensor) -> Block:
    """BatchNorms whose scales differ a hundredfold.

    If they differ much more, a single rounding that no clamp cuts off decides the largest error: luck.
    """
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.log_normal_(0, 1)
            norm.running_mean.normal_()
            norm.bias.normal_()
    return block, x


def powers_of_two(block: FusedInvertedResidual, x: Tensor) -> Block:
    """Input channels that differ by powers of two, which the next weights take back: exact in any dtype."""
    exponents = torch.randint(-LARGEST_EXPONENT, LARGEST_EXPONENT + 1, (x.shape[1],))
    scale = (2.0**exponents).view(1, -1, 1, 1)
    first = block.conv[0][0].weight
    first /= scale if first.shape[1] > 1 else scale.view(-1, 1, 1, 1)
    block.use_res_connect = False  # the shortcut's channels would hide the others
    return block, x * scale


@cache
@torch.no_grad()
def measured(
    make: Callable[[FusedInvertedResidual, Tensor], Block],
    channels: tuple[int, int, int, int],
    seed: int,
    dtype: torch.dtype,
) -> tuple[FusedInvertedResidual, Tensor, Tensor, Tensor]:
    """A block, its inputs, and its eager results in ``dtype`` and float64."""
    torch.manual_seed(seed)
    inp, expanded, oup, stride = channels
    size = SIZE_OF_WIDE_BLOCKS if inp >= WIDE else SIZE
    block, x = make(
        FusedInvertedResidual(inp, oup, stride, expanded // inp).eval(),
        torch.randn(MINIMUM_INPUTS, inp, size, size),
    )
    block, x = block.to(dtype), x.to(dtype)
    eager = eager_copy(block)
    return block, x, eager(x), deepcopy(eager).double()(x.double())


@pytest.mark.slow
@every_isa
@pytest.mark.parametrize("make", [log_normal_scales, powers_of_two])
@pytest.mark.parametrize("channels", BLOCKS, ids=str)
@torch.no_grad()
def test_channels_of_different_size(isa, make, channels):
    dtype = OWN_DTYPES.get(isa[-4:], torch.float32)
    for seed in range(SEEDS):
        block, x, eager, truth = measured(make, channels, seed, dtype)
        assert_accurate(deepcopy(block)(x), eager, truth)
