"""shapes.py against the paper's and torchvision's figures."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from cases import WIDTHS, make_case
from torch import nn
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mnv2_kernels.shapes import (
    KERNEL_SIZES,
    BlockShape,
    HeadShape,
    StemShape,
    describe,
    mobilenet_v2,
    output_size,
    same_padding,
)


def test_macs_and_parameters_of_the_paper():
    network = mobilenet_v2()
    assert network.macs == 300_774_272
    assert network.parameters == 3_504_872
    assert len(network.blocks) == 17


def test_floor_of_a_block():
    block = mobilenet_v2().blocks[2]  # 56x56 24-144-24
    parameters = 144 * (24 + 2) + 144 * (9 + 2) + 24 * (144 + 2)
    assert block.floor_bytes(torch.float32) == 4 * (2 * 56 * 56 * 24 + parameters)
    assert block.floor_bytes(torch.float16) == 2 * (2 * 56 * 56 * 24 + parameters)


def test_a_gate_has_weights_and_traffic():
    plain = BlockShape(2, 14, 14, 80, 480, 112, padding=(2, 2, 2, 2), kernel=5)
    gated = replace(plain, squeezed_channels=20, squeeze_activation="silu")
    gate = nn.Sequential(nn.Conv2d(480, 20, 1), nn.Conv2d(20, 480, 1))
    assert gated.parameters - plain.parameters == sum(each.numel() for each in gate.parameters())
    assert gated.macs - plain.macs == 2 * 2 * 480 * 20
    depthwise_out = 2 * 14 * 14 * 480 * 4
    weights = 4 * (gated.parameters - plain.parameters)
    assert gated.floor_bytes(torch.float32) - plain.floor_bytes(torch.float32) == 2 * depthwise_out + weights
    assert describe(gated) == "14x14 80-480-112 s1 k5 gate 20"


@pytest.mark.parametrize("width", WIDTHS)
def test_channels_and_parameters_are_torchvisions(width):
    model = torchvision_mobilenet_v2(width_mult=width)
    network = mobilenet_v2(width)
    assert network.parameters == sum(parameter.numel() for parameter in model.parameters())
    stem, *blocks, head = model.features
    assert network.stem.out_channels == stem[0].out_channels
    assert network.head.out_channels == head[0].out_channels
    for shape, block in zip(network.blocks, blocks, strict=True):
        first, depthwise, project = block.conv[0][0], block.conv[-3][0], block.conv[-2]
        assert shape.in_channels == first.in_channels
        assert shape.expanded_channels == depthwise.in_channels
        assert shape.out_channels == project.out_channels
        assert shape.stride == depthwise.stride[0]
        assert shape.residual == block.use_res_connect
        assert shape.expand == (first is not depthwise)


@pytest.mark.parametrize(
    "shape",
    [
        BlockShape(2, 9, 8, 5, 30, 7, stride=2, padding=(0, 1, 1, 0)),
        BlockShape(2, 9, 8, 6, 6, 7, expand=False),
        StemShape(2, 9, 8, 3, 16, padding=(0, 0, 1, 1)),
        HeadShape(2, 3, 5, 24, 40),
    ],
)
def test_bytes_are_those_of_the_tensors(shape):
    case = make_case(shape, torch.float16)
    assert shape.input_bytes(torch.float16) == case.x.nbytes
    assert shape.output_bytes(torch.float16) == case.run().nbytes
    assert shape.weight_bytes(torch.float16) == sum(
        weight.nbytes for weight in case.weights if weight is not None
    )


def test_expanded_bytes_are_what_a_fused_run_saves():
    """Half precision, written once and read once: the unfused traffic of a block less its fused traffic."""
    first, second = mobilenet_v2().blocks[:2]
    unfused_first, fused_first = 2_809_856, 1_204_224
    assert 2 * first.expanded_bytes(torch.float16) == unfused_first - fused_first
    assert second.expanded_bytes(torch.float16) == (112 * 112 + 56 * 56) * 96 * 2
    network = mobilenet_v2()
    fused = sum(b.input_bytes(torch.float16) + b.output_bytes(torch.float16) for b in network.blocks)
    saved = sum(2 * b.expanded_bytes(torch.float16) for b in network.blocks)
    weights = sum(b.weight_bytes(torch.float16) for b in network.blocks)
    unfused = sum(b.unfused_bytes(torch.float16) for b in network.blocks)
    assert round(fused / 1e6, 2) == 3.06
    assert round((unfused - weights) / 1e6, 2) == 26.06
    assert network.expanded_bytes(torch.float16) == saved // 2 + 7 * 7 * 1280 * 2


@pytest.mark.parametrize("kernel", KERNEL_SIZES)
@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("stride", [1, 2])
def test_output_size_is_torchs(size, stride, kernel):
    for before, after in product(range(kernel // 2 + 1), repeat=2):
        x = F.pad(torch.zeros(1, 1, size), (before, after))
        if x.shape[2] < kernel:
            assert output_size(size, before, after, stride, kernel) <= 0
        else:
            expected = F.conv1d(x, torch.zeros(1, 1, kernel), stride=stride).shape[2]
            assert output_size(size, before, after, stride, kernel) == expected


@pytest.mark.parametrize("kernel", KERNEL_SIZES)
@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_covers_every_stride(size, stride, kernel):
    before, after = same_padding(size, stride, kernel)
    assert output_size(size, before, after, stride, kernel) == -(-size // stride)
    assert 0 <= before <= after <= kernel // 2


def test_shapes_that_contradict_themselves_are_refused():
    with pytest.raises(
        ValueError, match="without expand, expanded_channels must equal in_channels: 96 and 16"
    ):
        BlockShape(1, 7, 7, 16, 96, 24, expand=False)
    with pytest.raises(ValueError, match="a residual demands stride 1, padding 1 and equal channels"):
        BlockShape(1, 7, 7, 16, 96, 24, residual=True)
    with pytest.raises(ValueError, match="padding: expected 'torch' or 'same', got 'valid'"):
        mobilenet_v2(padding="valid")
