"""mnv2::stem and mnv2::head_pool against eager and float64 torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cases import (
    DTYPES,
    LAYOUTS,
    WIDTHS,
    Case,
    make_case,
    measured_case,
    odd_heads,
    odd_stems,
    shape_id,
)
from conftest import SUPPORTED_ISAS, every_float32_isa, every_isa
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_accurate, assert_within_rounding

from mnv2_kernels import reference
from mnv2_kernels.layer import join_layers
from mnv2_kernels.networks import layers_of
from mnv2_kernels.shapes import (
    ACTIVATIONS,
    KERNEL_SIZES,
    HeadShape,
    StemShape,
    mobilenet_v2,
    symmetric_padding,
)

# --- accuracy ---


@every_isa
@pytest.mark.parametrize("padding", ["torch", "same"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_stem_and_head_of_every_width(isa, width, dtype, padding):
    network = mobilenet_v2(width, 32, 8, padding)
    for shape in (network.stem, replace(network.head, height=7, width=7)):
        case, eager, truth = measured_case(shape, dtype)
        assert_accurate(case.run(), eager, truth)


@every_float32_isa
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("channels", "height", "width"), [(16, 31, 40), (320, 96, 96)])
def test_a_head_adds_up_many_pixels(isa, channels, height, width, activation):
    shape = HeadShape(8, height, width, channels, 16, activation=activation)
    case, eager, truth = measured_case(shape, torch.float32)
    assert_accurate(case.run(), eager, truth)


@every_isa
@pytest.mark.parametrize("shape", [*odd_stems(), *odd_heads()], ids=shape_id)
def test_odd_sizes_and_channels(isa, shape):
    for dtype in DTYPES:
        case, eager, truth = measured_case(shape, dtype)
        assert_accurate(case.run(), eager, truth)


# --- options ---


@every_isa
@pytest.mark.parametrize("kernel", KERNEL_SIZES)
@pytest.mark.parametrize("activation", ["hardswish", "silu"])
def test_stems_of_other_networks(isa, kernel, activation):
    for channels in (16, 24, 40, 64):
        window = {"kernel": kernel, "padding": symmetric_padding(kernel), "activation": activation}
        for dtype in DTYPES:
            case, eager, truth = measured_case(StemShape(8, 17, 20, 3, channels, **window), dtype)
            assert_accurate(case.run(), eager, truth)


@every_isa
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_linear_layer_with_an_activation(isa, dtype, activation):
    generator = torch.Generator().manual_seed(0)
    sizes = ((64, 96), (77, 96), (77,))
    x, weight, bias = (torch.randn(size, generator=generator).to(dtype) for size in sizes)
    weight = (weight.float() / 96**0.5).to(dtype)
    y = torch.ops.mnv2.linear(x, weight, bias, activation=activation)
    eager = reference.linear(x, weight, bias, activation=activation)
    truth = reference.linear(x.double(), weight.double(), bias.double(), activation=activation)
    assert_accurate(y, eager, truth)


def test_the_head_of_mobilenet_v3():
    """Pool, linear layer, activation, linear layer: one chain with the bits of its layers."""
    layers = layers_of("mobilenetv3_small")[-3:]
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator) / size[-1] ** 0.5

    weights = [normal(576, 96)[..., None, None], None, normal(576), normal(1024, 576), normal(1024)]
    weights += [normal(1000, 1024), None]
    x = torch.randn(3, 96, 7, 7, generator=generator)
    text = join_layers(layers)
    y = torch.ops.mnv2.run(x, torch.ops.mnv2.pack(weights, layers=text), layers=text)
    pooled = torch.ops.mnv2.head_pool(x, *weights[:3], activation="hardswish")
    wide = torch.ops.mnv2.linear(pooled, *weights[3:5], activation="hardswish")
    assert torch.equal(y, torch.ops.mnv2.linear(wide, *weights[5:]))


# --- special values ---


# --- anything else ---


@st.composite
def stem_cases(draw: st.DrawFn) -> Case:
    kernel = draw(st.sampled_from(KERNEL_SIZES))
    padding = draw(st.tuples(*[st.integers(0, kernel // 2)] * 4))
    shape = StemShape(
        draw(st.integers(0, 3)),
        draw(st.integers(max(kernel - padding[0] - padding[2], 1), 20)),
        draw(st.integers(max(kernel - padding[1] - padding[3], 1), 20)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 70)),
        stride=draw(st.sampled_from((1, 2))),
        padding=padding,
        kernel=kernel,
        activation=draw(st.sampled_from(ACTIVATIONS)),
    )
    dtype = draw(st.sampled_from(DTYPES))
    return make_case(shape, dtype, scale=draw(st.booleans()), bias=draw(st.booleans()))


@st.composite
def head_cases(draw: st.DrawFn) -> Case:
    batch, height, width = draw(st.integers(0, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    channels = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    shape = HeadShape(batch, height, width, *channels, activation=draw(st.sampled_from(ACTIVATIONS)))
    dtype = draw(st.sampled_from(DTYPES))
    return make_case(shape, dtype, scale=draw(st.booleans()), bias=draw(st.booleans()))


@pytest.mark.parametrize("forced_isa", SUPPORTED_ISAS)
def test_any_stem_or_head(forced_isa):
    @given(case=st.one_of(stem_cases(), head_cases()), layout=st.sampled_from(sorted(LAYOUTS)))
    def check(case: Case, layout: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MNV2_FORCE_ISA", forced_isa)
            assert_within_rounding(case, case.run(LAYOUTS[layout](case.x)))

    check()
