"""FusedMobileNetV2.from_model."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchvision
from models import CLASSES, SMALL_SETTING, calls, changed, eager, randomised, small
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.quantization.mobilenetv2 import QuantizableInvertedResidual, QuantizableMobileNetV2
from torchvision.models.quantization.utils import _replace_relu
from torchvision.ops import FrozenBatchNorm2d

from mnv2_kernels import FusedInvertedResidual, FusedMobileNetV2


def theirs(**options: object) -> nn.Module:
    options = {"num_classes": CLASSES, "inverted_residual_setting": SMALL_SETTING, **options}
    return randomised(torchvision.models.MobileNetV2(**options))


DILATED = {
    "features.2.conv.1.0.stride": (1, 1),
    "features.3.conv.1.0.dilation": (2, 2),
    "features.3.conv.1.0.padding": (2, 2),
}
DILATED_TAPS = {"features.2.conv.0.0.dilation": (2, 2), "features.2.conv.2.dilation": (2, 2)}
CLASSIFIERS = {
    "another classifier": nn.Sequential(nn.Linear(1280, 20), nn.ReLU(), nn.Linear(20, 3)),
    "named classifier": nn.Sequential(OrderedDict(drop=nn.Dropout(), fc=nn.Linear(1280, 20))),
    "one linear layer twice": nn.Sequential(nn.Dropout(), *[nn.Linear(1280, 1280)] * 2),
}


class Helped(MobileNetV2):
    """More, but nothing else than its base class where that looks."""

    def __init__(self, **options: object) -> None:
        super().__init__(CLASSES, inverted_residual_setting=SMALL_SETTING, **options)

    def predict(self, x: Tensor) -> Tensor:
        return self(x).argmax(1)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "whole": lambda: randomised(torchvision.models.mobilenet_v2()),
    "width": lambda: theirs(width_mult=1.4, round_nearest=4),
    "eps": lambda: theirs(norm_layer=partial(nn.BatchNorm2d, eps=0.1)),
    "frozen norms": lambda: theirs(norm_layer=FrozenBatchNorm2d),
    "half precision": lambda: theirs().half(),
    "dilated": lambda: changed(theirs(), DILATED),
    "dilation of single taps": lambda: changed(theirs(), DILATED_TAPS),
    "subclass": lambda: randomised(Helped(width_mult=0.5)),
    "our blocks": lambda: theirs(block=FusedInvertedResidual),
    **{
        name: lambda classifier=classifier: changed(theirs(), {"classifier": classifier})
        for name, classifier in CLASSIFIERS.items()
    },
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [False, True])
def test_takes_over_everything(name: str, training: bool) -> None:
    source = MODELS[name]().train(training)
    source.features[1].requires_grad_(False)
    source.features[2].eval()
    model = FusedMobileNetV2.from_model(source)
    assert model.last_channel == source.last_channel
    for (path, module), (their_path, their_module) in zip(
        model.named_modules(), source.named_modules(), strict=True
    ):
        assert path == their_path
        assert module.training == their_module.training
    for (path, tensor), (their_path, their_tensor) in zip(
        model.state_dict(keep_vars=True).items(), source.state_dict(keep_vars=True).items(), strict=True
    ):
        assert path == their_path
        assert torch.equal(tensor, their_tensor)
        assert tensor.requires_grad == their_tensor.requires_grad
        assert tensor.data_ptr() != their_tensor.data_ptr()

    x = torch.randn(2, 3, 40, 40).to(model.features[0][0].weight.dtype)
    with torch.no_grad(), calls() as operators:
        y = model.eval()(x)
    tolerance = 0.05 if y.dtype == torch.float16 else 1e-4
    torch.testing.assert_close(y, source.eval()(x).detach(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(eager(model, x), source(x).detach())
    obstacles = ["features.3"] if name == "dilated" else []
    assert list(model.fusion_obstacles()) == obstacles
    kernels = [operator for operator in operators if not operator.startswith("pack ")]
    if obstacles:
        assert len(kernels) == len(model.features) - len(obstacles) + 1  # and the classifier
    else:
        assert kernels == ["run network"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet18", "got ResNet: it has no module 'features'"),
        ("squeezenet1_0", r"got SqueezeNet: features\.0 is Conv2d instead of Sequential"),
        ("mobilenet_v3_small", r"got MobileNetV3: features\.1 is InvertedResidual and has no 'conv'"),
        ("efficientnet_b0", r"got EfficientNet: features\.1 .* has no 'conv'"),
        ("mnasnet0_5", "got MNASNet: it has no module 'features'"),
    ],
)
def test_other_architectures_are_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"expected torchvision's mobilenet_v2, {words}"):
        FusedMobileNetV2.from_model(torchvision.models.get_model(name))


# --- what is refused; test_surgery.py has all that users do to code and layers ---


def _double(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return 2 * output


class Frozen(MobileNetV2):
    def train(self, mode: bool = True) -> MobileNetV2:
        return super().train(False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features.2.conv.1.1": nn.GroupNorm(2, 96)}, r"features\.2\.conv\.1\.0: the norm is GroupNorm"),
        (
            {"features.2.conv.1.0": nn.Conv2d(96, 96, 5, 2, 2, groups=96)},
            r"features\.2\.conv\.1\.0: kernel is \(5, 5\)",
        ),
        ({"features.2.conv.1.0": nn.Conv2d(96, 96, 3, 2, 1)}, r"features\.2\.conv\.1\.0 has 1 groups"),
        ({"features.2.conv.2": nn.Identity()}, r"features\.2\.conv\.2 is Identity"),
        (
            {"features.2.conv.4": nn.ReLU(), "features.2.conv.5": nn.ReLU()},
            r"features\.2\.conv has 6 modules",
        ),
        (
            {"features": nn.Sequential(nn.Sequential())},
            "features is no Sequential of a stem, blocks and a head",
        ),
        ({"__class__": Frozen}, "got .*: model: Frozen has its own train"),
    ],
)
def test_changed_networks_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FusedMobileNetV2.from_model(changed(theirs(), change))


@pytest.mark.parametrize("path", ["", "features", "features.1", "features.1.conv.0"])
def test_code_of_what_is_left_behind_is_refused(path: str) -> None:
    for kind in ("forward_hook", "forward_pre_hook", "full_backward_hook"):
        model = theirs()
        getattr(model.get_submodule(path), f"register_{kind}")(_double)
        with pytest.raises(ValueError, match=f"got .*: {path or 'model'}: .* has hooks"):
            FusedMobileNetV2.from_model(model)
    model = theirs()
    model.get_submodule(path).forward = _double
    with pytest.raises(ValueError, match=f"got .*: {path or 'model'}: the forward of .* is replaced"):
        FusedMobileNetV2.from_model(model)


def test_networks_of_other_code_are_refused() -> None:
    model = theirs()
    model.register_state_dict_post_hook(_double)
    with pytest.raises(ValueError, match=r"got .*: model has state_dict_hooks"):
        FusedMobileNetV2.from_model(model)
    model = theirs()
    # Like torchvision's block, which it is not.
    other = type("OtherResidual", (nn.Module,), {"__module__": "torchvision.models.other"})()
    other.conv, other.use_res_connect = model.features[2].conv, False
    with pytest.raises(ValueError, match=r"features\.2 is torchvision\..*\.OtherResidual, whose forward may"):
        FusedMobileNetV2.from_model(changed(model, {"features.2": other}))
    with pytest.raises(ValueError, match=r"got .*: model is .*OptimizedModule.* wrapper"):
        FusedMobileNetV2.from_model(torch.compile(theirs(), backend="eager"))


def test_the_quantizable_network_is_taken_until_it_is_prepared() -> None:
    source = randomised(
        QuantizableMobileNetV2(
            CLASSES, inverted_residual_setting=SMALL_SETTING, block=QuantizableInvertedResidual
        )
    )
    _replace_relu(source)
    source.eval()
    x = torch.randn(2, 3, 32, 32)
    model = FusedMobileNetV2.from_model(source)
    assert model.fusion_obstacles() == {}
    assert list(model.state_dict()) == list(source.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(x), source(x), rtol=1e-4, atol=1e-4)
    source.features[3].skip_add.activation_post_process.register_forward_hook(lambda *call: 2 * call[2])
    with pytest.raises(ValueError, match=r"features\.3\.skip_add\.activation_.*: Identity has hooks"):
        FusedMobileNetV2.from_model(source)
    source.features[3].skip_add.activation_post_process = nn.Identity()
    source.quant = nn.Tanh()
    with pytest.raises(ValueError, match=r"model\.quant is Tanh instead of QuantStub"):
        FusedMobileNetV2.from_model(source)
    source.fuse_model(is_qat=False)
    with pytest.raises(ValueError, match=r"features\.0\.0 is .*ConvReLU2d instead of Conv2d"):
        FusedMobileNetV2.from_model(source)


# --- fused networks ---


class Scaled(FusedMobileNetV2):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(2 * x)


class Constructed(FusedMobileNetV2):
    def __init__(self) -> None:
        super().__init__(CLASSES)


def test_a_fused_network_is_copied() -> None:
    model, x = small(padding="same"), torch.randn(2, 3, 33, 32)
    twin = FusedMobileNetV2.from_model(model)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(twin(x), expected)
        twin.features[2].conv[2].weight.zero_()
        assert torch.equal(model(x), expected)
        assert not torch.equal(twin(x), expected)


def test_a_subclass_converts_to_itself() -> None:
    source, x = theirs().eval(), torch.randn(2, 3, 32, 32)
    model = Scaled.from_model(source)
    assert type(model) is Scaled
    with torch.no_grad():
        torch.testing.assert_close(model(x), source(2 * x), rtol=1e-4, atol=1e-4)
        for twin in (Scaled.from_model(model), FusedMobileNetV2.from_model(model)):
            assert type(twin) is Scaled
            assert torch.equal(twin(x), model(x))
        plain = FusedMobileNetV2.from_model(source)
        torch.testing.assert_close(Scaled.from_model(plain)(x), model(x))
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


def test_a_subclass_reads_keras_files_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, x = small(padding="same"), torch.randn(2, 3, 32, 32)
    monkeypatch.setattr("mnv2_kernels.nn.mobilenet_v2.load_keras", lambda path, of_channels: plain)
    model = Scaled.from_keras("network.h5")
    assert type(model) is Scaled
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain(2 * x))
    assert type(FusedMobileNetV2.from_keras("network.h5")) is FusedMobileNetV2


def test_a_subclass_whose_constructor_would_not_run_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"constructor .* got Constructed: construct it"):
        Constructed.from_model(theirs())
    assert type(Constructed.from_model(Constructed())) is Constructed


def test_a_fused_network_with_code_of_its_own_is_no_other_subclass() -> None:
    with pytest.raises(ValueError, match="got Scaled: model: Scaled has its own forward"):
        type("Other", (FusedMobileNetV2,), {}).from_model(Scaled.from_model(theirs()))
    model = small()
    model.register_forward_hook(_double)
    with pytest.raises(ValueError, match="model: FusedMobileNetV2 has hooks"):
        Scaled.from_model(model)
    forward = model.features[1].forward
    model.features[1].forward = lambda x: 2 * forward(x)
    with pytest.raises(ValueError, match=r"features\.1: the forward of Fused.* is replaced"):
        FusedMobileNetV2.from_model(model)
