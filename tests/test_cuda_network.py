"""mnv2::network_layers: the bits of the layers one after the other, and who calls it."""

from __future__ import annotations

import copy
import pickle
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
from torch.library import register_autograd, register_fake, register_vmap
from torch.utils.flop_counter import FlopCounterMode

from mnv2_kernels import FusedMobileNetV2, batching, gpu, layer_description, modules, ops, shapes
from mnv2_kernels.accuracy import MINIMUM_INPUTS
from mnv2_kernels.cuda_graphs import GraphedNetwork
from mnv2_kernels.fusion import Fusion, PackedLayers, PackedOperator
from mnv2_kernels.joining import joined
from mnv2_kernels.layer_description import SEPARATOR
from mnv2_kernels.ops import dtype_name

CUDA = torch.device("cuda")
HALVES = (torch.float16, torch.bfloat16)

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)

if not ON_GPU:
    _op = OPS.network_layers.default
    register_fake(_op, ops._FAKES["network_layers"])
    register_autograd(_op, ops._refuse_backward("network_layers"))
    register_vmap(_op, batching.rule(_op, folds_first_input=True))


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
        x = fusion.operator()(x)
    return x


def network(fusions: Sequence[Fusion]) -> PackedLayers:
    packed = joined(fusions, CUDA)
    assert isinstance(packed, PackedLayers)
    return packed


def is_joined(network: PackedLayers) -> bool:
    return "joined=1" in network.layers.split(SEPARATOR)[0]


# --- bits ---


@every_dtype
@pytest.mark.parametrize("padding", ["torch", "same"])
def test_bits_of_the_layers_one_after_the_other(on_cuda, padding: str, dtype: torch.dtype) -> None:
    fusions = fusions_of(small(padding=padding), dtype)
    packed = network(fusions)
    assert not is_joined(packed)
    for size in ((19, 14), (8, 13)) if padding == "same" else ((19, 14),):
        x = images(dtype, size=size)
        assert torch.equal(packed(x), layer_by_layer(fusions, x))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_with_and_without_stem_and_linear_layer(on_cuda, layout: str) -> None:
    dtype = torch.float16
    fusions = fusions_of(small(), dtype)
    x = LAYOUTS[layout](images(dtype))
    between = LAYOUTS[layout](layer_by_layer(fusions[:2], images(dtype)))
    for chain, image in ((fusions[:-1], x), (fusions[2:], between), (fusions[-2:], images_for(fusions[-2]))):
        assert torch.equal(network(chain)(image), layer_by_layer(chain, image))


def images_for(fusion: Fusion) -> Tensor:
    """Aligned to less than the kernels load at once."""
    channels = fusion.channels["in_channels"]
    return torch.randn(2 * channels * 9 + 1, device=DEVICE).half()[1:].view(2, channels, 3, 3)


@pytest.mark.parametrize("dtype", HALVES, ids=dtype_name)
def test_float32_weights_serve_images_of_16_bits(on_cuda, dtype: torch.dtype) -> None:
    fusions, x = fusions_of(joinable(), torch.float32), images(dtype)
    packed = network(fusions)
    assert not is_joined(packed)
    y = packed(x)
    assert y.dtype == dtype
    assert torch.equal(y, layer_by_layer(fusions, x))


@pytest.mark.parametrize("dtype", HALVES, ids=dtype_name)
@pytest.mark.parametrize("padding", ["torch", "same"])
def test_a_joined_stem_and_block_are_accurate(on_cuda, padding: str, dtype: torch.dtype) -> None:
    """The depthwise layer adds up in float32 there: other bits than by itself, no larger errors."""
    model, x = joinable(padding=padding), images(dtype, MINIMUM_INPUTS, (18, 15))
    truth = eager(model.double().cpu(), x.double().cpu())
    fusions = fusions_of(model, dtype)
    packed = network(fusions)
    assert is_joined(packed)
    assert len(list(packed.buffers())) == len(fusions) - 1
    y = packed(x)
    assert_accurate(y.cpu(), eager(model.cpu(), x.cpu()), truth)
    assert torch.equal(packed(x[3:5]), y[3:5])


def test_empty_batches_work(on_cuda) -> None:
    for model in (small(), joinable()):
        packed = network(fusions_of(model, torch.float16))
        y = packed(images(torch.float16)[:0])
        assert (y.shape, y.dtype) == ((0, CLASSES), torch.float16)


# --- what torch knows of it ---


@pytest.mark.skipif(ON_GPU, reason="the fakes are registered for the emulator here")
def test_opcheck(on_cuda) -> None:
    packed = network(fusions_of(joinable(), torch.float16))
    arguments = images(torch.float16, size=(6, 5)), list(packed.buffers())
    torch.library.opcheck(packed.run, arguments, {"layers": packed.layers})


def test_compile_with_dynamic_sizes(on_cuda) -> None:
    torch.compiler.reset()
    packed = network(fusions_of(small(), torch.float16))
    compiled = torch.compile(packed, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for x in (images(torch.float16), images(torch.float16, 3, (9, 11))):
            assert torch.equal(compiled(x), packed(x))


def test_vmap_folds_the_images_into_the_batch(on_cuda) -> None:
    packed = network(fusions_of(small(), torch.float16))
    x = images(torch.float16, 4, (6, 5))
    assert torch.equal(torch.vmap(packed)(x.unflatten(0, (2, 2))), packed(x).unflatten(0, (2, 2)))
    # Packed weights have odd lengths, so that the second of a batch starts where no kernel can load.
    weights = [torch.stack([each, each]) for each in packed.buffers()]
    with pytest.raises(RuntimeError, match=r"packed\[0\]: expected data aligned to 16 bytes"):
        torch.vmap(lambda batch: packed.run(x, batch, layers=packed.layers))(weights)


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
    assert operators == ["network_layers"]
    assert (y.shape, y.dtype, y.device.type) == ((5, CLASSES), torch.float16, "cuda")
    assert is_joined(deployed.network) == (width == 1.0)
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert called == [torch.ops.mnv2.network_layers.default]
    expected = layer_description.layer_shapes(deployed.network.layers, x.shape)
    assert flops.get_total_flops() == 2 * sum(shape.macs for shape in expected)


@needs_cuda_library
def test_fakes_are_as_long_as_what_is_packed(monkeypatch, on_cuda) -> None:
    packed = network(fusions_of(joinable(), torch.bfloat16))
    monkeypatch.undo()  # fakes are of torch.ops.mnv2
    with fakes_on_cuda(torch.bfloat16):
        model = FusedMobileNetV2(CLASSES, **JOINABLE).eval()
        fake = network([unit.fusion() for unit in (*model.features, model.classifier)])
    assert [each.shape for each in fake.buffers()] == [each.shape for each in packed.buffers()]


def test_shapes_are_those_of_the_published_network() -> None:
    model = FusedMobileNetV2(padding="same").eval()
    units = [unit.fusion() for unit in (*model.features, model.classifier)]
    layers = SEPARATOR.join(
        layer_description.describe_layer(fusion.kind, fusion.channels, fusion.options) for fusion in units
    )
    expected = shapes.mobilenet_v2(1.0, 225, 2, padding="same")
    found = list(layer_description.layer_shapes(layers, (2, 3, 225, 225)))
    assert found == [expected.stem, *expected.blocks, expected.head, expected.classifier]


# --- who calls it ---


def test_a_model_is_one_call(on_cuda) -> None:
    model, x = joinable().to(DEVICE).half(), images(torch.float16)
    with torch.no_grad():
        model(x)
        with calls() as operators:
            y = model(x)
        assert operators == ["network_layers"]
        assert torch.equal(y, model.deploy()(x))
        model.classifier = nn.Sequential(nn.Linear(model.last_channel, 6), nn.Tanh()).to(DEVICE).half()
        with calls() as operators:
            deployed, y = model.deploy(), model(x)
            assert torch.equal(deployed(x), y)
        assert packs(operators) == 2 * len(model.features) - 2  # stem and block 0 are packed together
        assert operators.count("network_layers") == 2


def test_a_watched_model_runs_layer_by_layer(on_cuda) -> None:
    model, x = small().to(DEVICE).half(), images(torch.float16)
    seen = []
    with torch.no_grad():
        expected = model(x)
        hook = model.features[2].register_forward_hook(lambda *arguments: seen.append(arguments))
        with hook, calls() as operators:
            y = model(x)
        assert "network_layers" not in operators
        assert len(seen) == 1
        assert torch.equal(y, expected)
        assert torch.equal(model.features[2:](model.features[:2](x)), model.features(x))


def test_a_changed_model_is_packed_anew(on_cuda) -> None:
    model, x = small().to(DEVICE), images(torch.float32)
    with torch.no_grad():
        y = model(x)
        model.classifier[1].bias.add_(1)
        torch.testing.assert_close(model(x), y + 1)
        model.features[1].conv[0][0].weight.zero_()
        assert not torch.allclose(model(x), y + 1)


def test_a_deployed_model_copies_and_is_not_saved(on_cuda) -> None:
    deployed, x = joinable().to(DEVICE).half().deploy(), images(torch.float16)
    expected = deployed(x)
    duplicate = copy.deepcopy(deployed)
    for buffer in deployed.network.buffers():
        buffer.zero_()
    assert torch.equal(duplicate(x), expected)
    assert "network_layers" in repr(duplicate.network)
    with pytest.raises(RuntimeError, match="packed for this machine"):
        pickle.dumps(deployed.network)


def test_graphs_hold_the_one_call(on_cuda) -> None:
    deployed, x = small().to(DEVICE).half().deploy(cuda_graphs=True), images(torch.float16)
    assert isinstance(deployed.network, GraphedNetwork)
    assert isinstance(deployed.network.network, PackedLayers)
    assert torch.equal(deployed.network.network(x), small().to(DEVICE).half()(x))


def test_other_backends_and_chains_run_layer_by_layer(monkeypatch, on_cuda) -> None:
    fusions = fusions_of(small(), torch.float16)
    assert joined(fusions, None) is None
    assert joined(fusions, torch.device("xpu")) is None
    assert joined(fusions[:3], CUDA) is None
    assert joined([fusions[-2], *fusions[1:]], CUDA) is None
    monkeypatch.setattr(gpu, "backend", lambda device="cuda": "triton")
    assert joined(fusions, CUDA) is None
    layers = small().to(DEVICE).deploy().network
    assert [type(layer) for layer in layers] == [PackedOperator] * len(fusions)


@pytest.mark.parametrize("name", gpu.CUDA_ONLY)
def test_other_devices_refuse_it(name: str) -> None:
    message = f"^mnv2::{name}: runs by CUDA kernels on NVIDIA's GPUs alone; .* mnv2::network on cpu"
    x = torch.zeros(1, 3, 4, 4)
    convolution = (x, None, None)
    arguments = (x, []) if name == "network_layers" else convolution * 3
    with pytest.raises(RuntimeError, match=message):
        getattr(torch.ops.mnv2, name)(*arguments, layers="")


# --- errors ---


def refusal(packed: PackedLayers, x: Tensor, weights: list[Tensor] | None = None, **options: Any) -> str:
    """The error, without the operator's name, of a call with other arguments."""
    options = {"layers": packed.layers, **options}
    with pytest.raises(RuntimeError) as refused:
        packed.run(x, list(packed.buffers()) if weights is None else weights, **options)
    text = str(refused.value)
    assert text.startswith("mnv2::network_layers: ")
    return text.removeprefix("mnv2::network_layers: ")


def changed(packed: PackedLayers, index: int, before: str, after: str) -> str:
    """A network's layers with other words in one."""
    layers = packed.layers.split(SEPARATOR)
    assert before in layers[index]
    layers[index] = layers[index].replace(before, after)
    return SEPARATOR.join(layers)


def test_wrong_descriptions_are_refused(on_cuda) -> None:
    packed, x = network(fusions_of(small(), torch.float16)), images(torch.float16)
    chain = "expected an optional stem, blocks, a head and an optional linear layer, got"
    sides = "expected (top, left, bottom, right), each 0 or 1"
    activations = 'expected "none", "relu" or "relu6"'
    for index, before, after, message in (
        (2, "block ", "blocks ", 'layers[2]: expected a stem, block, head_pool or linear, got "blocks"'),
        (1, "block ", "stem ", f"layers[1]: {chain} a stem"),
        (
            0,
            "out_channels=16",
            "out_channels=0",
            "layers[0]: out_channels: expected 1 to 1048576 channels, got 0",
        ),
        (2, "in_channels=8", "in_channels=16", "layers[2]: expected 8 input channels, got 16"),
        (3, "stride=1", "stride=3", "layers[3]: stride: expected 1 or 2, got 3"),
        (3, "stride=1", "stride=1.5", 'layers[3]: stride: expected a number, got "1.5"'),
        (3, "stride=1", "strides=1", "layers[3]: stride: expected a number, got none"),
        (3, "=1,1,1,1", "=1,1,1,2", f"layers[3]: padding: {sides}, got (1, 1, 1, 2)"),
        (3, "=1,1,1,1", "=1", f"layers[3]: padding: {sides}, got (1,)"),
        (3, "padding=", "padded=", f"layers[3]: padding: {sides}, got ()"),
        (3, "residual=1", "residual=2", 'layers[3]: residual: expected 0 or 1, got "2"'),
        (3, "relu6", "gelu", f'layers[3]: activation: {activations}, got "gelu"'),
        (2, "residual=0", "residual=1", "layers[2]: residual: expected stride 1, got 2"),
        (
            3,
            "relu6",
            "relu6 joined=1",
            "layers[3]: joined: expected 0 but for a first stem with a block behind it, got 1",
        ),
        (
            6,
            "in_features=1280",
            "in_features=0",
            "layers[6]: in_features: expected 1 to 1048576 channels, got 0",
        ),
    ):
        layers = changed(packed, index, before, after)
        assert refusal(packed, x, layers=layers) == message
    for layers in ("", SEPARATOR.join(packed.layers.split(SEPARATOR)[:3])):
        assert refusal(packed, x, layers=layers) == f"layers: {chain} no head"


def test_any_number_of_networks_is_read_by_any_threads(on_cuda) -> None:
    x = torch.empty(0, 8, 2, 2, dtype=torch.float16, device=DEVICE)

    def result_channels(channels: int) -> int:
        length = OPS.cuda_head_pool_bytes(8, channels, activation="relu6", dtype="float16")
        packed = torch.empty(length, dtype=torch.uint8, device=DEVICE)
        layers = f"head_pool in_channels=8 out_channels={channels} activation=relu6"
        return OPS.network_layers(x, [packed], layers=layers).shape[1]

    channels = [*range(8, 808, 8)] * 2  # more than are kept
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(result_channels, channels)) == channels


def test_wrong_images_are_refused(on_cuda) -> None:
    packed, x = network(fusions_of(small(), torch.float16)), images(torch.float16)
    assert refusal(packed, x[0]) == "x: expected 4 dimensions, got shape (3, 19, 14)"
    assert refusal(packed, x[:, :2]) == "x: expected shape (N, 3, H, W), got (2, 2, 19, 14)"
    assert refusal(packed, x.double()) == "x: expected dtype float32, float16 or bfloat16, got float64"
    assert refusal(packed, x.float()) == "x: expected dtype float16 (the packed weights'), got float32"
    expected = "x: expected an image that fills the window of every layer, got shape (2, 3, 0, 14)"
    assert refusal(packed, x[:, :, :0]) == expected
    large = x[:, :, :1, :1].expand(2, 3, 2**17, 2**16)
    assert refusal(packed, large).startswith("x: expected at most 4294967296 pixels an image, got shape")
    many = x[:1, :, :1, :1].expand(2**16, 3, 2**16, 2**16)
    assert refusal(packed, many) == f"cannot allocate a result of shape {(2**16, 2**30 * 16 * 2)}"


def test_wrong_weights_are_refused(on_cuda) -> None:
    packed, x = network(fusions_of(small(), torch.float16)), images(torch.float16)
    weights = list(packed.buffers())

    def with_layer(index: int, other: Tensor) -> list[Tensor]:
        return [*weights[:index], other, *weights[index + 1 :]]

    assert refusal(packed, x, weights[:-1]) == "packed: expected 7 tensors, one a layer, got 6"
    for index in (0, 2, 5, 6):
        other = weights[index]
        text = refusal(packed, x, with_layer(index, other[:-2].clone()))
        assert text.startswith(f"packed[{index}]: expected one of (")
        assert text.endswith(f" bytes, as packed for these arguments on this device, got {len(other) - 2}")
    message = "packed[1]: expected dtype uint8, got float32"
    assert refusal(packed, x, with_layer(1, weights[1].float())) == message
    shifted = torch.empty(len(weights[1]) + 1, dtype=torch.uint8, device=DEVICE)[1:].copy_(weights[1])
    message = "packed[1]: expected data aligned to 16 bytes, got a view at an odd offset"
    assert refusal(packed, x, with_layer(1, shifted)) == message
    bfloat16 = network(fusions_of(small(), torch.bfloat16))
    message = "x: expected dtype bfloat16 (the packed weights'), got float16"
    assert refusal(packed, x, with_layer(3, bfloat16.packed_3)) == message


def test_wrongly_joined_layers_are_refused(on_cuda) -> None:
    separate, x = network(fusions_of(small(), torch.float16)), images(torch.float16)
    layers = changed(separate, 0, "relu6", "relu6 joined=1")
    message = "layers[0]: joined: expected 0 for a stem and a block that no kernel computes together, got 1"
    assert refusal(separate, x, list(separate.buffers())[1:], layers=layers) == message
    message = "packed: expected 6 tensors, one a layer and one for the joined layers, got 7"
    assert refusal(separate, x, layers=layers) == message

    packed = network(fusions_of(joinable(), torch.float16))
    weights = list(packed.buffers())
    assert refusal(packed, x.float()) == "x: expected dtype float16 (the packed weights'), got float32"
    text = refusal(packed, x, [weights[0][:0], *weights[1:]])
    assert text.startswith("packed[0]: expected one of (")
    layers = changed(packed, 0, "joined=1", "joined=0")
    assert refusal(packed, x, layers=layers) == "packed: expected 5 tensors, one a layer, got 4"


def test_stems_and_blocks_that_no_kernel_joins_are_not_packed(on_cuda) -> None:
    packed = network(fusions_of(joinable(), torch.float16))
    pair = SEPARATOR.join(packed.layers.split(SEPARATOR)[:2])
    stem, block = (unit.fusion() for unit in joinable().to(DEVICE).half().features[:2])
    weights = (*stem.weights(), *block.weights()[3:])
    wide = [each.float() for each in weights]
    with pytest.raises(RuntimeError, match=r"layers: expected a stem and a block .*, got none, of float32"):
        OPS.pack_stem_block(*wide, layers=pair)
    with pytest.raises(RuntimeError, match=r"layers: expected a stem, joined, and a block, got 5 layers$"):
        OPS.pack_stem_block(*weights, layers=packed.layers)
    with pytest.raises(RuntimeError, match=r"^mnv2::pack_stem_block: project_weight: expected shape"):
        OPS.pack_stem_block(*weights[:6], weights[6][:8], *weights[7:], layers=pair)


# --- torch's streams and memory ---


@needs_gpu
def test_a_network_follows_the_current_stream_and_can_be_captured() -> None:
    packed, x = network(fusions_of(joinable(), torch.float16)), images(torch.float16, 64, (224, 224))
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
    packed, x = network(fusions_of(small(), torch.float16)), images(torch.float16, 64, (224, 224))
    packed(x)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    packed(x)
    stem = 64 * 112 * 112 * 16 * 2  # bytes of its output; block 0 has half, all layers have 1.9 times as many
    assert torch.cuda.max_memory_allocated() - before < 1.6 * stem
