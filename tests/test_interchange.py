"""Int8 networks of torchvision, PT2E and ONNX, to and from our form."""

from __future__ import annotations

import copy
import io
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
import torch.ao.quantization.fx._decomposed
import torch.nn.functional as F
from models import CLASSES, SMALL_SETTING, randomised, small, torchvisions
from onnx import numpy_helper
from test_quantization import FEW_WARNING, photographs, quantised, sqnr
from torch import Tensor, nn
from torchvision.models.quantization import mobilenet_v2

from mnv2_kernels import QuantizedMobileNetV2, _native
from mnv2_kernels.processor import FORCE_ISA_VARIABLE

SIZE = (33, 26)

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:quantize. .* {FEW_WARNING}"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*(observer|reduce_range|legacy|TracerWarning)"),
]


def floats(count: int, seed: int = 0) -> Tensor:
    return photographs(count, SIZE, seed=seed) / 127.5 - 1


def same(a: QuantizedMobileNetV2, b: QuantizedMobileNetV2) -> list[str]:
    """The tensors of the states that differ."""
    first, second = a.state_dict(), b.state_dict()
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


# --- torchvision ---


@cache
def converted(engine: str, setting: str = "small", qat: bool = False) -> nn.Module:
    """torchvision's network in its own int8, which few steps of training or some images calibrated."""
    options: dict[str, Any] = {"inverted_residual_setting": SMALL_SETTING} if setting == "small" else {}
    width = 0.5 if setting == "small" else 0.35
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = mobilenet_v2(weights=None, quantize=False, num_classes=CLASSES, width_mult=width, **options)
    randomised(model).train(qat)
    model.fuse_model(is_qat=qat)
    tools = torch.ao.quantization
    if qat:
        model.qconfig = tools.get_default_qat_qconfig(engine)
        tools.prepare_qat(model, inplace=True)
        optimiser = torch.optim.SGD(model.parameters(), 1e-3)
        for batch in floats(8).split(4):
            model(batch).square().mean().backward()
            optimiser.step()
        model.eval()
    else:
        model.qconfig = tools.get_default_qconfig(engine)
        tools.prepare(model, inplace=True)
        model(floats(16))
    return tools.convert(model, inplace=True)


def stored(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The bytes that every layer stores, by its name here, and those of the image."""
    results: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, y: results.__setitem__(name, y.int_repr())

    modules = {"image": model.quant, **{f"features.{i}": each for i, each in enumerate(model.features)}}
    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    results["logits"] = model(x)
    for handle in handles:
        handle.remove()
    return results


ENGINES = [("fbgemm", False), ("qnnpack", False), ("qnnpack", True)]


@pytest.mark.parametrize(("engine", "qat"), ENGINES)
def test_torchvisions_integers(engine: str, qat: bool) -> None:
    model = converted(engine, qat=qat)
    result = QuantizedMobileNetV2.from_torchvision(model)
    state = model.state_dict()
    theirs = [value for name, value in state.items() if name.endswith(".weight")]
    theirs.append(state["classifier.1._packed_params._packed_params"][0])
    ours = [value for name, value in result.state_dict().items() if name.endswith(".weight")]
    assert all(torch.equal(a, b.int_repr()) for a, b in zip(ours, theirs, strict=True))
    assert min(each.min() for each in ours) == (-128 if engine == "fbgemm" else ours[0].min())
    assert result.image_grid.scale.eq(state["quant.scale"]).all()
    assert result.image_grid.zero_point.eq(state["quant.zero_point"]).all()
    for index, name in ((1, "conv.1"), (2, "conv.2"), (4, "skip_add")):
        layer, path = result.features[index], f"features.{index}.{name}"
        assert layer.scale.eq(state[f"{path}.scale"].float()).all()
        assert layer.zero_point.eq(state[f"{path}.zero_point"]).all()
    assert result.features[-1].pool == 1
    # The depthwise convolution's: no zero point is in the way.
    weight = state["features.1.conv.0.0.weight"]
    per_channel = weight.qscheme() == torch.per_channel_affine
    scales = weight.q_per_channel_scales() if per_channel else torch.tensor(weight.q_scale()).expand(16)
    step = state["features.1.conv.0.0.scale"].double()
    conv = result.features[1].get_submodule("depthwise")
    wanted = (scales.double() * state["features.0.0.scale"].double() / step).float()
    assert torch.equal(conv.multiplier, wanted)
    assert torch.equal(conv.bias, (state["features.1.conv.0.0.bias"].double() / step).float())


@pytest.mark.parametrize(("engine", "qat"), ENGINES)
def test_torchvisions_results(engine: str, qat: bool) -> None:
    """Layer by layer, of its own bytes. A project in front of a shortcut is rounded there and not here.

    QNNPACK rounds biases to whole sums, too.
    """
    torch.backends.quantized.engine = engine
    model = converted(engine, qat=qat)
    result = QuantizedMobileNetV2.from_torchvision(model)
    x = floats(6, seed=1)
    theirs = stored(model, x)
    # Torch rounds before it adds the zero point, so that the even number in the middle is another.
    assert (result.image_grid.bytes_of(x).int() - theirs["image"].int()).abs().max() <= 1
    source, plain = theirs["image"], 0.9999 if engine == "fbgemm" else 0.97
    for name, layer in [*result.named_layers()][:-2]:
        difference = (layer.reference(source).int() - theirs[name].int()).abs()
        assert difference.max() <= 1, name
        assert (difference == 0).double().mean() > (0.6 if layer.layer.residual else plain), name
        source = theirs[name]
    steps = (result(x) - theirs["logits"]).abs() / model.classifier[1].scale
    assert steps.max() < 4
    assert steps.mean() < 1.5
    assert theirs["logits"].std() / model.classifier[1].scale > 20


@pytest.mark.parametrize("isa", [each["name"] for each in _native.int8_isas() if each["supported"]])
def test_kernels_take_weights_of_minus_128(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCE_ISA_VARIABLE, isa)
    result = QuantizedMobileNetV2.from_torchvision(converted("fbgemm"))
    for layer in result.modules():
        if hasattr(layer, "multiplier"):
            layer.weight[:3] = -128
    x = photographs(3, SIZE)
    assert torch.equal(result(x), result.reference(x))


def test_a_checkpoint_is_enough() -> None:
    model = converted("qnnpack", "whole")
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    result = QuantizedMobileNetV2.from_torchvision(torch.load(file, weights_only=True))
    assert same(result, QuantizedMobileNetV2.from_torchvision(model)) == []
    strides = [layer.layer.stride for layer in result.features[1:-1]]
    assert strides == [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    assert sqnr(result(floats(2)), model(floats(2))) > 30


def test_zero_points_of_relu_are_folded() -> None:
    """The bytes below a zero point behind ReLU are not used, so that others may have their places."""
    torch.backends.quantized.engine = "fbgemm"
    model = copy.deepcopy(converted("fbgemm"))
    names = ("features.0.0", "features.2.conv.0.0", "features.2.conv.1.0", "features.5.0")
    for name, zero_point in zip(names, (9, 40, 1, 128), strict=True):
        model.get_submodule(name).zero_point = zero_point
    result = QuantizedMobileNetV2.from_torchvision(model)
    assert not any(layer.zero_point.any() for layer in (result.features[0], result.features[-1]))
    x = floats(6, seed=1)
    assert sqnr(result(x), model(x)) > 30
    assert same(result, QuantizedMobileNetV2.from_torchvision(converted("fbgemm"))) == []


def test_what_is_not_torchvisions_is_refused() -> None:
    state = converted("fbgemm").state_dict()
    whole = converted("qnnpack", "whole").state_dict()
    weight = "features.3.conv.0.0.weight"
    floating = {**whole, weight: whole[weight].dequantize()}
    shifted = torch._make_per_tensor_quantized_tensor(torch.full_like(whole[weight].int_repr(), 127), 0.1, -9)
    prepared = mobilenet_v2(weights=None, quantize=False)

    def without(key: str) -> dict[str, Any]:
        return {name: value for name, value in whole.items() if name != key}

    for source, message in (
        (prepared, "BatchNorm or observers"),
        (state, "usual 17 blocks, found 4"),
        (
            {name: value for name, value in whole.items() if "classifier" not in name},
            "its state has no class",
        ),
        (
            {name: value for name, value in whole.items() if name != "features.3.skip_add.scale"},
            "skip_add: its",
        ),
        (floating, r"features\.3\.conv\.0\.0: expected weights of torch\.qint8, found torch\.float32"),
        ({**whole, weight: shifted}, r"features\.3\.conv\.0\.0: .* weights are symmetric"),
    ):
        with pytest.raises(ValueError, match=message):
            QuantizedMobileNetV2.from_torchvision(source)


# --- PT2E ---

ROUND = torch.ops.quantized_decomposed  # registered by the import above


class Decomposed(nn.Module):
    """Our network as PT2E writes one: convolutions of numbers, here in steps, and rounding between them."""

    def __init__(self, network: QuantizedMobileNetV2, dtype: torch.dtype = torch.uint8) -> None:
        super().__init__()
        self.network, self.dtype, self.low = network, dtype, torch.iinfo(dtype).min
        self.activation: Callable[[Tensor], Tensor] = F.relu
        self.scales = 1.0, 1.0  # of what a depthwise convolution reads: written, and read

    def rounded(self, y: Tensor, zero_point: int = 0, scales: tuple[float, float] = (1.0, 1.0)) -> Tensor:
        levels = zero_point + self.low, self.low, torch.iinfo(self.dtype).max, self.dtype
        return ROUND.dequantize_per_tensor(
            ROUND.quantize_per_tensor(y, scales[0], *levels), scales[1], *levels
        )

    def convolved(self, layer: nn.Module, name: str, x: Tensor, **window: Any) -> Tensor:
        conv = layer.get_submodule(name)
        levels = torch.zeros_like(conv.bias, dtype=torch.int64), 0, -128, 127, torch.int8
        weight = ROUND.dequantize_per_channel(conv.weight, conv.multiplier, *levels)
        linear = F.linear if weight.dim() == 2 else F.conv2d
        return linear(x, weight, conv.bias, **window)

    def forward(self, x: Tensor) -> Tensor:
        stem, *blocks, head = self.network.features
        x = self.rounded(x, zero_point=128)
        x = self.rounded(self.activation(self.convolved(stem, "conv", x, stride=2, padding=1)))
        for block in blocks:
            layer, y = block.layer, x
            if layer.expand:
                y = self.rounded(self.activation(self.convolved(block, "expand", x)), scales=self.scales)
            window = {"stride": layer.stride, "padding": 1, "groups": layer.expanded_channels}
            y = self.rounded(self.activation(self.convolved(block, "depthwise", y, **window)))
            y = self.convolved(block, "project", y)
            x = self.rounded(x + self.rounded(y) if layer.residual else y)
        x = self.rounded(self.activation(self.convolved(head, "conv", x)))
        x = self.rounded(F.dropout(self.rounded(F.adaptive_avg_pool2d(x, 1)).flatten(1), 0.2, False))
        return self.convolved(self.network.classifier, "conv", x)


def exported(model: nn.Module) -> torch.export.ExportedProgram:
    return torch.export.export(model.eval(), (floats(2),))


@cache
def simple() -> QuantizedMobileNetV2:
    """Whose shortcuts and pool have the factor 1."""
    network = quantised(small())
    for name, buffer in network.named_buffers():
        if name.endswith(("shortcut", "pool")):
            buffer.fill_(1)
    return network


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8], ids=str)
def test_a_program_of_pt2e(dtype: torch.dtype) -> None:
    network = simple()
    result = QuantizedMobileNetV2.from_exported(exported(Decomposed(network, dtype)))
    fields = ("weight", "multiplier", "bias", "shortcut", "pool")
    state = result.state_dict()
    for name, value in network.state_dict().items():
        if name.endswith(fields) and name != "features.0.conv.bias":
            assert torch.equal(state[name], value), name
    stem, ours = (each.features[0].get_submodule("conv") for each in (network, result))
    sums = stem.weight.flatten(1).sum(1, dtype=torch.int64)
    torch.testing.assert_close(ours.bias, stem.bias - 128 * stem.multiplier * sums)
    assert result.features[0].pad.eq(128).all()
    assert [layer.layer.residual for layer in result.features] == [
        layer.layer.residual for layer in network.features
    ]


@pytest.mark.parametrize("quantizer", ["x86", "xnnpack", "xnnpack per tensor"])
def test_torchaos_programs(quantizer: str) -> None:
    pt2e = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    if quantizer == "x86":
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        chosen: Any = x86.X86InductorQuantizer()
        chosen.set_global(x86.get_default_x86_inductor_quantization_config())
    else:
        from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack

        config = xnnpack.get_symmetric_quantization_config(is_per_channel="tensor" not in quantizer)
        chosen = xnnpack.XNNPACKQuantizer().set_global(config)
    model, x = torchvisions(small()), floats(16)
    prepared = pt2e.prepare_pt2e(torch.export.export(model, (x,)).module(), chosen)
    prepared(x)
    program = torch.export.export(pt2e.convert_pt2e(prepared), (x,))
    result = QuantizedMobileNetV2.from_exported(program)
    theirs, exact = program.module()(x), model(x)
    assert sqnr(result(x), theirs) > 33
    assert sqnr(result(x), exact) > sqnr(theirs, exact) - 2
    activations = {layer.layer.activation for layer in result.features}
    assert activations == {"relu6"}


def test_coarse_steps_behind_relu6_become_finer() -> None:
    """Where 255 steps are more than 6, saturation would clamp at more."""
    model = Decomposed(simple())
    model.activation, model.scales = F.relu6, (0.05, 0.05)
    result = QuantizedMobileNetV2.from_exported(exported(model))
    depthwise = result.features[2].get_submodule("depthwise").multiplier
    # What it reads has steps of 6 / 255 in place of 0.05, and what it gives in place of 1.
    theirs = 0.05 * model.network.features[2].get_submodule("depthwise").multiplier
    torch.testing.assert_close(depthwise, theirs * (6 / 255 / 0.05) / (6 / 255))


def test_what_is_no_program_of_pt2e_is_refused() -> None:
    def changed(**changes: Any) -> nn.Module:
        model = Decomposed(simple())
        for name, value in changes.items():
            setattr(model, name, value)
        return model

    class Unrounded(Decomposed):
        def rounded(self, y: Tensor, *rest: Any, **options: Any) -> Tensor:
            return y if y.shape[2:] in ((), (1, 1)) else super().rounded(y, *rest, **options)

    for model, message in (
        (changed(activation=F.hardswish), r"hardswish: aten\.hardswish\.default is no part of"),
        (
            changed(activation=lambda y: y.clamp(0, 5)),
            r"clamp.*: expected ReLU or ReLU6, .* from 0\.0 to 5\.0",
        ),
        (changed(dtype=torch.int16, low=-32768), r"quantize_per_tensor: its activations are torch\.int16"),
        (changed(low=1), r"quantize_per_tensor: its activations have the levels \(1, 255\)"),
        (Unrounded(simple()), r"adaptive_avg_pool2d: expected stored integers, found a mean"),
        (torchvisions(small()), r"conv2d: its weights are in float"),
    ):
        with pytest.raises(ValueError, match=message):
            QuantizedMobileNetV2.from_exported(exported(model))
    with pytest.raises(ValueError, match="expected an ExportedProgram, got Decomposed"):
        QuantizedMobileNetV2.from_exported(Decomposed(simple()))


# --- ONNX ---


def networks() -> list[QuantizedMobileNetV2]:
    return [
        quantised(small()),
        quantised(small(padding="same"), recipe="per_channel"),
        QuantizedMobileNetV2.from_torchvision(converted("fbgemm")),
    ]


def run(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    # Other tools' files are of one image.
    return torch.cat([torch.tensor(session.run(None, {name: x.numpy()})[0]) for x in images.split(1)])


@pytest.mark.parametrize("index", range(3), ids=["default", "per channel, same", "torchvision"])
def test_onnx_round_trip(index: int, tmp_path: Path) -> None:
    network, path = networks()[index], tmp_path / "int8.onnx"
    network.to_onnx(path, SIZE)
    assert same(QuantizedMobileNetV2.from_onnx(path), network) == []
    x = network.image_grid.real(photographs(8, SIZE, seed=1))
    want = network(x)
    assert sqnr(run(path, x), want) > 45
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert sqnr(torch.tensor(compiled(x.numpy())[0]), want) > 45


def test_a_file_that_takes_bytes(tmp_path: Path) -> None:
    network, path = quantised(small()), tmp_path / "int8.onnx"
    network.to_onnx(path, SIZE)

    def take_bytes(model: Any) -> None:
        graph = model.graph
        del graph.node[:4]  # to the image's QuantizeLinear
        graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
        read = next(each for each in graph.node if each.name == "features.0.conv.read")
        read.input[0] = graph.input[0].name
        conv = next(each for each in graph.node if each.name == "features.0.conv.sums")
        next(each for each in conv.attribute if each.name == "pads").ints[:] = [1, 1, 1, 1]

    changed_file(path, take_bytes)
    result = QuantizedMobileNetV2.from_onnx(path)
    assert {*same(result, network)} == {
        f"features.0.{field}" for field in ("image_scale", "image_zero_point", "pad")
    }
    x = photographs(3, SIZE)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    theirs = torch.tensor(session.run(None, {"images": x.numpy()})[0])
    assert sqnr(result(x), theirs) > 45


def float_file(folder: Path) -> tuple[Path, nn.Module]:
    model, path = torchvisions(small()), folder / "float.onnx"
    torch.onnx.export(model, (floats(1),), path, dynamo=True, external_data=False, input_names=["x"])
    return path, model


def test_onnx_runtimes_files(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(floats(16).split(1))

        def get_next(self) -> Any:
            x = next(self.left, None)
            return None if x is None else {"x": x.numpy()}

    source, model = float_file(tmp_path)
    x, path = floats(8, seed=1), tmp_path / "theirs.onnx"
    for per_channel, dtype in ((True, QuantType.QUInt8), (False, QuantType.QInt8)):
        options = {"per_channel": per_channel, "activation_type": dtype, "weight_type": QuantType.QInt8}
        quantize_static(source, path, Images(), quant_format=QuantFormat.QDQ, **options)
        result = QuantizedMobileNetV2.from_onnx(path)
        theirs = run(path, x)
        assert sqnr(result(x), theirs) > 30
        assert sqnr(result(x), model(x)) > sqnr(theirs, model(x)) - 1


def test_nncfs_files(tmp_path: Path) -> None:
    nncf = pytest.importorskip("nncf")
    source, model = float_file(tmp_path)
    x, path = floats(8, seed=1), tmp_path / "theirs.onnx"
    images = nncf.Dataset([{"x": each.numpy()} for each in floats(16).split(1)])
    onnx.save(nncf.quantize(onnx.load(source), images), path)
    result = QuantizedMobileNetV2.from_onnx(path)
    theirs = run(path, x)
    assert sqnr(result(x), theirs) > 30
    assert sqnr(result(x), model(x)) > sqnr(theirs, model(x)) - 2


def changed_file(path: Path, change: Callable[[Any], Any]) -> None:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def replaced(name: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A tensor of a file, changed."""

    def apply(model: Any) -> None:
        (tensor,) = (each for each in model.graph.initializer if each.name == name)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))

    return apply


def node(name: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    return lambda model: change(next(each for each in model.graph.node if each.name == name))


def operator(kind: str) -> Callable[[Any], None]:
    return lambda each: setattr(each, "op_type", kind)


def two_steps(conv: Any) -> None:
    (strides,) = (each for each in conv.attribute if each.name == "strides")
    strides.ints[0] = 2


DAMAGES: list[tuple[Callable[[Any], Any], str]] = [
    (
        node("features.2.expand.bytes", lambda each: each.output.__setitem__(0, "lost")),
        r"it reads .*, which nothing before it gives",
    ),
    (
        node("features.1.depthwise.sums", operator("ConvTranspose")),
        r"features\.1\.depthwise\.sums: ConvTransp",
    ),
    *(
        (node("features.2.project.sums", change), r"features\.2\.project\.sums: expected 2 inputs or more")
        for change in (
            lambda each: each.ClearField("input"),
            lambda each: each.input.__setitem__(1, ""),
            lambda each: each.ClearField("output"),
        )
    ),
    (node("features.2.project.sums", two_steps), r"features\.2\.project\.sums: expected one stride"),
    (
        node("features.2.expand.bytes", operator("Relu")),
        r"features\.2\.depthwise\.read: expected stored integers, found an act",
    ),
    (
        node("logits", lambda each: setattr(each, "domain", "com.microsoft")),
        r"logits: .* com\.microsoft\.Gemm",
    ),
    (
        replaced("features.2.depthwise.weight", lambda each: each.astype("int32")),
        "int32, here they have eight",
    ),
    (replaced("one", lambda each: -each), r"its scale is not a finite number above 0: -1\.0"),
    (
        replaced("zero", lambda each: each + 3),
        "no ReLU or ReLU6 follows it, and its results have the zero point 3",
    ),
    (
        lambda model: setattr(model.metadata_props[0], "value", "linear in_channels=4 out_channels=4"),
        "describes",
    ),
]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    source, path = tmp_path / "int8.onnx", tmp_path / "damaged.onnx"
    quantised(small()).to_onnx(source, SIZE)
    for change, message in DAMAGES:
        path.write_bytes(source.read_bytes())
        changed_file(path, change)
        with pytest.raises(ValueError, match=message):
            QuantizedMobileNetV2.from_onnx(path)
    onnx.save(onnx.load(float_file(tmp_path)[0]), path)
    with pytest.raises(ValueError, match="are in float"):
        QuantizedMobileNetV2.from_onnx(path)
    path.write_bytes(source.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged, or no ONNX file"):
        QuantizedMobileNetV2.from_onnx(path)


def test_a_size_without_pixels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 x 1, got 0 x 32"):
        quantised(small()).to_onnx(tmp_path / "int8.onnx", (0, 32))


def test_layers_in_float_are_not_written(tmp_path: Path) -> None:
    network = quantised(small(), keep_float=["features.2"])
    with pytest.raises(ValueError, match=r"features\.2 is kept in float"):
        network.to_onnx(tmp_path / "int8.onnx", SIZE)


def test_without_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = quantised(small())
    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (lambda: network.to_onnx(tmp_path / "x", 32), lambda: QuantizedMobileNetV2.from_onnx("x")):
        with pytest.raises(ImportError, match=r"needs the package onnx: pip install 'mnv2-kernels\[onnx\]'"):
            call()
