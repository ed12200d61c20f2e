"""FusedMobileNetV2 against torchvision's network, and its eval mode against its own layers."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from conftest import every_isa
from models import CLASSES, SMALL_SETTING, calls, changed, eager, randomised, small
from PIL import Image
from tolerances import assert_accurate
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models import mobilenet_v2
from torchvision.models.detection.backbone_utils import _mobilenet_extractor
from torchvision.models.mobilenetv2 import InvertedResidual

from mnv2_kernels import FusedInvertedResidual, FusedMobileNetV2
from mnv2_kernels.fusion.eager_layers import SamePaddedConv2d
from mnv2_kernels.layer import Layer
from mnv2_kernels.nn.units import FusedClassifier, FusedHead
from mnv2_kernels.shapes import MAX_CHANNELS, same_padding_2d

BATCH = 8
BLOCKS = range(17)


def fused_small(x: Tensor, model: FusedMobileNetV2) -> Tensor:
    """The model's result, which has to come from kernels alone."""
    with torch.no_grad(), calls() as operators:
        y = model(x)
    assert [name for name in operators if not name.startswith("pack ")] == ["run network"]
    return y


# --- torchvision's network ---


@pytest.mark.parametrize("width", [0.35, 1.0, 1.4])
def test_state_dict_has_torchvisions_names_shapes_and_initial_values(width: float) -> None:
    torch.manual_seed(3)
    theirs = torchvision.models.mobilenet_v2(width_mult=width, num_classes=7)
    torch.manual_seed(3)
    ours = FusedMobileNetV2(width_mult=width, num_classes=7)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]


def test_constructor_takes_torchvisions_arguments() -> None:
    options = {
        "num_classes": 5,
        "width_mult": 0.6,
        "inverted_residual_setting": [[1, 20, 2, 1], [4, 30, 1, 2]],
        "round_nearest": 4,
        "norm_layer": partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03),
        "dropout": 0.4,
    }
    theirs, ours = torchvision.models.MobileNetV2(**options), FusedMobileNetV2(**options)
    shapes = [(name, tensor.shape) for name, tensor in ours.state_dict().items()]
    assert shapes == [(name, tensor.shape) for name, tensor in theirs.state_dict().items()]
    assert ours.features[1].conv[0][1].eps == 1e-3
    assert ours.classifier[0].p == 0.4


@pytest.mark.parametrize("make", [FusedMobileNetV2, lambda: FusedMobileNetV2.from_model(mobilenet_v2())])
def test_attributes_are_torchvisions(make: Callable[[], FusedMobileNetV2]) -> None:
    """Tools look for a module's attributes and methods, and for what is a Sequential."""
    theirs, ours = mobilenet_v2(), make()
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]
    held_by_any = vars(nn.Module())
    for (name, module), their_module in zip(ours.named_modules(), theirs.modules(), strict=True):
        attributes = {key: value for key, value in vars(their_module).items() if key not in held_by_any}
        assert {key: getattr(module, key) for key in attributes} == attributes, name
        assert module.training == their_module.training
        assert set(dir(their_module)) <= set(dir(module)), name
        if isinstance(their_module, nn.Sequential):
            assert isinstance(module, nn.Sequential), name


def test_detection_backbones_are_torchvisions() -> None:
    ours = FusedMobileNetV2(width_mult=0.35)
    theirs = mobilenet_v2(width_mult=0.35)
    theirs.load_state_dict(ours.state_dict())
    backbones = []
    for model in (ours, theirs):
        torch.manual_seed(0)
        backbones.append(_mobilenet_extractor(model, True, 2).eval())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad(), calls() as operators:
        maps, expected = (backbone(x) for backbone in backbones)
    assert operators.count("run block") == len(BLOCKS)
    assert list(maps) == list(expected)
    for name, each in expected.items():
        torch.testing.assert_close(maps[name], each, rtol=1e-3, atol=1e-4 * each.abs().max().item())


NO_TENSORS = {
    "numpy.ndarray": np.zeros((1, 3, 32, 32), np.float32),
    "list": [[[[0.0]]]],
    "NoneType": None,
    "PIL.Image.Image": Image.new("RGB", (32, 32)),
    "dict": {"x": torch.zeros(1, 3, 32, 32)},
}


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("kind", NO_TENSORS)
def test_an_input_that_is_no_tensor_is_named(kind: str, mode: bool) -> None:
    model = small()
    deployed = model.deploy()
    model.train(mode)
    callables = {
        "(N, C, H, W)": (model, deployed, *model.features, model.features[-1].pooled),
        "(N, in_features)": (model.classifier,),
    }
    for shape, modules in callables.items():
        for module in modules:
            with pytest.raises(TypeError, match=f"^{re.escape(f'expected a Tensor {shape}, got {kind}')}$"):
                module(NO_TENSORS[kind])


def test_train_mode_is_torchvisions_network_bit_for_bit() -> None:
    theirs = randomised(torchvision.models.mobilenet_v2(width_mult=0.35, num_classes=CLASSES))
    ours = FusedMobileNetV2(width_mult=0.35, num_classes=CLASSES)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 3, 64, 64)
    for model in (theirs.train(), ours.train()):
        torch.manual_seed(7)  # dropout
        model(x).square().mean().backward()
    for (name, theirs_parameter), parameter in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert torch.equal(theirs_parameter.grad, parameter.grad), name
    for (name, their_buffer), buffer in zip(theirs.named_buffers(), ours.buffers(), strict=True):
        assert torch.equal(their_buffer, buffer), name


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"block": InvertedResidual}, TypeError, "block: expected FusedInvertedResidual"),
        ({"norm_layer": partial(nn.GroupNorm, 4)}, TypeError, "norm_layer: expected .* GroupNorm"),
        ({"norm_layer": nn.Identity}, TypeError, "norm_layer: expected .* Identity"),
        ({"padding": "valid"}, ValueError, "padding: expected 'torch' or 'same', got 'valid'"),
        ({"inverted_residual_setting": []}, ValueError, "inverted_residual_setting: expected rows"),
        ({"inverted_residual_setting": [[1, 16, 1, 1], [6, 24]]}, ValueError, "inverted_residual_setting"),
        ({"inverted_residual_setting": [[1, 16, 1, 3]]}, ValueError, "stride should be 1 or 2 instead of 3"),
    ],
)
def test_what_cannot_be_honoured_is_an_error(options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        FusedMobileNetV2(**options)


# --- eval mode against the layers ---


@every_isa
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_eval_mode_is_as_accurate_as_eager(isa: str, dtype: torch.dtype) -> None:
    model = small(width_mult=1.0).to(dtype)
    x = torch.randn(BATCH, 3, 40, 40).to(dtype)
    truth = eager(copy.deepcopy(model).double(), x.double())
    assert_accurate(fused_small(x, model), eager(model, x), truth)


def test_whole_network_is_as_accurate_as_eager() -> None:
    model = randomised(FusedMobileNetV2(num_classes=CLASSES)).eval()
    x = torch.randn(BATCH, 3, 64, 64)
    truth = eager(copy.deepcopy(model).double(), x.double())
    assert_accurate(fused_small(x, model), eager(model, x), truth)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (33, 47), (32, 17), (50, 64)], ids=str)
@pytest.mark.parametrize("padding", ["torch", "same"])
@pytest.mark.parametrize("width", [0.35, 1.4])
def test_any_size_and_padding(width: float, padding: str, size: tuple[int, int]) -> None:
    model = small(width_mult=width, padding=padding)
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(fused_small(x, model), eager(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (1, 2)], ids=str)
def test_same_padding_is_tensorflows(size: tuple[int, int]) -> None:
    model = small(padding="same")
    theirs = torchvision.models.MobileNetV2(CLASSES, 0.5, SMALL_SETTING).eval()
    theirs.load_state_dict(model.state_dict())
    for conv in theirs.modules():
        if isinstance(conv, nn.Conv2d) and conv.stride == (2, 2):
            conv.padding = (0, 0)
            conv.register_forward_pre_hook(_pad_same)
    x = torch.randn(2, 3, *size)
    assert torch.equal(eager(model, x), theirs(x).detach())


def _pad_same(conv: nn.Conv2d, inputs: tuple[Tensor]) -> Tensor:
    top, left, bottom, right = same_padding_2d(*inputs[0].shape[-2:], 2)
    return pad(inputs[0], (left, right, top, bottom))


@pytest.mark.parametrize(
    ("size", "stride", "dilation", "before", "after"),
    [
        (8, 1, 1, 1, 1),
        (8, 2, 1, 0, 1),
        (7, 2, 1, 1, 1),
        (8, 1, 2, 2, 2),
        (8, 2, 2, 1, 2),
        (9, 4, 1, 1, 1),
        (8, 4, 1, 0, 0),
    ],
)
def test_same_padded_convolution_pads_each_side_as_tensorflow(
    size: int, stride: int, dilation: int, before: int, after: int
) -> None:
    conv = SamePaddedConv2d(2, 3, 3, stride, dilation=dilation)
    x = torch.randn(1, 2, size, size)
    padded = pad(x, (before, after, before, after))
    expected = nn.functional.conv2d(padded, conv.weight, conv.bias, stride, dilation=dilation)
    assert torch.equal(conv(x), expected)
    assert expected.shape[-1] == math.ceil(size / stride)


def test_strided_inputs_and_an_empty_batch() -> None:
    model = small()
    x = torch.randn(4, 3, 34, 68)
    for view in (x[::2, :, 1:, ::2], x[:1].expand(3, -1, -1, -1), x.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(fused_small(view, model), eager(model, view), rtol=1e-4, atol=1e-4)
    assert fused_small(x[:0], model).shape == (0, CLASSES)


def test_autocast_computes_as_bfloat16_does() -> None:
    model, x = small(), torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        fused, layers = fused_small(x, model), eager(model, x)
    assert fused.dtype == layers.dtype == torch.bfloat16
    torch.testing.assert_close(fused, layers, rtol=0.1, atol=0.1)


def test_float64_runs_the_layers_in_float64() -> None:
    model, x = small().double(), torch.randn(2, 3, 32, 32).double()
    with torch.no_grad(), calls() as operators:
        y = model(x)
    assert y.dtype == torch.float64
    assert not operators
    assert "float64" in model.fusion_obstacles()["features.0"]


def test_meta_tensors_give_shapes() -> None:
    assert small().to("meta")(torch.empty(3, 3, 32, 32, device="meta")).shape == (3, CLASSES)


def test_parameters_left_on_meta_are_an_error_as_in_torch() -> None:
    model = small()
    model.features[2].to("meta")
    with pytest.raises(RuntimeError, match="on device meta is not on the expected device cpu"):
        model(torch.randn(1, 3, 32, 32))


def test_the_most_channels_are_the_operators():
    for channels in (MAX_CHANNELS, MAX_CHANNELS + 1):
        weights, layer = [torch.zeros(channels, 1), None], Layer("linear", 1, channels)
        refused = pytest.raises(RuntimeError, match=str(MAX_CHANNELS))
        with nullcontext() if channels == MAX_CHANNELS else refused:
            torch.ops.mnv2.pack(weights, layers=str(layer))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_as_many_classes_as_no_kernel_takes_are_left_to_torch() -> None:
    model, x = small(num_classes=0), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert model(x).shape == model.deploy()(x).shape == (2, 0)
    classifier = FusedClassifier(nn.Linear(1, MAX_CHANNELS + 1)).eval()
    assert f"more than {MAX_CHANNELS} channels" in classifier.fusion_obstacle()
    assert classifier(torch.randn(2, 1)).shape == (2, MAX_CHANNELS + 1)


def test_another_forced_isa_does_not_disturb_what_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = small(), torch.randn(2, 3, 32, 32)
    expected = fused_small(x, model)
    monkeypatch.setenv("MNV2_FORCE_ISA", "scalar")
    assert torch.equal(fused_small(x, model), expected)


# --- parts, hooks and changes by the user ---


def test_a_hook_inside_a_block_makes_that_block_run_its_layers() -> None:
    model, x, taps = small(), torch.randn(2, 3, 32, 32), []
    plain = fused_small(x, model)
    handle = model.features[3].conv[0].register_forward_hook(lambda *call: taps.append(call[2].shape))
    with torch.no_grad(), calls() as operators:
        torch.testing.assert_close(model(x), plain, rtol=1e-4, atol=1e-4)
    assert len(taps) == 1
    assert operators.count("run block") == len(model.features) - 3
    assert "hooks" in model.fusion_obstacles()["features.3"]
    handle.remove()
    assert torch.equal(fused_small(x, model), plain)
    assert len(taps) == 1


# Changes of a block with a shortcut, by the paths of modules and attributes.
THIN, WIDE = 16, 96
HONOURED: dict[str, dict[str, object]] = {
    "no activation": {"conv.0.2": nn.Identity(), "conv.1.2": nn.Identity()},
    "stride 2": {"conv.1.0.stride": (2, 2), "use_res_connect": False},
    "no padding": {"conv.1.0.padding": (0, 0), "use_res_connect": False},
    "norm folded away": {"conv.3": nn.Identity()},
    "hardtanh as relu6": {"conv.0.2": nn.Hardtanh(0, 6), "conv.1.2": nn.Hardtanh(0, 6)},
    "norm without affine": {"conv.1.1": nn.BatchNorm2d(WIDE, affine=False).eval()},
    "5x5": {"conv.1.0": nn.Conv2d(WIDE, WIDE, 5, padding=2, groups=WIDE)},
    "unequal activations": {"conv.0.2": nn.ReLU()},
    "hardswish and SiLU": {"conv.0.2": nn.Hardswish(), "conv.1.2": nn.SiLU()},
}
# test_surgery.py has subclasses, hooks and the like.
RUNS_LAYERS: dict[str, dict[str, object]] = {
    "dilation": {"conv.1.0.dilation": (2, 2), "conv.1.0.padding": (2, 2)},
    "grouped project": {"conv.2": nn.Conv2d(WIDE, THIN, 1, groups=2)},
    "upper bound": {"conv.0.2.max_val": 3},
    "lower bound": {"conv.1.2.min_val": -1},
    "equal lower bounds": {"conv.0.2.min_val": -1, "conv.1.2.min_val": -1},
    "hardtanh": {"conv.1.2": nn.Hardtanh(0, 3)},
    "group norm": {"conv.3": nn.GroupNorm(2, THIN)},
    "norm in train mode": {"conv.3.training": True},
    "norm without statistics": {"conv.3": nn.BatchNorm2d(THIN, track_running_stats=False).eval()},
    "another layer": {"conv.4": nn.Tanh()},
}


@pytest.mark.parametrize("change", HONOURED | RUNS_LAYERS)
def test_changes_of_a_block_are_honoured(change: str) -> None:
    model = small()
    block, x = model.features[3], torch.randn(2, THIN, 16, 16, requires_grad=True)
    block(x)  # packs
    changed(block, (HONOURED | RUNS_LAYERS)[change])
    y = block(x)
    layers = block.conv(x)
    expected = x + layers if block.use_res_connect else layers
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    gradient, eager_gradient = (torch.autograd.grad(each.square().sum(), x) for each in (y, expected))
    torch.testing.assert_close(gradient, eager_gradient, rtol=1e-3, atol=1e-3)
    assert (block.fusion_obstacle() is None) == (change in HONOURED), block.fusion_obstacle()


def test_a_shortcut_over_other_channels_adds_as_torch_does() -> None:
    block, x = FusedInvertedResidual(16, 1, 1, 6).eval(), torch.randn(2, 16, 8, 8)
    block.use_res_connect = True
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + block.conv(x))
    assert block.fusion_obstacle() == "a shortcut around a convolution that changes the size"


@pytest.mark.parametrize("patched", [nn.ReLU6, nn.BatchNorm2d, FusedInvertedResidual, FusedHead])
def test_patches_of_classes_are_honoured(patched: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = small(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        plain = model(x)
        forward = patched.forward
        monkeypatch.setattr(patched, "forward", lambda self, x: forward(self, x) / 2)
        expected = model.classifier(model.features(x).mean((2, 3)))
        for module in (model, copy.deepcopy(model)):
            torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(plain, expected, rtol=1e-4, atol=1e-4)
        monkeypatch.undo()
        assert torch.equal(fused_small(x, model), plain)


def test_features_may_be_replaced() -> None:
    model, x = small(), torch.randn(2, 3, 32, 32)
    model.features[0][0] = nn.Conv2d(1, 16, 3, 2, 1, bias=False)
    model.features[-1] = nn.Conv2d(16, 20, 1)
    model.classifier = nn.Linear(20, 4)
    with torch.no_grad():
        torch.testing.assert_close(model(x[:, :1]), eager(model, x[:, :1]), rtol=1e-4, atol=1e-4)
        model.features = model.features[:3]
        model.classifier = nn.Identity()
        torch.testing.assert_close(model(x[:, :1]), eager(model, x[:, :1]), rtol=1e-4, atol=1e-4)
    assert model.fusion_obstacles() == {}
