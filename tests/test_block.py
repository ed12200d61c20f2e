"""mnv2::fused_block against eager and float64 torch: every shape, option and special value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from cases import (
    DTYPES,
    LAYOUTS,
    WIDTHS,
    Case,
    channel_sweep,
    make_case,
    measured_case,
    network_blocks,
    odd_blocks,
    shape_id,
)
from conftest import SUPPORTED_ISAS, every_float32_isa, every_isa
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_accurate, assert_within_rounding, sixteen_bit_rounding

from mnv2_kernels.accuracy import MINIMUM_INPUTS
from mnv2_kernels.layer import layer_shapes
from mnv2_kernels.networks import NETWORKS, layers_of
from mnv2_kernels.shapes import (
    ACTIVATIONS,
    GATE_ACTIVATIONS,
    KERNEL_SIZES,
    BlockShape,
    symmetric_padding,
)

# Gives stages of 28, 14, 7, 4 and 2 pixels.
SMALL_RESOLUTION = 56

STRIDED = BlockShape(2, 8, 9, 16, 96, 24, stride=2)

PROJECT_SCALE = 7


def every_shape(shapes: Iterable[BlockShape]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shape", list(shapes), ids=shape_id)


# --- accuracy ---


@every_isa
@pytest.mark.parametrize("padding", ["torch", "same"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_blocks_of_every_width(isa, width, dtype, padding):
    for shape in network_blocks(width, SMALL_RESOLUTION, padding):
        case, eager, truth = measured_case(shape, dtype)
        assert_accurate(case.run(), eager, truth)


@every_isa
@every_shape(odd_blocks())
def test_odd_sizes_and_channels(isa, shape):
    for dtype in DTYPES:
        case, eager, truth = measured_case(shape, dtype)
        assert_accurate(case.run(), eager, truth)


@every_float32_isa
@every_shape(channel_sweep())
def test_channels_from_8_to_960(isa, shape):
    case, eager, truth = measured_case(shape, torch.float32)
    assert_accurate(case.run(), eager, truth)


def blocks_of_other_networks(padding: str) -> list[BlockShape]:
    """Their distinct blocks, MobileNetV2 aside, on small images."""
    image = (MINIMUM_INPUTS, SMALL_RESOLUTION, SMALL_RESOLUTION)
    shapes = (shape for name in NETWORKS[1:] for shape in layer_shapes(layers_of(name, padding), *image))
    return list(dict.fromkeys(shape for shape in shapes if isinstance(shape, BlockShape)))


@every_isa
@pytest.mark.parametrize("padding", ["torch", "same"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_blocks_of_other_networks(isa, dtype, padding):
    for shape in blocks_of_other_networks(padding):
        case, eager, truth = measured_case(shape, dtype)
        assert_accurate(case.run(), eager, truth)


# --- options ---


@every_isa
@pytest.mark.parametrize("kernel", KERNEL_SIZES)
@pytest.mark.parametrize("activation", ["hardswish", "silu"])
def test_kernels_and_curves(isa, kernel, activation):
    shape = BlockShape(8, 14, 13, 24, 72, 24, padding=symmetric_padding(kernel), kernel=kernel, residual=True)
    shape = replace(shape, activation=activation, project_activation="hardswish")
    for dtype in DTYPES:
        case, eager, truth = measured_case(shape, dtype)
        assert_accurate(case.run(), eager, truth)


# --- special values ---


@every_isa
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_result_too_large_for_the_dtype_is_infinite(isa, dtype):
    case = make_case(replace(STRIDED, project_activation="none"), dtype)
    case.weights[PROJECT_SCALE].fill_(torch.finfo(dtype).max)
    y, truth = case.run(), case.reference(torch.float64)
    slack = torch.finfo(dtype).eps * truth.abs() + sixteen_bit_rounding(dtype) * case.magnitude()
    least, most = ((truth + side).float().to(dtype) for side in (-slack, slack))
    assert y.isinf().any()
    assert ((least <= y) & (y <= most)).all()


# --- anything else ---


gates = st.fixed_dictionaries(
    {
        "squeezed_channels": st.integers(1, 40),
        "squeeze_activation": st.sampled_from(ACTIVATIONS),
        "excite_activation": st.sampled_from(GATE_ACTIVATIONS),
    }
)


@st.composite
def block_cases(draw: st.DrawFn) -> Case:
    stride, kernel = draw(st.sampled_from((1, 2))), draw(st.sampled_from(KERNEL_SIZES))
    padding = draw(st.tuples(*[st.integers(0, kernel // 2)] * 4))
    height = draw(st.integers(max(kernel - padding[0] - padding[2], 1), 20))
    width = draw(st.integers(max(kernel - padding[1] - padding[3], 1), 20))
    in_channels, expanded_channels, out_channels = (draw(st.integers(1, 70)) for _ in range(3))
    expand = draw(st.booleans())
    may_add = stride == 1 and padding == symmetric_padding(kernel)
    residual = may_add and draw(st.booleans())
    shape = BlockShape(
        draw(st.integers(0, 3)),
        height,
        width,
        in_channels,
        expanded_channels if expand else in_channels,
        in_channels if residual else out_channels,
        stride=stride,
        padding=padding,
        kernel=kernel,
        activation=draw(st.sampled_from(ACTIVATIONS)),
        depthwise_activation=draw(st.sampled_from((None, *ACTIVATIONS))),
        **(draw(gates) if draw(st.booleans()) else {}),
        project_activation=draw(st.sampled_from(ACTIVATIONS)),
        residual=residual,
        expand=expand,
    )
    dtype = draw(st.sampled_from(DTYPES))
    return make_case(shape, dtype, scale=draw(st.booleans()), bias=draw(st.booleans()))


@pytest.mark.parametrize("forced_isa", SUPPORTED_ISAS)
def test_any_block(forced_isa):
    @given(case=block_cases(), layout=st.sampled_from(sorted(LAYOUTS)))
    def check(case: Case, layout: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MNV2_FORCE_ISA", forced_isa)
            assert_within_rounding(case, case.run(LAYOUTS[layout](case.x)))

    check()
