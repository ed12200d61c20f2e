"""Chains of layers by CUDA kernels: the bits of the layers one after the other, and who calls them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from cases import DTYPES, LAYOUTS
from cuda_operators import DEVICE, ON_GPU, OPS, needs_cuda_library, needs_gpu
from models import CLASSES, calls, eager, packs, small
from tolerances import assert_accurate
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.library import Library, register_fake, register_vmap
from torch.utils.flop_counter import FlopCounterMode

from mnv2_kernels import FusedMobileNetV2
from mnv2_kernels.accuracy import MINIMUM_INPUTS
from mnv2_kernels.dtypes import dtype_name
from mnv2_kernels.fusion.fused_layer import Fusion
from mnv2_kernels.layer import join_layers, layer_shapes
from mnv2_kernels.nn import mobilenet_v2 as modules
from mnv2_kernels.ops import batching, gpu
from mnv2_kernels.ops.autograd import refuse_derivatives
from mnv2_kernels.ops.fakes import FAKES
from mnv2_kernels.packing.packed_layers import PackedLayers, pack_layers

CUDA = torch.device("cuda")
HALVES = (torch.float16, torch.bfloat16)

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)

if not ON_GPU:
    _library = Library(OPS.name, "IMPL")
    for _name in ("pack", "run"):
        _op = getattr(OPS, _name).default
        register_fake(_op, FAKES[_name])
        _library.impl(_name, refuse_derivatives(_op), "Autograd", with_keyset=True)
        register_vmap(_op, batching.rule(_op, folds_first_input=_name == "run"))


class EmulatedOps:
    """torch.ops with the emulator's operators in the place of mnv2's."""

    mnv2 = OPS

    def __init__(self, others: Any) -> None:
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._others, name)


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules take tensors on DEVICE for tensors that CUDA's operators serve."""
    if not ON_GPU:
        monkeypatch.setattr(torch, "ops", EmulatedOps(torch.ops))
        monkeypatch.setattr(modules, "_device", lambda units: CUDA)
        monkeypatch.setattr(gpu, "backend", lambda device="cuda": "cuda")


# A small network whose stem and first block have as many channels as one kernel for both takes.
JOINABLE = {"width_mult": 1.0, "inverted_residual_setting": [[1, 16, 1, 1], [6, 24, 1, 2]]}


def joinable(**options: Any) -> FusedMobileNetV2:
    return small(**JOINABLE, **options)


@contextmanager
def fakes_on_cuda(dtype: torch.dtype) -> Iterator[None]:
    """What is made here is on a GPU that need not be there, of that dtype and without numbers."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(before)


def fusions_of(model: FusedMobileNetV2, dtype: torch.dtype) -> list[Fusion]:
    model = model.to(DEVICE, dtype)
    return [unit.fusion() for unit in (*model.features, model.classifier)]


def images(dtype: torch.dtype, batch: int = 2, size: tuple[int, int] = (19, 14)) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, *size, generator=generator).to(DEVICE, dtype)


def layer_by_layer(fusions: Sequence[Fusion], x: Tensor) -> Tensor:
    for fusion in fusions:
        x = pack_layers([fusion])(x)
    return x


def is_joined(fusions: Sequence[Fusion], dtype: torch.dtype) -> bool:
    """Whether one kernel computes the first two layers: then their weights take other room than apart."""
    pair = [fusion.layer for fusion in fusions[:2]]
    texts = [join_layers(pair), *map(str, pair)]
    lengths = [OPS.cuda_packed_bytes(text, dtype=dtype_name(dtype)) for text in texts]
    together, *apart = [length - length % 256 for length in lengths]
    return together != sum(apart)


# --- bits ---


@every_dtype
@pytest.mark.parametrize("padding", ["torch", "same"])
def test_bits_of_the_layers_one_after_the_other(on_cuda, padding: str, dtype: torch.dtype) -> None:
    fusions = fusions_of(small(padding=padding), dtype)
    packed = pack_layers(fusions)
    assert not is_joined(fusions, dtype)
    for size in ((19, 14), (8, 13)) if padding == "same" else ((19, 14),):
        x = images(dtype, size=size)
        assert torch.equal(packed(x), layer_by_layer(fusions, x))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_with_and_without_stem_and_linear_layer(on_cuda, layout: str) -> None:
    dtype = torch.float16
    fusions = fusions_of(small(), dtype)
    x = LAYOUTS[layout](images(dtype))
    between = LAYOUTS[layout](layer_by_layer(fusions[:2], images(dtype)))
    chains = (
        (fusions[:-1], x),
        (fusions[:3], x),
        (fusions[:1], x),
        (fusions[2:], between),
        (fusions[2:4], between),
        (fusions[-2:], images_for(fusions[-2])),
    )
    for chain, image in chains:
        y, expected = pack_layers(chain)(image), layer_by_layer(chain, image)
        assert torch.equal(y, expected)
        assert y.stride() == expected.stride()


def images_for(fusion: Fusion) -> Tensor:
    """Aligned to less than the kernels load at once."""
    channels = fusion.layer.in_channels
    return torch.randn(2 * channels * 9 + 1, device=DEVICE).half()[1:].view(2, channels, 3, 3)


@pytest.mark.parametrize("dtype", HALVES, ids=dtype_name)
def test_float32_weights_serve_images_of_16_bits(on_cuda, dtype: torch.dtype) -> None:
    fusions, x = fusions_of(joinable(), torch.float32), images(dtype)
    assert not is_joined(fusions, torch.float32)
    y = pack_layers(fusions)(x)
    assert y.dtype == dtype
    assert torch.equal(y, layer_by_layer(fusions, x))


@pytest.mark.parametrize("dtype", HALVES, ids=dtype_name)
@pytest.mark.parametrize("padding", ["torch", "same"])
def test_a_joined_stem_and_block_are_accurate(on_cuda, padding: str, dtype: torch.dtype) -> None:
    """The depthwise layer adds up in float32 there: other bits than by itself, no larger errors."""
    model, x = joinable(padding=padding), images(dtype, MINIMUM_INPUTS, (18, 15))
    truth = eager(model.double().cpu(), x.double().cpu())
    fusions = fusions_of(model, dtype)
    packed = pack_layers(fusions)
    assert is_joined(fusions, dtype)
    assert not torch.equal(packed(x), layer_by_layer(fusions, x))
    y = packed(x)
    assert_accurate(y.cpu(), eager(model.cpu(), x.cpu()), truth)
    assert torch.equal(packed(x[3:5]), y[3:5])


def test_empty_batches_work(on_cuda) -> None:
    for model in (small(), joinable()):
        packed = pack_layers(fusions_of(model, torch.float16))
        y = packed(images(torch.float16)[:0])
        assert (y.shape, y.dtype) == ((0, CLASSES), torch.float16)


# --- what torch knows of it ---


@pytest.mark.skipif(ON_GPU, reason="the fakes are registered for the emulator here")
def test_opcheck(on_cuda) -> None:
    packed = pack_layers(fusions_of(joinable(), torch.float16))
    arguments = images(torch.float16, size=(6, 5)), packed.packed
    torch.library.opcheck(OPS.run.default, arguments, {"layers": packed.text})


def test_compile_with_dynamic_sizes(on_cuda) -> None:
    torch.compiler.reset()
    packed = pack_layers(fusions_of(small(), torch.float16))
    compiled = torch.compile(packed, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for x in (images(torch.float16), images(torch.float16, 3, (9, 11))):
            assert torch.equal(compiled(x), packed(x))


def test_vmap_folds_the_images_into_the_batch(on_cuda) -> None:
    packed = pack_layers(fusions_of(small(), torch.float16))
    x = images(torch.float16, 4, (6, 5))
    assert torch.equal(torch.vmap(packed)(x.unflatten(0, (2, 2))), packed(x).unflatten(0, (2, 2)))
    # Packed weights have odd lengths, so that the second of a batch starts where no kernel can load.
    weights = torch.stack([packed.packed, packed.packed])
    with pytest.raises(RuntimeError, match="packed: expected data aligned to 16 bytes"):
        torch.vmap(lambda batch: OPS.run(x, batch, layers=packed.text))(weights)


@needs_cuda_library
@pytest.mark.parametrize("width", [0.5, 1.0])
def test_fake_tensors_go_the_same_way(width: float) -> None:
    with fakes_on_cuda(torch.float16):
        model = FusedMobileNetV2(CLASSES, **{**JOINABLE, "width_mult": width})
        deployed = model.eval().deploy()
        x = torch.empty(5, 3, 33, 46)
        with calls() as operators, FlopCounterMode(display=False) as flops:
            y = deployed(x)
        program = torch.export.export(deployed, (x,))
    assert operators == ["run network"]
    assert (y.shape, y.dtype, y.device.type) == ((5, CLASSES), torch.float16, "cuda")
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert called == [torch.ops.mnv2.run.default]
    expected = layer_shapes(deployed.network.layers, 5, 33, 46)
    assert flops.get_total_flops() == 2 * sum(shape.macs for shape in expected)


@needs_cuda_library
def test_fakes_are_as_long_as_what_is_packed(monkeypatch, on_cuda) -> None:
    packed = pack_layers(fusions_of(joinable(), torch.bfloat16))
    monkeypatch.undo()  # fakes are of torch.ops.mnv2
    with fakes_on_cuda(torch.bfloat16):
        model = FusedMobileNetV2(CLASSES, **JOINABLE).eval()
        fake = pack_layers([unit.fusion() for unit in (*model.features, model.classifier)])
    assert fake.packed.shape == packed.packed.shape


# --- who calls it ---


def test_a_model_is_one_call(on_cuda) -> None:
    model, x = joinable().to(DEVICE).half(), images(torch.float16)
    with torch.no_grad():
        model(x)
        with calls() as operators:
            y = model(x)
        assert operators == ["run network"]
        assert torch.equal(y, model.deploy()(x))
        model.classifier = nn.Sequential(nn.Linear(model.last_channel, 6), nn.Tanh()).to(DEVICE).half()
        with calls() as operators:
            deployed, y = model.deploy(), model(x)
            assert torch.equal(deployed(x), y)
        assert packs(operators) == operators.count("run network") == 2


# --- errors ---


def refusal(packed: PackedLayers, x: Tensor, weights: Tensor | None = None) -> str:
    """The error, without the operator's name, of a call with other arguments."""
    with pytest.raises(RuntimeError) as refused:
        OPS.run(x, packed.packed if weights is None else weights, layers=packed.text)
    text = str(refused.value)
    assert text.startswith("mnv2::run: ")
    return text.removeprefix("mnv2::run: ")


def test_any_number_of_networks_is_read_by_any_threads(on_cuda) -> None:
    x = torch.empty(0, 8, 2, 2, dtype=torch.float16, device=DEVICE)

    def result_channels(channels: int) -> int:
        layers = f"head_pool in_channels=8 out_channels={channels}"
        packed = torch.empty(OPS.cuda_packed_bytes(layers, dtype="float16"), dtype=torch.uint8, device=DEVICE)
        return OPS.run(x, packed, layers=layers).shape[1]

    channels = [*range(8, 808, 8)] * 2  # more than are kept
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(result_channels, channels)) == channels


def test_images_that_only_a_chain_refuses(on_cuda) -> None:
    packed, x = pack_layers(fusions_of(small(), torch.float16)), images(torch.float16)
    expected = "x: expected an image that fills the window of every layer, got shape (2, 3, 0, 14)"
    assert refusal(packed, x[:, :, :0]) == expected
    large = x[:, :, :1, :1].expand(2, 3, 2**17, 2**16)
    assert refusal(packed, large).startswith("x: expected at most 4294967296 pixels an image, got shape")
    many = x[:1, :, :1, :1].expand(2**16, 3, 2**16, 2**16)
    assert refusal(packed, many) == f"cannot allocate a result of shape {(2**16, 2**30 * 16 * 2)}"


# --- torch's streams and memory ---


@needs_gpu
def test_a_network_follows_the_current_stream_and_can_be_captured() -> None:
    packed, x = pack_layers(fusions_of(joinable(), torch.float16)), images(torch.float16, 64, (224, 224))
    expected = packed(x)
    stream = torch.cuda.Stream()
    for _ in range(20):
        late = torch.zeros_like(x)
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(10_000_000)
            late.copy_(x)
            y = packed(late)
        stream.synchronize()
        assert torch.equal(y, expected)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = packed(x)
    y.zero_()
    graph.replay()
    assert torch.equal(y, expected)


@needs_gpu
def test_a_network_takes_two_buffers() -> None:
    packed, x = pack_layers(fusions_of(small(), torch.float16)), images(torch.float16, 64, (224, 224))
    packed(x)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    packed(x)
    stem = 64 * 112 * 112 * 16 * 2  # bytes of its output; block 0 has half, all layers have 1.9 times as many
    assert torch.cuda.max_memory_allocated() - before < 1.6 * stem
