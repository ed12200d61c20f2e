"""FusedMobileNetV2.from_model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchvision
from models import CLASSES, SMALL_SETTING, calls, eager, randomised
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from mnv2_kernels import FusedMobileNetV2


def theirs(**options: object) -> nn.Module:
    options = {"num_classes": CLASSES, "inverted_residual_setting": SMALL_SETTING, **options}
    return randomised(torchvision.models.MobileNetV2(**options))


def _new_classifier(model: nn.Module) -> nn.Module:
    model.classifier = nn.Sequential(nn.Linear(1280, 20), nn.ReLU(), nn.Linear(20, 3))
    return model


def _dilated(model: nn.Module) -> nn.Module:
    model.features[2].conv[1][0].stride = (1, 1)
    model.features[3].conv[1][0].dilation = model.features[3].conv[1][0].padding = (2, 2)
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "whole": lambda: randomised(torchvision.models.mobilenet_v2()),
    "width": lambda: theirs(width_mult=1.4, round_nearest=4),
    "eps": lambda: theirs(norm_layer=partial(nn.BatchNorm2d, eps=0.1)),
    "frozen norms": lambda: theirs(norm_layer=FrozenBatchNorm2d),
    "half precision": lambda: theirs().half(),
    "another classifier": lambda: _new_classifier(theirs()),
    "dilated": lambda: _dilated(theirs()),
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
    kernels = [operator for operator in operators if not operator.startswith("pack_")]
    if obstacles:
        assert len(kernels) == len(model.features) - len(obstacles) + 1  # and the classifier
    else:
        assert kernels == ["network"]


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


def _other_norm(model: nn.Module) -> None:
    model.features[2].conv[1][1] = nn.GroupNorm(2, 96)


def _other_kernel(model: nn.Module) -> None:
    model.features[2].conv[1][0] = nn.Conv2d(96, 96, 5, 2, 2, groups=96)


def _dense(model: nn.Module) -> None:
    model.features[2].conv[1][0] = nn.Conv2d(96, 96, 3, 2, 1)


def _no_convolution(model: nn.Module) -> None:
    model.features[2].conv[2] = nn.Identity()


def _more_layers(model: nn.Module) -> None:
    model.features[2].conv.append(nn.ReLU())
    model.features[2].conv.append(nn.ReLU())


def _short(model: nn.Module) -> None:
    model.features = model.features[:2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_norm, r"features\.2\.conv\.1\.0: the norm is GroupNorm"),
        (_other_kernel, r"features\.2\.conv\.1\.0: kernel is \(5, 5\)"),
        (_dense, r"features\.2\.conv\.1\.0 has 1 groups"),
        (_no_convolution, r"features\.2\.conv\.2 is Identity"),
        (_more_layers, r"features\.2\.conv has 6 modules"),
        (_short, "features is no Sequential of a stem, blocks and a head"),
    ],
)
def test_changed_architectures_are_refused(change: Callable[[nn.Module], None], words: str) -> None:
    model = theirs()
    change(model)
    with pytest.raises(ValueError, match=words):
        FusedMobileNetV2.from_model(model)
