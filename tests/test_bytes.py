"""Images of bytes into networks of floats: the bits of torch's own normalisation, without a float copy."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from cases import LAYOUTS
from conftest import every_isa
from models import calls, small, torchvisions
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import mnv2_kernels
from mnv2_kernels import FusedMobileNetV2, reference
from mnv2_kernels.layer import Layer, parse_layers
from mnv2_kernels.nn.image_bytes import IMAGENET, table_of

pack, run = torch.ops.mnv2.pack, torch.ops.mnv2.run

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
STEM = "stem in_channels=3 out_channels=8 stride=2"
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def image(*size: int) -> Tensor:
    return torch.randint(0, 256, size, dtype=torch.uint8)


def normalised(x: Tensor, mean: Sequence[float] = MEAN, deviation: Sequence[float] = DEVIATION) -> Tensor:
    """As torchvision's transforms do it."""
    means, deviations = (torch.tensor(each).view(-1, 1, 1) for each in (mean, deviation))
    return (x / 255 - means) / deviations


def table(mean: Sequence[float] = MEAN, deviation: Sequence[float] = DEVIATION) -> Tensor:
    byte = torch.arange(256, dtype=torch.uint8)
    return (byte / 255 - torch.tensor(mean)[:, None]) / torch.tensor(deviation)[:, None]


def stem_weights(dtype: torch.dtype = torch.float32) -> list[Tensor | None]:
    return [torch.randn(8, 3, 3, 3).to(dtype), torch.rand(8), torch.randn(8)]


# --- bits ---


@every_isa
@every_dtype
@pytest.mark.parametrize("padding", ["torch", "same"])
def test_a_network_gives_the_bits_of_the_normalised_image(isa: str, padding: str, dtype: torch.dtype) -> None:
    model = small(padding=padding).to(dtype)
    deployed, of_floats = model.deploy(normalize=(MEAN, DEVIATION)), model.deploy()
    for size in ((2, 3, 33, 46), (1, 3, 7, 9), (3, 3, 64, 65)):
        x = image(*size)
        y = deployed(x)
        assert y.dtype == dtype
        assert torch.equal(y, of_floats(normalised(x).to(dtype)))


@every_isa
@every_dtype
@pytest.mark.parametrize("options", ["", " kernel=5 padding=2,2,1,0", " padding=same activation=silu"])
def test_a_stem_alone_on_every_layout(isa: str, options: str, dtype: torch.dtype) -> None:
    layers = STEM + options
    weights = stem_weights(dtype)
    if "kernel=5" in options:
        weights[0] = torch.randn(8, 3, 5, 5).to(dtype)
    of_bytes = f"{layers} bytes_as={str(dtype).removeprefix('torch.')}"
    packed, of_floats = pack([*weights, table()], layers=of_bytes), pack(weights, layers=layers)
    x = image(2, 3, 13, 18)
    expected = run(normalised(x).to(dtype), of_floats, layers=layers)
    for layout in LAYOUTS.values():
        assert torch.equal(run(layout(x), packed, layers=of_bytes), expected)


def test_batch_and_threads_change_no_bits(set_threads: Callable[[int], None]) -> None:
    deployed = small().deploy(normalize="imagenet")
    x = image(7, 3, 40, 33)
    expected = torch.cat([deployed(each) for each in x.split(1)])
    for threads in (1, 2, 3, 5):
        set_threads(threads)
        for batch in (1, 4, 7):
            assert torch.equal(deployed(x[:batch]), expected[:batch])
    assert deployed(x[:0]).shape == (0, 10)


@every_dtype
def test_portable_weights(dtype: torch.dtype) -> None:
    layers = f"{STEM} bytes_as={str(dtype).removeprefix('torch.')}"
    weights, x = [*stem_weights(dtype), table()], image(2, 3, 9, 11)
    expected = run(x, pack(weights, layers=layers), layers=layers)
    assert torch.equal(run(x, pack(weights, layers=layers, portable=True), layers=layers), expected)


def test_float32_weights_for_results_of_another_dtype() -> None:
    weights, x = stem_weights(), image(1, 3, 9, 11)
    expected = run(normalised(x).bfloat16(), pack(weights, layers=STEM), layers=STEM)
    of_bytes = f"{STEM} bytes_as=bfloat16"
    assert torch.equal(run(x, pack([*weights, table()], layers=of_bytes), layers=of_bytes), expected)


@every_dtype
def test_the_reference(dtype: torch.dtype) -> None:
    x = image(2, 3, 9, 11)
    name = str(dtype).removeprefix("torch.")
    assert torch.equal(reference.numbers_of(x, table(), name), normalised(x).to(dtype))


# --- deploy ---


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [
        ("imagenet", normalised),
        ("tf", lambda x: x / 127.5 - 1),
        ((0.5, (0.5, 0.25, 0.125)), lambda x: normalised(x, (0.5,) * 3, (0.5, 0.25, 0.125))),
        ((torch.tensor(MEAN), list(DEVIATION)), normalised),
    ],
    ids=["imagenet", "tf", "numbers", "sequences"],
)
def test_normalize(normalize: Any, expected: Callable[[Tensor], Tensor]) -> None:
    model, x = small(), image(2, 3, 33, 46)
    assert torch.equal(model.deploy(normalize=normalize)(x), model.deploy()(expected(x)))


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def test_makes_no_copy_of_an_image() -> None:
    """Views are none: the image of another layout is read where it is."""
    model, x = small(), image(2, 3, 33, 46)
    expected = model.deploy(normalize="imagenet")(x)
    pixels = x.permute(0, 2, 3, 1).contiguous()
    with _Operators() as operators:
        y = model.deploy(normalize="imagenet", layout="NHWC")
        operators.names.clear()
        y = y(pixels)
    assert torch.equal(y, expected)
    assert operators.names == ["aten::permute", "mnv2::run"]


def test_a_layout_of_floats() -> None:
    model, x = small(), torch.randn(2, 3, 33, 46)
    assert torch.equal(model.deploy(layout="NHWC")(x.permute(0, 2, 3, 1)), model.deploy()(x))


def test_any_fused_model() -> None:
    pytest.importorskip("torchvision")
    model = mnv2_kernels.fuse(torchvisions(small()))
    x = image(2, 3, 33, 46)
    deployed = mnv2_kernels.deploy(model, normalize="imagenet", layout="NHWC")
    with torch.no_grad(), calls() as operators:
        y = deployed(x.permute(0, 2, 3, 1))
    assert operators == ["run network"]
    assert torch.equal(y, mnv2_kernels.deploy(model)(normalised(x)))
    assert torch.equal(mnv2_kernels.deploy(small(), normalize="imagenet")(x), y)


def test_copies_and_inference_mode() -> None:
    model, x = small(), image(2, 3, 33, 46)
    with torch.inference_mode():
        deployed = model.deploy(normalize="imagenet", layout="NHWC")
    pixels = x.permute(0, 2, 3, 1)
    assert torch.equal(copy.deepcopy(deployed)(pixels), deployed(pixels))


def deploy(change: Callable[[FusedMobileNetV2], object], **options: Any) -> nn.Module:
    model = small()
    change(model)
    return model.deploy(**options)


@pytest.mark.parametrize(
    ("normalize", "message"),
    [
        ("torch", "normalize: expected 'imagenet', 'tf' or (mean, deviation), got 'torch'"),
        ((MEAN,), f"normalize: expected 'imagenet', 'tf' or (mean, deviation), got {(MEAN,)}"),
        (((1, 2), 1), "normalize: mean: expected one finite number or 3, got (1, 2)"),
        ((0, float("nan")), "normalize: deviation: expected one finite number or 3, got nan"),
        (5, "normalize: expected 'imagenet', 'tf' or (mean, deviation), got 5"),
        (("a", 1), "normalize: mean: expected numbers, got 'a'"),
        ((1, 1e-45), "normalize: expected finite numbers for all bytes, got infinite ones by (1, 1e-45)"),
        ((0, (1, 1, 0)), "normalize: deviation: expected numbers above 0, got (1, 1, 0)"),
    ],
)
def test_refuses_another_normalize(normalize: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        small().deploy(normalize=normalize)


def test_refuses_another_layout() -> None:
    with pytest.raises(ValueError, match=r"^layout: expected one of NCHW, NHWC, got 'HWC'$"):
        small().deploy(layout="HWC")  # type: ignore[arg-type]


def test_refuses_a_network_without_a_stem() -> None:
    def without_stem(model: FusedMobileNetV2) -> None:
        del model.features[0]

    with pytest.raises(RuntimeError, match="normalize: expected a stem as the first layer, got a block"):
        deploy(without_stem, normalize="imagenet")


def test_refuses_a_model_that_does_not_begin_with_a_fused_stem() -> None:
    pytest.importorskip("torchvision")
    expected = "expected a model that begins with a stem that runs fused, but it begins with code of"
    inner = mnv2_kernels.fuse(torchvisions(small()))
    with pytest.raises(RuntimeError, match=f"{expected} Sequential"):
        mnv2_kernels.deploy(nn.Sequential(nn.Identity(), inner).eval(), normalize="imagenet")
    features = torchvisions(small()).features
    features[0][0].dilation = features[0][0].padding = (2, 2)
    with pytest.raises(RuntimeError, match=f"{expected} Conv2d"):
        mnv2_kernels.deploy(mnv2_kernels.fuse(features), normalize="imagenet")


# --- refusals of the operators ---

OF_BYTES = f"{STEM} bytes_as=float32"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_refuses_images_of_floats(device: str) -> None:
    packed = pack([*stem_weights(), table()], layers=OF_BYTES).to(device)
    expected = r"x: expected dtype uint8 \(of a stem with bytes_as\), got float32"
    with pytest.raises(RuntimeError, match=rf"^mnv2::run: {expected}$"):
        run(torch.zeros(1, 3, 9, 9, device=device), packed, layers=OF_BYTES)


def test_refuses_bytes_without_a_table() -> None:
    packed = pack(stem_weights(), layers=STEM)
    expected = "x: expected dtype float32, float16 or bfloat16, got uint8"
    with pytest.raises(RuntimeError, match=f"^mnv2::run: {expected}$"):
        run(image(1, 3, 9, 9), packed, layers=STEM)
    expected = rf"^mnv2::run: packed: expected weights of {OF_BYTES}, got those of {STEM}$"
    with pytest.raises(RuntimeError, match=expected):
        run(image(1, 3, 9, 9), packed, layers=OF_BYTES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "table: expected a tensor, got None"),
        (torch.zeros(3, 255), "table: expected shape (3, 256), got (3, 255)"),
        (torch.zeros(3, 256, dtype=torch.float16), "table: expected dtype float32, got float16"),
    ],
)
def test_refuses_another_table(given: Tensor | None, message: str) -> None:
    with pytest.raises(RuntimeError, match=f"^{re.escape(f'mnv2::pack: {message}')}$"):
        pack([*stem_weights(), given], layers=OF_BYTES)
    chain = f"{OF_BYTES}; head_pool in_channels=8 out_channels=8"
    weights = [*stem_weights(), given, torch.zeros(8, 8, 1, 1), None, None]
    with pytest.raises(RuntimeError, match=f"^{re.escape(f'mnv2::pack: layers[0]: {message}')}$"):
        pack(weights, layers=chain)


def test_refuses_weights_of_a_third_dtype() -> None:
    expected = r"^mnv2::pack: weight: expected dtype float32 or float16 \(x's\), got bfloat16$"
    with pytest.raises(RuntimeError, match=expected):
        pack([*stem_weights(torch.bfloat16), table()], layers=f"{STEM} bytes_as=float16")


def test_refuses_another_number_of_tensors() -> None:
    with pytest.raises(RuntimeError, match=r"^mnv2::pack: weights: expected 4 tensors .* got 3$"):
        pack(stem_weights(), layers=OF_BYTES)


# --- around the operators ---


@every_dtype
def test_opcheck_and_fakes(dtype: torch.dtype) -> None:
    layers = f"{STEM} bytes_as={str(dtype).removeprefix('torch.')}"
    weights, x = [*stem_weights(dtype), table()], image(2, 3, 9, 11)
    packed = pack(weights, layers=layers)
    torch.library.opcheck(pack.default, (weights,), {"layers": layers})
    torch.library.opcheck(run.default, (x, packed), {"layers": layers})
    fake, real = run(x.to("meta"), packed.to("meta"), layers=layers), run(x, packed, layers=layers)
    assert (fake.shape, fake.stride(), fake.dtype) == (real.shape, real.stride(), real.dtype)


def test_compile_and_export() -> None:
    deployed, pixels = small().deploy(normalize="imagenet", layout="NHWC"), image(2, 33, 46, 3)
    expected = deployed(pixels)
    assert torch.equal(torch.compile(deployed, fullgraph=True, backend="aot_eager")(pixels), expected)
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(deployed, (pixels,), dynamic_shapes=({0: batch},))
    assert torch.equal(program.module()(pixels[:1]), expected[:1])


def test_autocast_leaves_bytes_as_they_are() -> None:
    deployed, x = small().deploy(normalize="imagenet"), image(2, 3, 33, 46)
    expected = deployed(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(deployed(x), expected)


def test_vmap() -> None:
    deployed, x = small().deploy(normalize="imagenet"), image(3, 2, 3, 33, 46)
    assert torch.equal(torch.vmap(deployed)(x), torch.stack([deployed(each) for each in x]))


def test_flops_are_those_of_floats() -> None:
    model, x = small(), image(2, 3, 33, 46)
    counts = []
    for deployed, given in ((model.deploy(), x.float()), (model.deploy(normalize="tf"), x)):
        with FlopCounterMode(display=False) as counter:
            deployed(given)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_seconds_of_each_layer() -> None:
    network = small().deploy(normalize="tf").network
    seconds = torch.ops.mnv2.run_seconds(image(1, 3, 33, 46), network.packed, layers=network.text)
    assert len(seconds) == len(parse_layers(network.text))


def test_what_a_stem_moves() -> None:
    of_bytes, of_floats = (
        Layer("stem", 3, 8, bytes_as=bytes_as).shape(2, 9, 11) for bytes_as in ("float16", None)
    )
    pixels, saved = 2 * 3 * 9 * 11, 1  # a byte for each instead of two
    assert of_floats.input_bytes(torch.float16) - of_bytes.input_bytes(torch.float16) == saved * pixels
    moved = of_floats.floor_bytes(torch.float16) - saved * pixels + 3 * 256 * 4  # and the table
    assert of_bytes.floor_bytes(torch.float16) == moved


def test_imagenet_is_torchvisions() -> None:
    weights = pytest.importorskip("torchvision").models.MobileNet_V2_Weights.IMAGENET1K_V1
    transform = weights.transforms()
    assert (tuple(transform.mean), tuple(transform.std)) == IMAGENET
    assert torch.equal(table_of("imagenet", 3), table(transform.mean, transform.std))
