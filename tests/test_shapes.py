"""shapes.py against the paper's and torchvision's figures."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from cases import WIDTHS, make_case
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mnv2_kernels.shapes import BlockShape, HeadShape, StemShape, mobilenet_v2, output_size, same_padding


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


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_output_size_is_torchs(size, stride, before, after):
    x = F.pad(torch.zeros(1, 1, size), (before, after))
    if x.shape[2] < 3:
        assert output_size(size, before, after, stride) <= 0
    else:
        expected = F.conv1d(x, torch.zeros(1, 1, 3), stride=stride).shape[2]
        assert output_size(size, before, after, stride) == expected


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_covers_every_stride(size, stride):
    before, after = same_padding(size, stride)
    assert output_size(size, before, after, stride) == -(-size // stride)
    assert 0 <= before <= after <= 1


def test_shapes_that_contradict_themselves_are_refused():
    with pytest.raises(
        ValueError, match="without expand, expanded_channels must equal in_channels: 96 and 16"
    ):
        BlockShape(1, 7, 7, 16, 96, 24, expand=False)
    with pytest.raises(ValueError, match="a residual demands stride 1, padding 1 and equal channels"):
        BlockShape(1, 7, 7, 16, 96, 24, residual=True)
    with pytest.raises(ValueError, match="padding: expected 'torch' or 'same', got 'valid'"):
        mobilenet_v2(padding="valid")
