"""What holds bit by bit for every operator: layouts, batches, threads, packed and half-precision weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cases import DTYPES, LAYOUTS, Case, make_case, shape_id
from conftest import every_float32_isa, every_isa
from tolerances import sixteen_bit_rounding

from mnv2_kernels.shapes import BlockShape, HeadShape, StemShape

SHAPES = (
    BlockShape(3, 9, 11, 17, 52, 17, residual=True),
    BlockShape(3, 9, 11, 16, 96, 24, stride=2),
    BlockShape(3, 8, 5, 19, 19, 12, expand=False),
    BlockShape(3, 7, 7, 40, 240, 40, residual=True),
    StemShape(3, 11, 14, 3, 32),
    HeadShape(3, 7, 7, 56, 100),
)
# Enough rows and channels for several strips, chunks and segments.
LARGE_SHAPES = (
    BlockShape(1, 40, 33, 24, 144, 24, residual=True),
    BlockShape(2, 37, 41, 16, 96, 24, stride=2),
    BlockShape(1, 14, 14, 96, 576, 96, residual=True),
    BlockShape(1, 7, 7, 160, 960, 320),
    BlockShape(5, 28, 28, 32, 32, 16, expand=False),
    StemShape(1, 65, 64, 3, 32),
    HeadShape(1, 7, 7, 160, 1280),
)

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=shape_id)


# --- layouts ---


@every_isa
@every_shape
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_layout_changes_no_bit(isa, dtype, layout, shape):
    case = make_case(shape, dtype)
    x = LAYOUTS[layout](case.x)
    before = _all_bytes(x).clone()
    y = case.run(x)
    assert torch.equal(y, case.run())
    assert not y.isnan().any()
    assert torch.equal(before, _all_bytes(x)), "the input was written to"


def _all_bytes(x: torch.Tensor) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(x.untyped_storage())


@every_shape
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_are_channels_last(shape, dtype):
    case = make_case(shape, dtype)
    memory_format = torch.contiguous_format if isinstance(shape, HeadShape) else torch.channels_last
    for layout in LAYOUTS.values():
        y = case.run(layout(case.x))
        assert y.is_contiguous(memory_format=memory_format)
        assert y.dtype == dtype


@every_shape
def test_weights_may_lie_anywhere(shape):
    case = make_case(shape)
    scattered = tuple(None if weight is None else _scattered(weight) for weight in case.weights)
    assert not any(weight is not None and weight.is_contiguous() for weight in scattered)
    assert torch.equal(Case(shape, case.x, scattered).run(), case.run())


def _scattered(weight: torch.Tensor) -> torch.Tensor:
    return weight.new_full((*weight.shape, 2), float("nan"))[..., 1].copy_(weight)


# --- batches and threads ---


@pytest.mark.slow
@every_isa
@pytest.mark.parametrize("shape", SHAPES + LARGE_SHAPES, ids=shape_id)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_image_has_the_same_bits_in_every_batch(isa, dtype, shape, set_threads):
    case = make_case(shape, dtype)
    x = torch.cat([case.x, case.x.flip(0), -case.x])
    set_threads(2)
    together = case.run(x)
    for index in range(len(x)):
        assert torch.equal(together[index], case.run(x[index : index + 1])[0])


def test_calls_from_several_python_threads(set_threads):
    set_threads(2)
    cases = [make_case(shape) for shape in SHAPES + LARGE_SHAPES]
    expected = [case.run() for case in cases]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for y, alone in zip(pool.map(Case.run, cases), expected, strict=True):
                assert torch.equal(y, alone)


# --- weights ---


@every_isa
@every_shape
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_packed_weights_give_the_same_bits(isa, dtype, shape):
    case = make_case(shape, dtype)
    packed = case.pack()
    assert packed.dtype == torch.uint8
    assert packed.dim() == 1
    assert torch.equal(case.run_packed(packed), case.run())


@every_float32_isa
@every_shape
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_float32_weights_serve_inputs_of_every_dtype(isa, dtype, shape):
    case = make_case(shape)
    x = case.x.to(dtype)
    assert torch.equal(case.run_packed(case.pack(), x), case.run(x))
    assert case.run(x).dtype == dtype


@every_isa
@every_shape
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_weights_are_widened_exactly(isa, dtype, shape):
    if sixteen_bit_rounding(dtype):
        pytest.skip(f"{isa} multiplies {dtype} as it is")
    case = make_case(shape, dtype)
    wide = Case(shape, case.x, tuple(None if weight is None else weight.float() for weight in case.weights))
    assert torch.equal(case.pack(), wide.pack())
    assert torch.equal(case.run(), wide.run())
