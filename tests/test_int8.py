"""pack and run of int8 layers: equal to plain torch to the bit, on every instruction set of this machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from mnv2_kernels import _native
from mnv2_kernels.layer import Layer, join_layers
from mnv2_kernels.quantization.reference_int8 import dequantise, quantise

ISAS = [isa["name"] for isa in _native.int8_isas() if isa["compiled"] and isa["supported"]]


@pytest.fixture(autouse=True, params=ISAS)
def isa(request, monkeypatch):
    monkeypatch.setenv("MNV2_FORCE_ISA", request.param)
    assert _native.selected_int8_isa() == request.param


def few_bits(low: float, high: float, count: int) -> Tensor:
    """Float32 of twelve significant bits, so that float64 computes fma(sum, M, B) before its one rounding."""
    values = torch.empty(count).uniform_(low, high)
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp((mantissa * 4096).round() / 4096, exponent)


def convolution(out: int, *shape: int) -> list[Tensor]:
    """Weight, multiplier and bias; some results saturate at either end."""
    weight = torch.randint(-128, 128, (out, *shape), dtype=torch.int8)
    typical = 74 * 147 * weight[0].numel() ** 0.5
    return [weight, few_bits(20 / typical, 200 / typical, out), torch.randint(0, 256, (out,)).float()]


def weights_of(layer: Layer) -> list[Tensor | None]:
    inp, mid, out = layer.in_channels, layer.expanded_channels, layer.out_channels
    if layer.kind == "stem":
        pad = torch.randint(0, 256, (inp,), dtype=torch.uint8)
        return [*convolution(out, inp, 3, 3), pad, torch.rand(inp) + 0.01, torch.rand(inp) * 255]
    if layer.kind == "head_pool":
        return [*convolution(out, inp, 1, 1), torch.tensor([0.75])]
    if layer.kind == "linear":
        return convolution(out, inp)
    expand = convolution(mid, inp, 1, 1) if layer.expand else [None] * 3
    shortcut = few_bits(0.2, 1.5, out) if layer.residual else None
    return [*expand, *convolution(mid, 1, 3, 3), *convolution(out, mid, 1, 1), shortcut]


def by_channel(values: Tensor) -> Tensor:
    return values.double().view(1, -1, 1, 1)


def to_bytes(y: Tensor) -> Tensor:
    return y.round().clamp(0, 255).to(torch.uint8)


def scaled(x: Tensor, weight: Tensor, multiplier: Tensor, bias: Tensor, **options) -> Tensor:
    sums = F.conv2d(x.double(), weight.double(), **options).float()
    return (sums.double() * by_channel(multiplier) + by_channel(bias)).float()


def expected_block(x: Tensor, layer: Layer, weights: list[Tensor | None]) -> Tensor:
    hidden = to_bytes(scaled(x, *weights[:3])) if layer.expand else x
    top, left, bottom, right = layer.padding_for(*x.shape[2:])
    padded = F.pad(hidden, (left, right, top, bottom))
    hidden = to_bytes(scaled(padded, *weights[3:6], stride=layer.stride, groups=hidden.shape[1]))
    y = scaled(hidden, *weights[6:9])
    if layer.residual:
        y = (x.double() * by_channel(weights[9]) + y.double()).float()
    return to_bytes(y)


def expected_stem(x: Tensor, layer: Layer, weights: list[Tensor]) -> Tensor:
    top, left, bottom, right = layer.padding_for(*x.shape[2:])
    pad = by_channel(weights[3])
    padded = F.pad(x.double() - pad, (left, right, top, bottom)) + pad
    return to_bytes(scaled(padded, *weights[:3], stride=layer.stride))


def expected(x: Tensor, layer: Layer, weights: list[Tensor | None]) -> Tensor:
    if layer.kind == "block":
        return expected_block(x, layer, weights)
    if layer.kind == "stem":
        return expected_stem(x, layer, weights)
    if layer.kind == "linear":
        return scaled(x[..., None, None], weights[0][..., None, None], *weights[1:]).flatten(1)
    hidden = to_bytes(scaled(x, *weights[:3]))
    pixels = torch.tensor(float(hidden[0, 0].numel()))
    return to_bytes(hidden.flatten(2).sum(2).float() * (weights[3] / pixels))


def run(x: Tensor, layers: list[Layer], weights: list[Tensor | None]) -> Tensor:
    text = join_layers(layers)
    return torch.ops.mnv2.run(x, torch.ops.mnv2.pack(weights, layers=text), layers=text)


def images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def int8(kind, inp: int, out: int, **options) -> Layer:
    return Layer(kind, inp, out, arithmetic="int8", **options)


LAYERS = {
    "block": (int8("block", 16, 24, expanded_channels=96, stride=2), (9, 10)),
    "shortcut": (int8("block", 24, 24, expanded_channels=144, residual=True), (7, 8)),
    "no expand": (int8("block", 40, 20, expanded_channels=40, expand=False), (5, 6)),
    "same": (int8("block", 9, 17, expanded_channels=70, stride=2, padding="same"), (6, 9)),
    "rows": (int8("block", 5, 7, expanded_channels=20, padding=(0, 1, 1, 0)), (40, 33)),
    "stem": (int8("stem", 3, 32, stride=2), (15, 22)),
    "head": (int8("head_pool", 40, 130), (7, 7)),
    "linear": (int8("linear", 130, 10), ()),
}


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "sliced"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_the_bits_of_plain_torch(name, layout):
    torch.manual_seed(len(name))
    layer, size = LAYERS[name]
    weights, x = weights_of(layer), images(3, layer.in_channels, *size)
    wanted = expected(x, layer, weights)
    if layout == "nhwc" and size:
        x = x.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":
        x = torch.cat([x, x], 1)[:, : layer.in_channels]
    y = run(x, [layer], weights)
    assert_close(y, wanted, rtol=0, atol=0)
    assert y.dtype == (torch.float32 if layer.kind == "linear" else torch.uint8)
    assert y.dim() == 2 or y.is_contiguous(memory_format=torch.channels_last)


def edges_of_bytes(scale: Tensor, zero_point: Tensor, *shape: int) -> Tensor:
    """Float images with all that rounds hard: middles of two bytes, their neighbours, infinities, NaN."""
    real = scale.view(-1, 1, 1) * (torch.randint(-4, 520, shape) / 2 - zero_point.view(-1, 1, 1))
    x = torch.where(torch.rand(shape) < 0.5, real, torch.nextafter(real, torch.randn(shape)))
    special = torch.tensor([float("inf"), -float("inf"), float("nan"), 3e38, -0.0, 1e-40])
    return torch.where(torch.rand(shape) < 0.9, x, special[torch.randint(len(special), shape)])


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("layout", ["nchw", "nhwc", "sliced"])
def test_a_stem_makes_bytes_of_floats(channels, layout):
    torch.manual_seed(channels)
    layer = int8("stem", channels, 16, stride=2)
    weights = weights_of(layer)
    x = edges_of_bytes(*weights[4:], 2, channels, 19, 37)
    as_bytes = quantise(x, *weights[4:])
    assert as_bytes.unique().numel() > 200
    if layout == "nhwc":
        x = x.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":
        x = torch.cat([x, x], 1)[:, :channels]
    assert torch.equal(run(x, [layer], weights), run(as_bytes, [layer], weights))


CHAIN = [
    int8("stem", 3, 32, stride=2),
    int8("block", 32, 16, expanded_channels=32, expand=False),
    int8("block", 16, 24, expanded_channels=96, stride=2),
    int8("block", 24, 24, expanded_channels=144, residual=True),
    int8("head_pool", 24, 70),
    int8("linear", 70, 11),
]


def quantise_back(x: Tensor, stem: list[Tensor]) -> Tensor:
    """Floats that stand for these bytes."""
    real = dequantise(x, *stem[4:])
    assert torch.equal(quantise(real, *stem[4:]), x)
    return real


def test_a_chain_gives_the_bits_of_its_layers_for_any_batch_and_threads():
    torch.manual_seed(0)
    weights, x = [weights_of(layer) for layer in CHAIN], images(5, 3, 41, 36)
    wanted = x
    for layer, of_layer in zip(CHAIN, weights, strict=True):
        wanted = expected(wanted, layer, of_layer)
    flat = [weight for of_layer in weights for weight in of_layer]
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        assert torch.equal(run(x, CHAIN, flat), wanted)
    torch.set_num_threads(threads)
    assert torch.equal(run(x[3:4], CHAIN, flat), wanted[3:4])
    text = join_layers(CHAIN)
    portable = torch.ops.mnv2.pack(flat, layers=text, portable=True)
    assert torch.equal(torch.ops.mnv2.run(x, portable, layers=text), wanted)
    many = torch.arange(37) % 5  # more than wait for the linear layer together
    assert torch.equal(run(x[many], CHAIN, flat), wanted[many])
    assert torch.equal(run(quantise_back(x, weights[0]), CHAIN, flat), wanted)
    assert run(x[:0], CHAIN, flat).shape == (0, 11)


def test_the_fakes_of_pack_and_run():
    from torch._subclasses.fake_tensor import FakeTensorMode

    for layers in ([CHAIN[0]], CHAIN):
        weights = [weight for layer in layers for weight in weights_of(layer)]
        text = join_layers(layers)
        x, packed = images(2, 3, 30, 31), torch.ops.mnv2.pack(weights, layers=text)
        y = torch.ops.mnv2.run(x, packed, layers=text)
        with FakeTensorMode() as mode:
            fakes = [None if each is None else mode.from_tensor(each) for each in weights]
            fake_packed = torch.ops.mnv2.pack(fakes, layers=text)
            fake = torch.ops.mnv2.run(mode.from_tensor(x), fake_packed, layers=text)
        assert fake_packed.shape == packed.shape
        assert (fake.shape, fake.dtype, fake.stride()) == (y.shape, y.dtype, y.stride())


BLOCK = int8("block", 8, 8, expanded_channels=16, residual=True)


def refused(message: str, layers: list[Layer], weights: list[Tensor | None], x: Tensor) -> None:
    with pytest.raises(RuntimeError) as error:
        run(x, layers, weights)
    assert message in str(error.value)


def test_errors_of_weights():
    weights, x = weights_of(BLOCK), images(1, 8, 4, 4)
    refused("mnv2::pack: weights: expected 10 tensors or None", [BLOCK], weights[:9], x)
    refused("expand_weight: expected a tensor, got None", [BLOCK], [None, *weights[1:]], x)
    refused("expand_weight: expected dtype int8, got float32", [BLOCK], [weights[0].float(), *weights[1:]], x)
    refused(
        "project_bias: expected dtype float32", [BLOCK], [*weights[:8], weights[8].double(), weights[9]], x
    )
    refused("expected shape (8,), got (16,)", [BLOCK], [*weights[:9], weights[4]], x)
    refused("shortcut: expected a tensor, got None", [BLOCK], [*weights[:9], None], x)
    plain = replace(BLOCK, residual=False)
    refused("shortcut: expected None without residual=1", [plain], weights, x)
    huge = [weights[0], weights[1] * 1e9, *weights[2:]]
    refused("expand_multiplier: expected sums and results below 2^31", [BLOCK], huge, x)
    stem = weights_of(CHAIN[0])
    for scale in (torch.zeros(3), torch.full((3,), 1e-45), torch.tensor([1.0, float("nan"), 1.0])):
        refused("image_scale: expected finite numbers above 0", CHAIN[:1], [*stem[:4], scale, stem[5]], x)
    unbounded = torch.tensor([1.0, 2.0, float("inf")])
    refused("image_zero_point: expected finite numbers", CHAIN[:1], [*stem[:5], unbounded], x)


def test_errors_of_x_and_packed():
    weights, x, text = weights_of(BLOCK), images(1, 8, 4, 4), str(BLOCK)
    packed = torch.ops.mnv2.pack(weights, layers=text)
    for message, given, bytes_ in (
        ("x: expected dtype uint8 (of layers with arithmetic=int8), got float32", x.float(), packed),
        ("x: expected shape (N, 8, H, W), got (1, 7, 4, 4)", x[:, :7], packed),
        ("packed: expected packed int8 layers, got 10 bytes", x, packed[:10]),
        ("packed: expected packed int8 layers, got bytes of another format", x, torch.zeros_like(packed)),
        ("packed: expected", x, packed[:-64]),
    ):
        with pytest.raises(RuntimeError) as error:
            torch.ops.mnv2.run(given, bytes_, layers=text)
        assert message in str(error.value)
    other = str(replace(BLOCK, residual=False))
    with pytest.raises(RuntimeError, match=r"packed: expected weights of block .* got those of block"):
        torch.ops.mnv2.run(x, packed, layers=other)
    assert torch.ops.mnv2.run(x, packed, layers=text).shape == x.shape
    stem = torch.ops.mnv2.pack(weights_of(CHAIN[0]), layers=str(CHAIN[0]))
    with pytest.raises(RuntimeError, match=r"x: expected dtype uint8 or float32 .* got float64"):
        torch.ops.mnv2.run(torch.zeros(1, 3, 8, 8).double(), stem, layers=str(CHAIN[0]))


def test_damaged_headers_are_refused():
    layer = int8("block", 8, 8, expanded_channels=24, residual=True)
    packed = torch.ops.mnv2.pack(weights_of(layer), layers=str(layer))
    x = torch.randint(0, 256, (1, 8, 3, 3), dtype=torch.uint8)
    for byte in (*range(24), 64, 70):
        damaged = packed.clone()
        damaged[byte] ^= 129
        with pytest.raises(RuntimeError, match=r"mnv2::run: packed: expected"):
            torch.ops.mnv2.run(x, damaged, layers=str(layer))


def test_images_too_large_are_refused():
    one = torch.zeros(1, dtype=torch.uint8)
    head = int8("head_pool", 4, 4)
    x = one.expand(1, 4, 3000, 3000)
    refused("x: expected at most 8421504 pixels to pool, got 9000000", [head], weights_of(head), x)
    x = one.expand(1, 8, 2**20, 2**20)
    refused("x: expected at most 4294967296 pixels an image", [BLOCK], weights_of(BLOCK), x)


def test_a_chain_has_one_arithmetic():
    layers = [BLOCK, replace(BLOCK, arithmetic="float")]
    with pytest.raises(RuntimeError, match="expected arithmetic=int8 as in front of it, got float"):
        torch.ops.mnv2.pack(weights_of(BLOCK), layers=join_layers(layers))


def test_triton_s_checks_refuse_int8():
    with pytest.raises(RuntimeError, match=r"layers: expected arithmetic=float .* got int8"):
        torch.ops.mnv2.check_pack(weights_of(BLOCK), layers=str(BLOCK))
