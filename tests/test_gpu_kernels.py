"""What CUDA's kernels and Triton's keep alike: on a GPU, or in the emulator and Triton's interpreter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
import torch
from cases import CLAMPS, DTYPES, LAYOUTS, Case, Shape, make_case, measured_case, network_blocks, shape_id
from hypothesis import given, settings
from test_block import block_cases
from tolerances import assert_accurate, assert_within_rounding, max_error
from torch import Tensor

from mnv2_kernels import reference
from mnv2_kernels.accuracy import MINIMUM_INPUTS
from mnv2_kernels.dtypes import dtype_name
from mnv2_kernels.shapes import (
    ACTIVATIONS,
    KERNEL_SIZES,
    BlockShape,
    HeadShape,
    StemShape,
    symmetric_padding,
)

WINDOW = {"kernel": 5, "padding": symmetric_padding(5)}
GATED = BlockShape(2, 7, 9, 12, 40, 12, residual=True, squeezed_channels=5, **WINDOW)

LINEAR = "linear in_channels=20 out_channels=7"

# Gives stages of 16, 8, 4, 2 and 1 pixels.
RESOLUTION = 32


@dataclass(frozen=True)
class Backend:
    ops: Any
    device: str
    dtypes: tuple[torch.dtype, ...]
    blocks: tuple[BlockShape, ...]  # one for each kernel
    is_slow: bool = False  # seconds for a block

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return (*self.blocks, StemShape(2, 11, 14, 3, 32), HeadShape(2, 7, 7, 56, 96))

    def weights(self, case: Case) -> list[Tensor | None]:
        return [None if weight is None else weight.to(self.device) for weight in case.weights]

    def run(self, case: Case, x: Tensor | None = None) -> Tensor:
        x = (case.x if x is None else x).to(self.device)
        return getattr(self.ops, case.op)(x, *self.weights(case), **case.options).cpu()

    def run_packed(self, case: Case, x: Tensor | None = None) -> Tensor:
        x = (case.x if x is None else x).to(self.device)
        packed = self.ops.pack(self.weights(case), layers=case.layers)
        return self.ops.run(x, packed, layers=case.layers).cpu()


def cuda() -> Backend:
    import cuda_operators  # skips where there is neither a GPU nor the emulator

    blocks = (
        BlockShape(2, 7, 9, 24, 144, 24, residual=True),  # in registers
        BlockShape(2, 7, 9, 64, 384, 64, residual=True),  # in shared memory
        BlockShape(2, 8, 9, 20, 52, 12, stride=2),  # no multiples of eight
        BlockShape(2, 8, 9, 16, 16, 24, expand=False),
        GATED,
    )
    return Backend(cuda_operators.OPS, cuda_operators.DEVICE, DTYPES, blocks)


def triton() -> Backend:
    pytest.importorskip("triton", reason="Triton is not installed")
    from mnv2_kernels.triton import operators

    blocks = (
        BlockShape(2, 7, 9, 17, 52, 17, residual=True),  # exact, others clamp NaN to 0
        BlockShape(2, 8, 9, 16, 96, 24, stride=2),
        BlockShape(2, 7, 9, 24, 144, 24),
        BlockShape(2, 8, 9, 19, 19, 12, expand=False),
        GATED,
    )
    if torch.cuda.is_available():
        return Backend(operators, "cuda", DTYPES, blocks)
    # The interpreter multiplies bfloat16 as raw bits.
    return Backend(operators, "cpu", (torch.float32, torch.float16), blocks, is_slow=True)


@pytest.fixture(scope="module", params=[cuda, triton], ids=lambda make: make.__name__)
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param()


every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


def check_accuracy(backend: Backend, shape: Shape, dtype: torch.dtype) -> None:
    if dtype not in backend.dtypes:
        pytest.skip("not in Triton's interpreter")
    case, eager, truth = measured_case(replace(shape, batch=MINIMUM_INPUTS), dtype)
    assert_accurate(backend.run(case), eager, truth)


def check_option(backend: Backend, shape: Shape, **parts: bool) -> None:
    if backend.is_slow:
        case = make_case(replace(shape, batch=1), torch.float32, **parts)
        assert_within_rounding(case, backend.run(case))
    else:
        case = make_case(replace(shape, batch=MINIMUM_INPUTS), torch.float16, **parts)
        assert_accurate(backend.run(case), case.reference(), case.reference(torch.float64))


# --- accuracy ---


@pytest.mark.slow
@pytest.mark.parametrize("shape", network_blocks(1.0, RESOLUTION), ids=shape_id)
@every_dtype
def test_every_block_of_the_network(backend: Backend, shape: BlockShape, dtype: torch.dtype) -> None:
    if backend.is_slow and dtype == torch.float32:
        pytest.skip("takes long; test_small_layers has float32")
    check_accuracy(backend, shape, dtype)


@every_dtype
@pytest.mark.parametrize(
    "shape",
    [
        BlockShape(1, 5, 7, 24, 48, 24, residual=True),
        BlockShape(1, 4, 4, 96, 32, 40, stride=2),
        BlockShape(1, 4, 5, 24, 24, 16, expand=False),
        BlockShape(1, 7, 8, 16, 40, 24, activation="silu", squeezed_channels=8, **WINDOW),
        BlockShape(1, 6, 7, 20, 20, 16, activation="hardswish", squeezed_channels=6, stride=2, expand=False),
        BlockShape(1, 8, 8, 16, 36, 16, kernel=7, padding=(3,) * 4, depthwise_activation="hardswish"),
        StemShape(1, 11, 14, 3, 32),
        StemShape(1, 11, 14, 3, 16, activation="hardswish"),
        StemShape(1, 9, 10, 3, 24, activation="silu", **WINDOW),
        StemShape(1, 9, 9, 4, 51, stride=1),
        HeadShape(1, 7, 7, 56, 96),
        HeadShape(1, 7, 7, 48, 64, activation="hardswish"),
        HeadShape(1, 9, 9, 3, 17),
    ],
    ids=shape_id,
)
def test_small_layers(backend: Backend, shape: Shape, dtype: torch.dtype) -> None:
    check_accuracy(backend, shape, dtype)


def test_float32_weights_serve_images_of_16_bits(backend: Backend) -> None:
    case = make_case(BlockShape(MINIMUM_INPUTS, 5, 4, 16, 96, 24, stride=2), torch.float16)
    wide = Case(case.shape, case.x, tuple(weight.float() for weight in case.weights))
    y, truth = backend.run_packed(wide), case.reference(torch.float64)
    assert max_error(y, truth) <= 2 * max_error(case.reference(), truth)


# --- options ---


@pytest.mark.parametrize("padding", [(0, 0, 1, 1), (1, 0, 0, 1), (0, 0, 0, 0)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_padding(backend: Backend, stride: int, padding: tuple[int, ...]) -> None:
    for channels in (32, 80, 20):
        check_option(backend, BlockShape(1, 6, 5, channels, 48, 32, stride=stride, padding=padding))


@pytest.mark.parametrize(("activation", "other"), list(product(ACTIVATIONS, repeat=2)))
def test_activations(backend: Backend, activation: str, other: str) -> None:
    shape = BlockShape(1, 5, 6, 24, 48, 24, residual=True, activation=activation)
    check_option(backend, replace(shape, project_activation=other))
    if other != activation:
        check_option(backend, replace(shape, depthwise_activation=other))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", KERNEL_SIZES)
def test_windows_and_gates(backend: Backend, kernel: int, stride: int) -> None:
    rim = kernel // 2
    shape = BlockShape(1, 9, 8, 16, 40, 24, stride=stride, kernel=kernel, padding=(rim, 1, 0, rim))
    check_option(backend, shape)
    gate = {"squeezed_channels": 7, "squeeze_activation": "hardswish", "excite_activation": "hardsigmoid"}
    check_option(backend, replace(shape, **gate))
    check_option(backend, replace(shape, in_channels=40, expand=False, **gate))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_stems_and_heads(backend: Backend, activation: str) -> None:
    for kernel, stride in product(KERNEL_SIZES, (1, 2)):
        padding = (kernel // 2, 1, 0, kernel // 2)
        shape = StemShape(1, 9, 11, 3, 24, stride=stride, kernel=kernel, padding=padding)
        check_option(backend, replace(shape, activation=activation))
    check_option(backend, HeadShape(1, 5, 6, 24, 40, activation=activation))


@pytest.mark.slow
def test_any_block(backend: Backend) -> None:
    @settings(max_examples=15 if backend.is_slow else 100)
    @given(case=block_cases())
    def check(case: Case) -> None:
        weights = tuple(None if each is None else each.float() for each in case.weights)
        exact = Case(case.shape, case.x.float(), weights)
        assert_within_rounding(exact, backend.run(exact))

    check()


@pytest.mark.parametrize(("scale", "bias"), [(True, False), (False, True), (False, False)])
def test_a_missing_scale_is_1_and_a_missing_bias_0(backend: Backend, scale: bool, bias: bool) -> None:
    for shape in backend.shapes:
        check_option(backend, shape, scale=scale, bias=bias)


# --- special values ---


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("activation", CLAMPS)
@pytest.mark.parametrize("special", ["nan", "inf", "-inf"])
def test_special_values_spread_as_in_torch(backend: Backend, special: str, activation: str) -> None:
    for shape in backend.blocks:
        case = make_case(replace(shape, activation=activation), torch.float16)
        case.x[0, 3, 2, 4] = float(special)
        case.x[1, 5, 6, 8] = float(special)
        truth = case.reference(torch.float64)
        torch.testing.assert_close(backend.run(case).double(), truth, rtol=4e-3, atol=2e-2, equal_nan=True)


@pytest.mark.parametrize("weight", [0, 1, 3, 5])
def test_a_nan_among_the_weights_reaches_every_result(backend: Backend, weight: int) -> None:
    """A clamp to [0, 1] would hide it."""
    for channels in (24, 64, 20):
        case = make_case(BlockShape(1, 3, 4, channels, 48, channels), torch.float16)
        case.weights[weight].view(-1)[0] = torch.nan
        assert case.reference().isnan().all()
        assert backend.run(case).isnan().all()


# --- bits ---


@pytest.mark.slow
@pytest.mark.parametrize("index", range(7))
def test_packed_weights_and_batches_change_no_bit(backend: Backend, index: int) -> None:
    for dtype in (torch.float16,) if backend.is_slow else DTYPES:
        case = make_case(backend.shapes[index], dtype)
        expected = backend.run(case)
        assert torch.equal(backend.run_packed(case), expected)
        assert torch.equal(backend.run(case, case.x[1:]), expected[1:])


@pytest.mark.slow
@pytest.mark.parametrize("index", range(7))
def test_a_layout_changes_no_bit(backend: Backend, index: int) -> None:
    case = make_case(replace(backend.shapes[index], batch=1), torch.float16)
    expected = backend.run(case)
    for layout in LAYOUTS.values():
        assert torch.equal(backend.run(case, layout(case.x)), expected)


def test_results_are_channels_last_and_empty_batches_work(backend: Backend) -> None:
    for shape in backend.shapes:
        case = make_case(shape, torch.float16)
        empty = backend.run(case, case.x[:0])
        assert (empty.shape, empty.dtype) == ((0, *case.reference().shape[1:]), torch.float16)
        memory_format = torch.contiguous_format if isinstance(shape, HeadShape) else torch.channels_last
        assert backend.run(case, case.x[:1]).is_contiguous(memory_format=memory_format)


# --- linear: torch's own ---


@every_dtype
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_is_torchs_own(backend: Backend, dtype: torch.dtype, has_bias: bool) -> None:
    x, weight, bias = (torch.randn(size).to(backend.device, dtype) for size in ((3, 20), (7, 20), (7,)))
    bias = bias if has_bias else None
    expected = torch.nn.functional.linear(x, weight, bias)
    packed = backend.ops.pack([weight, bias], layers=LINEAR)
    torch.testing.assert_close(backend.ops.linear(x, weight, bias), expected)
    torch.testing.assert_close(backend.ops.run(x, packed, layers=LINEAR), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_layers_with_an_activation_and_one_behind_another(backend: Backend, activation: str) -> None:
    x, weight, last = (torch.randn(size).to(backend.device) for size in ((3, 20), (7, 20), (4, 7)))
    bias = torch.randn(7).to(backend.device)
    expected = reference.linear(x, weight, bias, activation=activation)
    torch.testing.assert_close(backend.ops.linear(x, weight, bias, activation=activation), expected)
    layers = f"{LINEAR} activation={activation}; linear in_channels=7 out_channels=4"
    packed = backend.ops.pack([weight, bias, last, None], layers=layers)
    torch.testing.assert_close(backend.ops.run(x, packed, layers=layers), expected @ last.T)
