"""Int8: the reference against whole-number arithmetic of its own, the recipe, the state."""

from __future__ import annotations

import copy
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import int8_accuracy
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from models import changed, small
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mnv2_kernels import FusedMobileNetV2, QuantizedMobileNetV2, _native, quantization_report, quantize
from mnv2_kernels.processor import FORCE_ISA_VARIABLE
from mnv2_kernels.quantization import reference_int8
from mnv2_kernels.quantization.agreement import Agreement, agreement
from mnv2_kernels.quantization.calibration import Passing, _fill_convolutions, corrected
from mnv2_kernels.quantization.network import QuantizedLayer
from mnv2_kernels.quantization.quantize import float_layers
from mnv2_kernels.quantization.reference_int8 import Convolution
from mnv2_kernels.quantization.report import decibels
from mnv2_kernels.quantization.rounding import LONGEST_SUM, Grid, RoundedWeights
from mnv2_kernels.shapes import same_padding_2d
from mnv2_kernels.weights.photos import load_photos
from mnv2_kernels.weights.sources import has_data, load_network
from mnv2_kernels.weights.views import ENHANCED

FEW_WARNING = "calibration images are few"
SIZE = (33, 26)

pytestmark = pytest.mark.filterwarnings(f"ignore:quantize. .* {FEW_WARNING}")


# --- the arithmetic, once more: Python's whole numbers and fractions, one output at a time ---


def to_float32(value: Fraction | int) -> float:
    """Nearest, ties to even; Fraction's round is that of whole numbers."""
    value = Fraction(value)
    if value == 0:
        return 0.0
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    exponent -= abs(value) < Fraction(2) ** exponent
    step = Fraction(2) ** (max(exponent, -126) - 23)
    return float(round(value / step) * step)


def exact_fma(a: float, b: float, c: float) -> float:
    return to_float32(Fraction(a) * Fraction(b) + Fraction(c))


def byte(total: int, multiplier: float, bias: float, shortcut: tuple[int, float] | None = None) -> int:
    y = exact_fma(to_float32(total), multiplier, bias)
    if shortcut is not None:
        y = exact_fma(shortcut[0], shortcut[1], y)
    return min(max(round(Fraction(y)), 0), 255)


def convolved(
    x: Tensor,
    conv: Convolution,
    *,
    depthwise: bool = False,
    stride: int = 1,
    padding: Sequence[int] = (0, 0, 0, 0),
    pad: Sequence[int] | None = None,
    residual: Tensor | None = None,
    shortcut: Tensor | None = None,
) -> Tensor:
    n, channels, height, width = x.shape
    outputs, _, kernel, _ = conv.weight.shape
    top, left, bottom, right = padding
    rows = (height + top + bottom - kernel) // stride + 1
    columns = (width + left + right - kernel) // stride + 1
    image, weight = x.tolist(), conv.weight.tolist()
    multiplier, bias = conv.multiplier.tolist(), conv.bias.tolist()

    def pixel(i: int, c: int, y: int, z: int) -> int:
        inside = 0 <= y < height and 0 <= z < width
        return image[i][c][y][z] if inside else 0 if pad is None else pad[c]

    def output(i: int, o: int, y: int, z: int) -> int:
        total = 0
        for at, c in enumerate([o] if depthwise else range(channels)):
            for row in range(kernel):
                for column in range(kernel):
                    q = pixel(i, c, y * stride - top + row, z * stride - left + column)
                    total += weight[o][at][row][column] * q
        added = None if shortcut is None else (int(residual[i, o, y, z]), shortcut[o].item())
        return byte(total, multiplier[o], bias[o], added)

    result = [
        [[[output(i, o, y, z) for z in range(columns)] for y in range(rows)] for o in range(outputs)]
        for i in range(n)
    ]
    return torch.tensor(result, dtype=torch.uint8)


def random_bytes(*shape: int) -> Tensor:
    """With more 0 and 255 than chance has."""
    return (torch.rand(shape) * 300 - 22).round().clamp(0, 255).to(torch.uint8)


def random_convolution(outputs: int, *rest: int) -> Convolution:
    """With results on both sides of the bytes' range, a channel of zeros and one of the largest weights."""
    weight = torch.randint(-127, 128, (outputs, *rest), dtype=torch.int8)
    weight[0] = 0
    weight[-1] = 127
    multiplier = (torch.rand(outputs) + 0.5) / (100 * math.prod(rest) ** 0.5)
    return Convolution(weight, multiplier, torch.rand(outputs) * 300)


@given(*[st.floats(width=32, min_value=-(2.0**40), max_value=2.0**40) for _ in range(3)])
def test_fma_rounds_once(a: float, b: float, c: float) -> None:
    result = reference_int8.fma(*(torch.tensor([each]) for each in (a, b, c)))
    assert result.dtype == torch.float32
    assert result.item() == exact_fma(a, b, c)


@pytest.mark.parametrize("sign", [1, -1])
def test_fma_takes_no_false_tie(sign: int) -> None:
    """Float64 rounds this sum to the middle of two float32 numbers, and float32 that to the wrong one."""
    tiny = 2.0**-23
    a, b, c = sign * (1 + tiny) / 2**12, (1 - tiny) / 2**12, sign * (1 + tiny)
    correct = exact_fma(a, b, c)
    assert torch.tensor(a * b + c, dtype=torch.float64).float().item() != correct
    assert reference_int8.fma(*(torch.tensor([each]) for each in (a, b, c))).item() == correct


def test_results_in_the_middle_go_to_the_even_number() -> None:
    sums = torch.arange(-4, 520, dtype=torch.int32).view(1, 1, 1, -1)
    conv = Convolution(torch.zeros(1, 1, 1, 1, dtype=torch.int8), torch.tensor([0.5]), torch.tensor([0.0]))
    wanted = [byte(each, 0.5, 0.0) for each in range(-4, 520)]
    assert reference_int8.requantise(sums, conv).flatten().tolist() == wanted
    assert wanted[4:10] == [0, 0, 1, 2, 2, 2]  # 0, 0.5, 1, 1.5, 2, 2.5
    assert wanted[-1] == 255


def test_the_last_rounding_is_the_only_one() -> None:
    """Products that float32 would round to 128.5, from which the even number is another."""
    factor = torch.nextafter(torch.tensor([128.5 / 3]), torch.tensor([math.inf]))
    bias = torch.tensor([-128.0])
    three, nothing = (torch.full((1, 1, 1, 1), each, dtype=torch.int32) for each in (3, 0))
    conv = Convolution(torch.zeros(1, 1, 1, 1, dtype=torch.int8), factor, bias)
    assert byte(0, 1.0, -128.0, (3, factor.item())) == 1 != (3 * factor + bias).round()
    assert reference_int8.requantise(three, conv).item() == 1
    assert reference_int8.requantise(nothing, conv, three.byte(), factor).item() == 1


def test_sums_that_float32_does_not_hold_go_to_the_nearest_even() -> None:
    conv = Convolution(
        torch.zeros(1, 1, 1, 1, dtype=torch.int8), torch.tensor([1.0]), torch.tensor([-(2.0**24)])
    )
    sums = torch.tensor([2**24 + 1, 2**24 + 3, 2**24 + 5], dtype=torch.int32).view(1, 1, 1, -1)
    assert reference_int8.requantise(sums, conv).flatten().tolist() == [0, 4, 4]


@pytest.mark.parametrize(("height", "width"), [(7, 5), (6, 8), (1, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("expand", [False, True])
def test_blocks(height: int, width: int, stride: int, same: bool, expand: bool) -> None:
    inp, expanded, out = (3, 7, 4) if expand else (5, 5, 4)
    x = random_bytes(2, inp, height, width)
    convs = [random_convolution(expanded, inp, 1, 1)] if expand else []
    convs += [random_convolution(expanded, 1, 3, 3), random_convolution(out, expanded, 1, 1)]
    padding = same_padding_2d(height, width, stride) if same else (1, 1, 1, 1)
    hidden = convolved(x, convs[0]) if expand else x
    hidden = convolved(hidden, convs[-2], depthwise=True, stride=stride, padding=padding)
    wanted = convolved(hidden, convs[-1])
    first = convs[0] if expand else None
    result = reference_int8.fused_block(x, first, *convs[-2:], stride=stride, padding=padding)
    assert torch.equal(result, wanted)
    assert wanted.unique().numel() > 4 or height == 1


def test_shortcut() -> None:
    x = random_bytes(1, 4, 5, 7)
    convs = [random_convolution(6, 4, 1, 1), random_convolution(6, 1, 3, 3), random_convolution(4, 6, 1, 1)]
    shortcut = torch.tensor([1.3, 0.5, 0.0, 3.7])
    convs[2] = convs[2]._replace(bias=convs[2].bias - 100 * shortcut)
    hidden = convolved(convolved(x, convs[0]), convs[1], depthwise=True, padding=(1, 1, 1, 1))
    wanted = convolved(hidden, convs[2], residual=x, shortcut=shortcut)
    assert torch.equal(reference_int8.fused_block(x, *convs, shortcut), wanted)
    assert not torch.equal(wanted, convolved(hidden, convs[2]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 0, 1, 1)])
def test_stem(channels: int, padding: tuple[int, int, int, int]) -> None:
    x, conv = random_bytes(2, channels, 9, 6), random_convolution(5, channels, 3, 3)
    pad = torch.tensor([128, 0, 255][:channels], dtype=torch.uint8)
    wanted = convolved(x, conv, stride=2, padding=padding, pad=pad.tolist())
    assert torch.equal(reference_int8.stem(x, conv, pad, padding=padding), wanted)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (1, 1), (3, 5)])
def test_head_and_linear(height: int, width: int) -> None:
    x, conv = random_bytes(2, 6, height, width), random_convolution(9, 6, 1, 1)
    pool = torch.tensor([1.7])
    hidden = convolved(x, conv)
    factor = to_float32(Fraction(pool.item()) / (height * width))
    pooled = [[byte(int(channel.int().sum()), factor, 0.0) for channel in image] for image in hidden]
    result = reference_int8.head_pool(x, conv, pool)
    assert result.tolist() == pooled

    linear = random_convolution(4, 9)._replace(bias=torch.randn(4))
    weights, numbers = (
        linear.weight.tolist(),
        zip(linear.multiplier.tolist(), linear.bias.tolist(), strict=True),
    )
    classes = list(zip(weights, numbers, strict=True))
    wanted = [
        [
            exact_fma(to_float32(sum(w * q for w, q in zip(row, features, strict=True))), *number)
            for row, number in classes
        ]
        for features in pooled
    ]
    assert reference_int8.linear(result, linear).tolist() == wanted


def test_the_pool_divides_before_it_multiplies() -> None:
    """Averages in the middle of two bytes, whose factor float32 does not hold."""
    pixels = 14
    sums = torch.arange(pixels // 2, 255 * pixels, pixels)
    x = (sums // pixels).byte().repeat(pixels, 1).T.clone()
    x[:, : pixels // 2] += 1
    result = reference_int8.average(x.view(1, len(sums), 2, 7), torch.ones(1))
    wanted = [byte(int(each), to_float32(Fraction(1, pixels)), 0.0) for each in sums]
    assert result[0].tolist() == wanted != (sums / pixels).round().tolist()


def test_the_longest_sums_fit() -> None:
    x = torch.full((1, 2048, 1, 1), 255, dtype=torch.uint8)
    weight = torch.full((2, 2048, 1, 1), 127, dtype=torch.int8)
    weight[1] = -127
    assert reference_int8.accumulate(x, weight).flatten().tolist() == [2048 * 255 * 127, -2048 * 255 * 127]


# --- grids and weights ---


def test_zero_points_at_both_ends() -> None:
    grid = Grid.of_range(torch.tensor([1.0, -3.0, -1.0, 0.0]), torch.tensor([2.0, -1.0, 3.0, 0.0]))
    assert grid.zero_point.tolist() == [0, 255, 64, 0]
    assert grid.scale[3] == 1
    zeros = grid.bytes_of(torch.zeros(1, 4, 1, 1))
    assert grid.real(zeros).eq(0).all()
    ends = torch.tensor([[2.0, -3.0, 9.0, 300.0], [-1.0, 1.0, -9.0, -1.0]]).view(2, 4, 1, 1)
    assert grid.bytes_of(ends).flatten(1).tolist() == [[255, 0, 255, 255], [0, 255, 0, 0]]
    assert grid.clipped(ends).flatten(1).tolist() == [[False, False, True, True], [True, True, True, True]]


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("depthwise", [False, True])
def test_scales_and_zero_points_fold_into_multiplier_and_bias(depthwise: bool, shortcut: bool) -> None:
    """The result in steps of the output is that of the real numbers which the bytes stand for."""
    channels = 6
    low = torch.tensor([-1.0, 0.0, -3.0, -2.0, 0.0, -0.5])
    source = Grid.of_range(low, torch.tensor([1.0, 2.0, 0.0, 5.0, 0.7, 0.1]))
    target = Grid.of_range(torch.arange(-65.0, -59), torch.arange(55.0, 61))
    weight = torch.randn(channels, 1 if depthwise else channels, 1, 1).double()
    weight[2] = 0
    bias = torch.randn(channels).double()
    rounded = RoundedWeights.nearest(weight, bias, source, depthwise)
    conv, factor = rounded.onto(target, source if shortcut else None)
    q = random_bytes(4, channels, 5, 5)
    real = (rounded.weight * rounded.scale.view(-1, 1, 1, 1)) / (
        source.scale.double().view((-1, 1, 1, 1) if depthwise else (1, -1, 1, 1))
    )
    wanted = F.conv2d(source.real(q).double(), real, bias, groups=channels if depthwise else 1)
    wanted += source.real(q) if shortcut else 0
    sums = reference_int8.accumulate(q, conv.weight, depthwise=depthwise)
    result = target.real(reference_int8.requantise(sums, conv, q, factor)).double()
    inside = ~target.clipped(wanted)
    step = target.scale.view(-1, 1, 1).double()
    assert ((result - wanted).abs() <= 0.501 * step)[inside].all()
    assert inside.double().mean() > 0.8
    assert (real - weight).abs().max() <= (rounded.scale / source.scale.double().min()).max() / 2


def test_what_might_leave_int32_is_refused() -> None:
    one, grid = torch.ones(1), Grid.of_relu6(1)
    many = torch.ones(1, LONGEST_SUM + 1, 1, 1)
    bytes_ = Grid(torch.ones(LONGEST_SUM + 1), torch.zeros(LONGEST_SUM + 1))
    with pytest.raises(ValueError, match=rf"at most {LONGEST_SUM} products"):
        RoundedWeights.nearest(many, one, bytes_).onto(grid)
    for weight in (1e9, math.nan):
        with pytest.raises(ValueError, match=r"less than 2\^31 steps"):
            RoundedWeights.nearest(torch.full((1, 1, 1, 1), 1.0), one * weight, grid).onto(grid)


def test_correction_finds_gain_and_mean() -> None:
    sums = [torch.randint(-1000, 1000, (3, 4, 5, 5), dtype=torch.int32) for _ in range(2)]
    for each in sums:
        each[:, 1] = 17  # no variance
    weights = RoundedWeights(
        *(torch.zeros(4, 1, 1, 1, dtype=torch.int8), torch.full((4,), 0.01).double()),
        *(torch.zeros(4).double(), torch.tensor([5.0, 0, 0, 0]).double()),
    )
    gains = torch.tensor([0.9, 0.7, 1.2, 7.0]).view(-1, 1, 1)
    wanted = [(0.01 * gains * each + 3).float() for each in sums]
    result = corrected(weights, sums, wanted)
    torch.testing.assert_close(
        result.scale / 0.01, torch.tensor([0.9, 1.0, 1.2, 1.5]).double(), atol=1e-6, rtol=0
    )
    for a, y in zip(sums, wanted, strict=True):
        got = result.scale.view(-1, 1, 1) * (a - result.zero_sum.view(-1, 1, 1)) + result.bias.view(-1, 1, 1)
        torch.testing.assert_close(got[:, :3], y[:, :3].double(), atol=1e-5, rtol=0)


def test_a_project_makes_up_for_the_shortcut() -> None:
    own = float_layers(small())["features.3"]
    channels, expanded = own.layer.out_channels, own.layer.expanded_channels
    assert own.layer.residual
    exact = torch.randn(8, channels, 9, 9)
    source, target = (
        Grid.of_range(torch.full((channels,), -r), torch.full((channels,), r)) for r in (4.0, 9.0)
    )
    targets = {"expand": Grid.of_relu6(expanded), "depthwise": Grid.of_relu6(expanded), "project": target}
    images = Passing([exact], [source.bytes_of(exact + 0.5)])
    with torch.no_grad():
        result = _fill_convolutions(QuantizedLayer(own.layer), own, source, targets, images)
    error = target.real(result.quantised[0]) - result.exact[0]
    assert error.mean((0, 2, 3)).abs().max() < 0.02


# --- networks ---


def photographs(count: int, size: tuple[int, int] = SIZE, channels: int = 3, seed: int = 0) -> Tensor:
    """Bytes as smooth as photographs."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 7, 7, generator=generator)
    smooth = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    return (255 * smooth + 8 * torch.randn(smooth.shape, generator=generator)).round().clamp(0, 255).byte()


def in_float(model: nn.Module, quantised: QuantizedMobileNetV2, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(quantised.image_grid.real(images))


def sqnr(got: Tensor, want: Tensor) -> float:
    got, want = (each.double() - each.double().mean(1, keepdim=True) for each in (got, want))
    return decibels(want.square().sum().item(), (got - want).square().sum().item())


def with_relu(model: FusedMobileNetV2) -> FusedMobileNetV2:
    """With activations far above 6."""
    for module in model.modules():
        if isinstance(module, nn.Sequential) and len(module) == 3 and isinstance(module[2], nn.ReLU6):
            module[2] = nn.ReLU()
            with torch.no_grad():
                module[1].weight *= 6
    return model


NETWORKS: dict[str, Callable[[], FusedMobileNetV2]] = {
    "torch": small,
    "same": lambda: small(padding="same"),
    "relu": lambda: with_relu(small()),
    "grey": lambda: small(in_channels=1),
    "half": lambda: small().half(),
}


def quantised(model: FusedMobileNetV2, count: int = 16, **options: Any) -> QuantizedMobileNetV2:
    channels = model.features[0][0].in_channels
    if channels == 1:
        options = {"mean": 0.5, "deviation": 0.5, **options}
    images = photographs(count, channels=channels)
    return quantize(model, images.split(6), progress=False, **options)


@pytest.mark.parametrize("recipe", ["default", "per_channel"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_stay_what_they_were(name: str, recipe: str) -> None:
    model = NETWORKS[name]()
    result = quantised(model, recipe=recipe)
    images = photographs(16, channels=result.features[0].layer.in_channels, seed=1)
    want = in_float(model.float(), result, images)
    got = result(images)
    assert got.dtype == torch.float32
    assert sqnr(got, want) > 25
    assert torch.equal(got[3:5], result(images[3:5]))
    assert torch.equal(got, result(result.image_grid.real(images)))
    zero_points = [layer.zero_point for layer in result.features]
    assert all((each == each[0]).all() for each in zero_points) == (recipe == "default")


@pytest.mark.parametrize("isa", [each["name"] for each in _native.int8_isas() if each["supported"]])
@pytest.mark.parametrize("keep_float", [[], ["features.0", "features.2"], ["classifier"]], ids=len)
@pytest.mark.parametrize("name", ["torch", "same", "relu"])
def test_kernels_compute_the_reference(
    name: str, keep_float: list[str], isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FORCE_ISA_VARIABLE, isa)
    assert _native.selected_int8_isa() == isa
    result = quantised(NETWORKS[name](), keep_float=keep_float)
    images = photographs(5, seed=1)
    want = result.reference(images)
    for network in (result, result.deploy(), copy.deepcopy(result.deploy())):
        assert torch.equal(network(images), want)
    assert torch.equal(torch.export.export(result, (images,)).module()(images), want)


def test_kernels_follow_their_weights() -> None:
    result = quantised(small())
    images = photographs(2, seed=1)
    outputs = [result(images)]
    deployed = result.deploy()
    with torch.no_grad():
        result.features[1].get_submodule("project").weight.neg_()
        outputs.append(result(images))
        result.features[1].zero_point += 1  # of nothing that int8 layers read
        result.classifier.get_submodule("conv").bias = torch.ones_like(result.classifier.conv.bias)
        outputs.append(result(images))
        result.load_state_dict(quantised(small(), recipe="per_channel").state_dict())
        outputs.append(result(images))
    assert torch.equal(outputs[-1], result.reference(images))
    assert not any(torch.equal(a, b) for a, b in pairwise(outputs))
    assert torch.equal(deployed(images), outputs[0])


def test_a_layer_with_hooks_is_called() -> None:
    result = quantised(small())
    images, seen = photographs(2, seed=1), []
    want = result(images)
    hook = result.features[2].register_forward_hook(lambda module, inputs, output: seen.append(output))
    assert torch.equal(result(images), want)
    assert len(seen) == 1
    with pytest.raises(RuntimeError, match="without hooks"):
        result.deploy()
    hook.remove()
    assert torch.equal(result(images), want)
    assert len(seen) == 1


def test_other_code_is_called() -> None:
    class Silent(QuantizedLayer):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(super().forward(x))

    result, images = quantised(small()), photographs(2, seed=1)
    want, seen = result(images), []
    with nn.modules.module.register_module_forward_hook(lambda module, inputs, y: seen.append(module)):
        assert torch.equal(result(images), want)
    assert {*result.features, result.classifier} <= {*seen}
    result.features.register_forward_hook(lambda *_: None)
    with pytest.raises(RuntimeError, match="without hooks"):
        result.deploy()
    result.features[1].__class__ = Silent
    assert not torch.equal(result(images), want)


def test_derivatives_are_refused() -> None:
    result, images = quantised(small()), photographs(1)
    floats = result.image_grid.real(images)
    for call in (
        lambda: result(floats.clone().requires_grad_()),
        lambda: torch.func.jvp(result, (floats,), (floats,)),
        lambda: torch.func.grad(lambda x: result(x).sum())(floats),
    ):
        with pytest.raises(RuntimeError, match="no derivative along its images"):
            call()
    with torch.no_grad():
        assert torch.equal(result(floats.clone().requires_grad_()), result(images))


def test_an_ensemble_runs() -> None:
    result, images = quantised(small()), photographs(2, seed=1)
    name = "classifier.conv.multiplier"
    twice = torch.stack([result.get_buffer(name)] * 2)
    each = torch.vmap(lambda value: torch.func.functional_call(result, {name: value}, (images,)))(twice)
    assert torch.equal(each, torch.stack([result(images)] * 2))


@pytest.mark.parametrize("keep_float", [[], ["features.0"]], ids=len)
def test_other_images_are_refused(keep_float: list[str]) -> None:
    result, images = quantised(small(), keep_float=keep_float), photographs(2)
    floats = result.image_grid.real(images)
    for x in (floats[:, :1], images[:, :1], floats[0], floats.expand(2, 3, *SIZE)[:, [0, 1, 2, 2]]):
        with pytest.raises((ValueError, RuntimeError), match=r"expected .*\(N, 3, "):
            result(x)
    with pytest.raises((TypeError, RuntimeError), match="int32"):
        result(images.int())
    assert torch.allclose(result(floats.double()), result(images), atol=1e-4)


def test_a_state_of_other_layers_is_refused() -> None:
    result = quantised(small())
    state = result.state_dict()
    text = bytes(state["layers"].tolist()).replace(b"stride=2", b"stride=1", 1)
    with pytest.raises(ValueError, match="of these layers"):
        result.load_state_dict({**state, "layers": torch.frombuffer(bytearray(text), dtype=torch.uint8)})


def test_other_devices_are_refused() -> None:
    result = quantised(small()).to("meta")
    with pytest.raises(RuntimeError, match="mnv2::"):
        result(photographs(1))


def test_calibration_images_may_be_floats() -> None:
    model = small(padding="same")
    images = photographs(16)
    a, b = (quantize(model, [x], progress=False) for x in (images, images / 127.5 - 1))
    assert all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )
    with pytest.raises(ValueError, match="no byte"):
        quantize(model, [images.float()], progress=False)


def test_the_correction_serves() -> None:
    """Weights that round to 0 and yet add up, as those of trained depthwise convolutions err."""
    model = small()
    with torch.no_grad():
        for block in [*model.features][1:-1]:
            project, norm = block.conv[-2].weight, block.conv[-3][1]
            norm.weight[0] = norm.bias[0] = 0  # what the largest weights multiply
            project[:, 1:] = 0.45 / 127 * project[:, :1].abs()
    images = photographs(16, seed=1)
    better = quantised(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnv2_kernels.quantization.calibration.corrected", lambda weights, *_: weights)
        plain = quantised(model)
    rows = [quantization_report(model, each, [images]) for each in (better, plain)]
    for with_it, without in list(zip(*rows, strict=True))[1:-2]:
        assert with_it.sqnr > without.sqnr + 6, with_it.name


def test_dead_and_constant_channels() -> None:
    model = small()
    with torch.no_grad():
        for block in (model.features[2], model.features[4]):
            expand, depthwise, project, norm = block.conv
            expand[1].weight[:3] = 0  # constant
            expand[1].bias[:3] = torch.tensor([-1.0, 0.0, 9.0])  # at zero, at both ends of the range
            depthwise[0].weight[4] = 0
            norm.weight[0] = norm.bias[0] = 0  # an output of zeros
            project.weight[1] = 0
            norm.bias[1] = -2.0  # a negative constant, but for the shortcut
    for recipe in ("default", "per_channel"):
        result = quantised(model, recipe=recipe)
        images = photographs(16, seed=1)
        assert sqnr(result(images), in_float(model, result, images)) > 25


def test_layers_in_float() -> None:
    model = small()
    names = [*float_layers(model)]
    images = photographs(8, seed=1)
    want = in_float(model, quantised(model, keep_float=names), images)
    everything = quantised(model, keep_float=names)
    torch.testing.assert_close(everything(everything.image_grid.real(images)), want, atol=1e-4, rtol=1e-4)
    plain = sqnr(quantised(model)(images), want)
    for kept in (names[:2], names[2:4], names[-2:]):
        result = quantised(model, keep_float=kept)
        assert [name for name, layer in result.named_layers() if layer.is_float] == kept
        assert sqnr(result(images), want) > plain - 1
    with pytest.raises(ValueError, match=r"'features\.99'"):
        quantised(model, keep_float=["features.99"])


@pytest.mark.parametrize("keep_float", [[], ["features.2", "classifier"]])
def test_state_round_trip(tmp_path: Path, keep_float: list[str]) -> None:
    result = quantised(small(padding="same"), keep_float=keep_float)
    save_file(result.state_dict(), tmp_path / "int8.safetensors")
    state = load_file(tmp_path / "int8.safetensors")
    again = QuantizedMobileNetV2.from_state_dict(state)
    images = photographs(4, (33, 47), seed=2)
    assert torch.equal(again(images), result(images))
    assert {name: value.dtype for name, value in state.items()} == {
        name: value.dtype for name, value in result.state_dict().items()
    }
    assert torch.equal(copy.deepcopy(result)(images), result(images))
    int8 = [name for name, value in state.items() if value.dtype == torch.int8]
    assert ("classifier.conv.weight" in int8) == (not keep_float)
    for damaged, message in (
        ({name: value for name, value in state.items() if name != "layers"}, "it has no 'layers'"),
        ({name: value for name, value in state.items() if name != "features.1.scale"}, r"features\.1\.scale"),
        ({**state, "features.1.scale": state["features.1.scale"].double()}, "expected torch.float32"),
        ({**state, "features.1.scale": state["features.1.scale"][:3]}, r"features\.1\.scale"),
        ({**state, "features.1.scale": state["features.1.scale"] * math.nan}, r"1\.scale: .* finite"),
        ({**state, "features.0.image_scale": -state["features.0.image_scale"]}, "numbers above 0"),
        *(
            ({**state, name: state[name] * math.inf}, rf"{re.escape(name)}: expected finite numbers")
            for name in ("features.1.project.multiplier", "features.1.depthwise.bias")
        ),
    ):
        with pytest.raises(ValueError, match=message):
            QuantizedMobileNetV2.from_state_dict(damaged)


def test_the_dtype_is_fixed() -> None:
    result = quantised(small())
    for change in (result.half, result.double, lambda: result.to(torch.bfloat16)):
        with pytest.raises(TypeError, match="no other dtype"):
            change()
    assert result.to("cpu").float() is result


def test_few_images_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=f"^quantize: 63 {FEW_WARNING}"):
        quantised(small(), 63)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([torch.randint(0, 256, (64, 3, 48, 48), dtype=torch.uint8)], "random numbers"),
        ([torch.rand(64, 3, 48, 48) * 2 - 1], "random numbers"),
        ([torch.full((64, 3, 48, 48), 7, dtype=torch.uint8)], "nothing in common"),
        ([torch.full((64, 3, 48, 48), math.nan)], "no byte"),
        ([], "got none"),
        ([torch.zeros(3, 48, 48, dtype=torch.uint8)], r"\(N, 3, H, W\), got \(3, 48, 48\)"),
        ([torch.zeros(1, 3, 48, 48, dtype=torch.int32)], "torch.int32"),
        ([photographs(1), photographs(1, (32, 48))], "one size"),
    ],
)
def test_what_is_no_photograph_is_refused(batches: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(small(padding="same"), batches, progress=False)


def test_what_cannot_be_quantised_is_refused() -> None:
    images = [photographs(16)]
    silent = small()
    silent.features[2].conv[0][2] = nn.Identity()
    silent.features[2].conv[1][2] = nn.Identity()
    mixed = changed(small(), {"features.2.conv.0.2": nn.ReLU()})
    channels = small().features[2].conv[1][0].out_channels
    five = nn.Conv2d(channels, channels, 5, 2, 2, groups=channels)
    hooked = small()
    hooked.features[1].register_forward_hook(lambda *_: None)
    wide = small()
    with torch.no_grad():
        wide.features[1].conv[1].weight[0] = math.inf
    for model, message in (
        (silent, r"features\.2 cannot be quantised: its activation is none"),
        (mixed, r"features\.2 cannot be quantised: its activations differ"),
        (changed(small(), {"features.2.conv.1.0": five}), r"features\.2 cannot .*: its kernel is 5"),
        (hooked, r"features\.1 cannot be quantised"),
        (small().train(), "cannot be quantised"),
        (wide, "finite"),
        (nn.Conv2d(3, 4, 1), "expected a FusedMobileNetV2, got Conv2d"),
    ):
        with pytest.raises(ValueError, match=message):
            quantize(model, images, progress=False)
    with pytest.raises(ValueError, match="recipe: expected one of default, per_channel, got 'best'"):
        quantize(small(), images, recipe="best", progress=False)


def test_report_tells_where_noise_starts() -> None:
    model = small()
    images = photographs(16, seed=1)
    result = quantised(model, keep_float=["features.3"])
    rows = quantization_report(model, result, images.split(8))
    assert [row.name for row in rows] == [*float_layers(model)]
    assert [row.name for row in rows if row.in_float] == ["features.3"]
    assert all(15 < row.sqnr < 70 and 0 <= row.clipped < 0.02 for row in rows)
    narrow = copy.deepcopy(result)
    narrow.features[2].scale /= 4  # its bytes now stand for less
    broken = quantization_report(model, narrow, images.split(8))
    assert broken[1].sqnr == rows[1].sqnr
    assert broken[2].sqnr < rows[2].sqnr - 10
    assert broken[2].clipped > 0.1


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    quantize(small(), [photographs(16)])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "ranges" in captured.err
    assert "layers" in captured.err


@pytest.mark.skipif(
    not has_data(), reason=f"MNV2_DATA: no folder of trained networks: {os.environ.get('MNV2_DATA')}"
)
def test_a_trained_network_keeps_its_logits() -> None:
    network = load_network("dogs")
    x = load_photos(network.photos, network.settings.size, network.settings.preprocess)
    calibration, images = torch.cat([x[0::2], x[0::2].flip(3)]), x[1::2]
    result = quantize(network.model, [calibration], progress=False)
    with torch.no_grad():
        want, got = network.model(images), result(images)
    assert sqnr(got, want) > 18
    assert torch.equal(got.argmax(1), want.argmax(1))


def test_whoever_does_not_quantise_does_not_wait_for_it() -> None:
    code = "import sys, mnv2_kernels; sys.exit('mnv2_kernels.quantization' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- benchmarks/int8_accuracy.py ---


def test_scores() -> None:
    want = torch.tensor([[0.0, 1.0, 5.0], [2.0, 0.0, -2.0]])
    assert agreement(want + 7, want) == Agreement(math.inf, pytest.approx(0), 1)
    scores = agreement(want * 1.1, want)
    assert scores.sqnr == pytest.approx(20)
    assert scores.divergence > 0
    assert scores.kept == 1
    assert agreement(want.flip(1), want).kept == 0


def test_each_half_is_evaluated_by_the_other(tmp_path: Path) -> None:
    files = [tmp_path / f"{level}.png" for level in (60, 120, 180, 240)]
    for file in files:
        Image.new("L", (40, 30), int(file.stem)).save(file)
    found = int8_accuracy.photographs(tmp_path)
    assert {*found} >= {*files}
    for half, calibrated in zip(int8_accuracy.halves(files, 16, 6, 4), ((120, 240), (60, 180)), strict=True):
        assert half.calibration.shape == (6, 3, 16, 16)
        assert half.evaluation.shape == (2, 3, 16, 16)
        assert half.calibration.dtype == torch.uint8
        low, high = ENHANCED
        assert calibrated[0] * low - 1 <= half.calibration.amin() <= calibrated[0] * high + 1
