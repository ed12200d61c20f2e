"""mnv2::run of many layers, and mnv2::linear: bits of the layers one by one, and what torch has to know."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import every_float32_isa, every_isa
from models import calls, small
from tolerances import assert_accurate
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mnv2_kernels import FusedMobileNetV2, reference, shapes
from mnv2_kernels.fusion.fused_layer import Fusion
from mnv2_kernels.packing.packed_layers import pack_layers
from mnv2_kernels.packing.plans import layer_plans

run = torch.ops.mnv2.run

# That of small().
NETWORK = {"layers": small().deploy().network.text}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def fusions_of(model: FusedMobileNetV2) -> list[Fusion]:
    return [unit.fusion() for unit in (*model.features, model.classifier)]


def weights_of(model: FusedMobileNetV2) -> list[Tensor | None]:
    return [weight for fusion in fusions_of(model) for weight in fusion.weights()]


def pack(model: FusedMobileNetV2) -> Tensor:
    return pack_layers(fusions_of(model)).packed


@pytest.fixture(scope="module")
def model() -> FusedMobileNetV2:
    return small()


@pytest.fixture
def packed(model: FusedMobileNetV2) -> Tensor:
    return pack(model)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 3, 37, 30, generator=torch.Generator().manual_seed(1))


# --- bits ---


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_bits_do_not_depend_on_batch_or_threads(threads, packed):
    x = torch.randn(7, 3, 40, 33)
    expected = torch.cat([run(image, packed, **NETWORK) for image in x.split(1)])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for batch in (1, 2, 4, 7):
            assert torch.equal(run(x[:batch], packed, **NETWORK), expected[:batch])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("hooked", ["features.2", "features", "classifier"])
def test_a_watched_network_gives_the_same_bits(hooked, model, x):
    seen = []
    with torch.no_grad():
        expected = model(x)
        with calls() as operators:
            model(x)
        assert operators == ["run network"]
        handle = model.get_submodule(hooked).register_forward_hook(lambda *arguments: seen.append(arguments))
        try:
            with calls() as operators:
                y = model(x)
        finally:
            handle.remove()
    assert len(seen) == 1
    assert "run network" not in operators or hooked == "classifier"
    if hooked == "features":
        # The pool is torch's own, in another order.
        torch.testing.assert_close(y, expected)
    else:
        assert torch.equal(y, expected)


def test_an_emptied_classifier_passes_the_features_on(x):
    model = small()
    del model.classifier[:]
    with torch.no_grad():
        assert torch.equal(model(x), model._pooled_features(x))


def test_a_dropout_that_trains_is_not_skipped(model, x):
    model = copy.deepcopy(model)
    with torch.no_grad():
        expected = model(x)
        model.classifier[0].train()
        torch.manual_seed(0)
        assert not torch.allclose(model(x), expected)
        model.classifier[0].eval()
        assert torch.equal(model(x), expected)


# --- the linear layer ---


@every_isa
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", [(1280, 1000), (17, 51), (1, 1), (193, 8)], ids=str)
def test_linear_is_accurate(isa, dtype, sizes):
    in_features, out_features = sizes
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(64, in_features, generator=generator).to(dtype)
    weight = (torch.randn(out_features, in_features, generator=generator) / in_features**0.5).to(dtype)
    bias = torch.randn(out_features, generator=generator).to(dtype)
    exact = reference.linear(x.double(), weight.double(), bias.double())
    assert_accurate(torch.ops.mnv2.linear(x, weight, bias), reference.linear(x, weight, bias), exact)


def test_linear_takes_any_strides():
    x, weight = torch.randn(6, 14), torch.randn(5, 7)
    for view in (x[:, ::2], x[:, :7], x.T[:7, :6].T, x[:1, :7].expand(6, 7)):
        expected = torch.ops.mnv2.linear(view.contiguous(), weight, None)
        assert torch.equal(torch.ops.mnv2.linear(view, weight, None), expected)
    assert torch.ops.mnv2.linear(x[:0, :7], weight, None).shape == (0, 5)


# --- what torch knows of them ---


def linear_calls(dtype: torch.dtype = torch.float32):
    x, weight, bias = torch.randn(4, 9).to(dtype), torch.randn(5, 9).to(dtype), torch.randn(5).to(dtype)
    layers = {"layers": "linear in_channels=9 out_channels=5"}
    yield torch.ops.mnv2.linear.default, (x, weight, bias), {}
    yield torch.ops.mnv2.pack.default, ([weight, bias],), layers
    yield run.default, (x, torch.ops.mnv2.pack([weight, bias], **layers)), layers


def network_calls(model: FusedMobileNetV2, x: Tensor):
    yield torch.ops.mnv2.pack.default, (weights_of(model),), NETWORK
    yield run.default, (x, pack(model)), NETWORK


@every_float32_isa
def test_opcheck(isa, x):
    for op, arguments, options in (*linear_calls(), *network_calls(small(), x)):
        torch.library.opcheck(op, arguments, options)


def test_flops_are_twice_the_multiply_accumulates():
    model = FusedMobileNetV2().eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    assert counter.get_total_flops() == 2 * shapes.mobilenet_v2(resolution=64, batch=2).macs


def test_seconds_of_every_layer(packed, x):
    seconds = torch.ops.mnv2.run_seconds(x, packed, **NETWORK)
    assert seconds.dtype == torch.float64
    assert seconds[0] == 0  # the stem runs inside the block behind it
    assert (seconds[1:] > 0).all()


# --- errors ---


def refuses(message: str):
    return pytest.raises(RuntimeError, match="^" + message)


LINEAR = "linear in_channels=3 out_channels=2"
HEAD_AND_LINEAR = f"head_pool in_channels=3 out_channels=3; {LINEAR}"

ERRORS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "channels": (
        lambda x, packed: run(
            x, packed, layers=NETWORK["layers"].replace("out_channels=10", "out_channels=11")
        ),
        r"mnv2::run: packed: expected weights of .* out_channels=11, got those of .* out_channels=10",
    ),
    "no pixels": (
        lambda x, packed: run(x[:, :, :0], packed, **NETWORK),
        r"mnv2::run: x: expected an image that fills .* every layer, got shape \(3, 3, 0, 30\)",
    ),
    "too many pixels": (
        lambda x, packed: run(x[:, :, :1, :1].expand(3, 3, 2**17, 2**16), packed, **NETWORK),
        r"mnv2::run: x: expected at most 4294967296 pixels an image, got shape \(3, 3, 131072, 65536\)",
    ),
    "no layers": (
        lambda x, packed: run(x, packed, layers=""),
        r"mnv2::run: layers: expected any of a stem, blocks, .* got nothing",
    ),
    "no chain": (
        lambda x, packed: run(x, packed, layers=f"{LINEAR}; head_pool in_channels=2 out_channels=4"),
        r"mnv2::run: layers\[1\]: expected any of .*, got a head behind a linear layer",
    ),
    "other channels": (
        lambda x, packed: run(x, packed, layers=f"head_pool in_channels=8 out_channels=8; {LINEAR}"),
        r"mnv2::run: layers\[1\]: expected 8 input channels, got 3",
    ),
    "too few weights": (
        lambda x, packed: torch.ops.mnv2.pack([torch.ones(2, 3)], layers=LINEAR),
        r"mnv2::pack: weights: expected 2 tensors or None, .*, got 1",
    ),
    "weights of one of many": (
        lambda x, packed: torch.ops.mnv2.pack(
            [None, None, None, torch.ones(2, 3), None], layers=HEAD_AND_LINEAR
        ),
        r"mnv2::pack: layers\[0\]: weight: expected a tensor, got None",
    ),
    "linear dimensions": (
        lambda x, packed: torch.ops.mnv2.linear(x, torch.randn(2, 3), None),
        r"mnv2::linear: x: expected 2 dimensions, got shape \(3, 3, 37, 30\)",
    ),
    "linear features": (
        lambda x, packed: torch.ops.mnv2.linear(torch.randn(2, 4), torch.randn(2, 3), None),
        r"mnv2::linear: weight: expected shape \(2, 4\), got \(2, 3\)",
    ),
    "linear bias": (
        lambda x, packed: torch.ops.mnv2.pack([torch.randn(2, 3), torch.randn(3)], layers=LINEAR),
        r"mnv2::pack: bias: expected shape \(2,\), got \(3,\)",
    ),
    "packed features": (
        lambda x, packed: run(
            torch.randn(2, 4), torch.ops.mnv2.pack([torch.randn(2, 3), None], layers=LINEAR), layers=LINEAR
        ),
        r"mnv2::run: x: expected shape \(N, 3\), got \(2, 4\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name, packed, x):
    call, message = ERRORS[name]
    with refuses(message):
        call(x, packed)


# Where the first layer's header begins in a network, and bits in it that make a stride of 2 one of 1.
FIRST_HEADER, STRIDE_BYTE, STRIDE_BIT = 128, 24, 3


@pytest.mark.parametrize(
    ("byte", "flip", "message"),
    [
        (0, 0xFF, "expected packed layers, got bytes of another format"),
        (FIRST_HEADER, 0xFF, "layer 0: expected packed weights of a layer, got bytes of another format"),
        (
            FIRST_HEADER + STRIDE_BYTE,
            STRIDE_BIT,
            "expected weights of stem .*, got those of stem in_channels=3 out_channels=16; block",
        ),
    ],
)
def test_damage_between_calls_is_found(byte, flip, message, packed, x):
    y = run(x, packed, **NETWORK)
    packed[byte] ^= flip
    with refuses(f"mnv2::run: packed: {message}"):
        run(x, packed, **NETWORK)
    packed[byte] ^= flip
    assert torch.equal(run(x, packed, **NETWORK), y)


def test_any_number_of_sizes_by_any_threads(packed):
    sizes = [*range(8, 80)]  # more than are kept
    images = [torch.randn(1, 3, size, 9, generator=torch.Generator().manual_seed(size)) for size in sizes]
    expected = [run(image, packed, **NETWORK) for image in images]
    with ThreadPoolExecutor(4) as threads:
        got = threads.map(lambda image: run(image, packed, **NETWORK), images * 2)
        assert all(map(torch.equal, got, expected * 2))


def test_plans_of_what_cannot_be_read(packed, x):
    for other in (packed.to("meta"), packed.float(), nn.Parameter(packed, requires_grad=False)):
        with pytest.raises(ValueError, match=r"^packed: expected a plain uint8 tensor on cpu"):
            layer_plans(other, x, 1)
    with pytest.raises(ValueError, match=r"^packed: expected packed layers, got"):
        layer_plans(torch.zeros_like(packed), x, 1)
