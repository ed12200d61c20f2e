"""The Triton kernels against eager and float64 torch: on a GPU where there is one, else in the interpreter.

Triton's interpreter multiplies bfloat16 as raw bits, so without a GPU that dtype is only compiled
(test_triton_compiled.py), and its packed format is tested by arithmetic in torch.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from cases import Case, make_case, measured_case, shape_id
from models import small
from tolerances import assert_accurate, assert_within_rounding

from mnv2_kernels.accuracy import MINIMUM_INPUTS
from mnv2_kernels.layer import join_layers, layer_of
from mnv2_kernels.shapes import BlockShape, HeadShape, StemShape

pytest.importorskip("triton", reason="Triton is not installed")

from mnv2_kernels.triton import operators
from mnv2_kernels.triton.configs import Config
from mnv2_kernels.triton.inverted_residual import block_launch
from mnv2_kernels.triton.packing import block_packing, pack_block_weights

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def run(case: Case, x: torch.Tensor | None = None) -> torch.Tensor:
    """The case's operator by Triton."""
    weights = [None if weight is None else weight.to(DEVICE) for weight in case.weights]
    x = case.x if x is None else x
    return getattr(operators, case.op)(x.to(DEVICE), *weights, **case.options).cpu()


def run_configured(case: Case, config: Config, shift: int = 0) -> torch.Tensor:
    """A block under a configuration; with a shift its windows lie that many columns too far to the right."""
    shape, x = case.shape, case.x
    packing = block_packing(shape, x.dtype)
    weights = [None if weight is None else weight.to(DEVICE) for weight in case.weights]
    packed = pack_block_weights(packing, tuple(weights[:3]), tuple(weights[3:6]), tuple(weights[6:]))
    size = (shape.batch, shape.out_channels, shape.out_height, shape.out_width)
    y = torch.full(size, torch.nan, dtype=x.dtype, device=DEVICE).to(memory_format=torch.channels_last)
    launch = block_launch(shape, packing, config, x.dtype, "ieee")
    *sizes, left = launch.sizes
    replace(launch, sizes=(*sizes, left - shift))(
        x.to(DEVICE).contiguous(memory_format=torch.channels_last), packed, y
    )
    return y.cpu()


# --- accuracy ---


CONFIGS = [Config("rows", 64, 16, 16, 4, rows=rows) for rows in (1, 2, 4)] + [
    Config("tile", edge * edge if edge == 16 else 128, 32, 16, 8, tile=edge, exact=exact)
    for edge, exact in product((8, 16), (False, True))
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda each: f"{each.kind}-{each.rows}-{each.tile}-{each.exact}"
)
@pytest.mark.parametrize("stride", [1, 2])
def test_triton_every_kernel_around_its_edges(config, stride):
    """Sizes around a tile's edges and channels off every step."""
    for height, width in ((1, 1), (7, 8), (16, 9)):
        shape = BlockShape(1, height, width, 20, 40, 20, stride=stride, residual=stride == 1)
        case = make_case(shape, torch.float32)
        assert_within_rounding(case, run_configured(case, config))


def test_triton_outputs_in_groups():
    """More output channels than the registers hold."""
    case = make_case(BlockShape(1, 3, 3, 16, 16, 70), torch.float32)
    config = Config("tile", 64, 16, 16, 8, tile=8, outputs=32)
    assert_within_rounding(case, run_configured(case, config))


def test_triton_more_input_channels_than_stay_on_the_chip():
    case = make_case(BlockShape(1, 3, 3, 70, 16, 20), torch.float32)
    assert_within_rounding(case, run_configured(case, Config("tile", 64, 16, 32, 8, tile=8, resident=64)))


@pytest.mark.parametrize("config", [CONFIGS[1], CONFIGS[3]], ids=lambda each: each.kind)
def test_triton_a_shifted_halo_is_noticed(config):
    case = make_case(BlockShape(1, 7, 9, 16, 32, 16), torch.float32)
    assert_within_rounding(case, run_configured(case, config))
    with pytest.raises(AssertionError, match="times the bound"):
        assert_within_rounding(case, run_configured(case, config, shift=1))


def test_triton_bfloat16_packing_keeps_the_rule():
    """The roundings of the packed weights, in torch's arithmetic."""
    shape = BlockShape(MINIMUM_INPUTS, 14, 14, 24, 144, 24)
    case, eager, truth = measured_case(shape, torch.bfloat16)
    packing = block_packing(shape, torch.bfloat16)
    weights = case.weights
    packed = pack_block_weights(packing, weights[:3], weights[3:6], weights[6:])
    expand, project, _, expand_bias, _, taps, _, bias, scale, last = (
        section.float() for section in packing.sections(packed)
    )
    wide = expand_bias.numel()
    e = torch.einsum("nkhw,kc->nchw", case.x.float(), expand.view(-1, wide)[:24]) + expand_bias.view(-1, 1, 1)
    kernel = taps.view(9, wide).T.reshape(wide, 1, 3, 3)
    d = torch.conv2d(e.clamp(0, 1), kernel, padding=1, groups=wide) + bias.view(-1, 1, 1)
    d = d.clamp(0, 1).bfloat16().float()
    y = torch.einsum("nchw,co->nohw", d, project.view(wide, -1)) * scale.view(-1, 1, 1) + last.view(-1, 1, 1)
    assert_accurate(y[:, :24].bfloat16(), eager, truth)


# --- options ---


# --- special values ---


# --- bits ---


@pytest.mark.parametrize(
    "changed", [{"activation": "gelu"}, {"in_channels": -1}, {"out_channels": 0}], ids=str
)
@pytest.mark.parametrize(
    "shape", [BlockShape(1, 4, 4, 8, 16, 8), StemShape(1, 4, 4, 3, 8), HeadShape(1, 4, 4, 8, 8)], ids=shape_id
)
def test_triton_refuses_layers_as_the_cpu_does(shape, changed):
    case = make_case(shape)
    layers, packed = str(replace(layer_of(shape), **changed)), torch.zeros(64, dtype=torch.uint8)
    for x in (case.x, case.x[0]):
        messages = []
        for run_it in (torch.ops.mnv2.run, operators.run):
            with pytest.raises(RuntimeError) as raised:
                run_it(x, packed, layers=layers)
            messages.append(str(raised.value))
        assert messages[0] == messages[1]


def test_triton_chains_have_the_bits_of_their_layers():
    model = small().half()
    fusions = [unit.fusion() for unit in (*model.features, model.classifier)]
    results = [torch.randn(2, 3, 19, 14).half().to(DEVICE)]
    weights = [[None if each is None else each.to(DEVICE) for each in fusion.weights()] for fusion in fusions]
    for fusion, given in zip(fusions, weights, strict=True):
        layers = str(fusion.layer)
        results.append(operators.run(results[-1], operators.pack(given, layers=layers), layers=layers))
    end = len(fusions)
    for first, last in ((0, end), (1, 3), (end - 2, end)):
        layers = join_layers(fusion.layer for fusion in fusions[first:last])
        packed = operators.pack([each for given in weights[first:last] for each in given], layers=layers)
        assert torch.equal(operators.run(results[first], packed, layers=layers), results[last])
