"""mnv2::stem and mnv2::head_pool against eager and float64 torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cases import (
    CLAMPS,
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

from mnv2_kernels.shapes import HeadShape, StemShape, mobilenet_v2

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
@pytest.mark.parametrize("activation", CLAMPS)
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


# --- special values ---


# --- anything else ---


@st.composite
def stem_cases(draw: st.DrawFn) -> Case:
    padding = draw(st.tuples(*[st.integers(0, 1)] * 4))
    shape = StemShape(
        draw(st.integers(0, 3)),
        draw(st.integers(3 - padding[0] - padding[2], 20)),
        draw(st.integers(3 - padding[1] - padding[3], 20)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 70)),
        stride=draw(st.sampled_from((1, 2))),
        padding=padding,
        activation=draw(st.sampled_from(CLAMPS)),
    )
    dtype = draw(st.sampled_from(DTYPES))
    return make_case(shape, dtype, scale=draw(st.booleans()), bias=draw(st.booleans()))


@st.composite
def head_cases(draw: st.DrawFn) -> Case:
    batch, height, width = draw(st.integers(0, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    channels = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    shape = HeadShape(batch, height, width, *channels, activation=draw(st.sampled_from(CLAMPS)))
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
