"""Models of other libraries (extra `zoo`): every inverted residual is found, and fused if it is served."""

import copy
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from typing import NamedTuple

import pytest
import torch
from models import calls
from tolerances import assert_accurate
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mnv2_kernels import fuse, fusion_report
from mnv2_kernels.accuracy import MINIMUM_INPUTS
from mnv2_kernels.layer import Layer
from mnv2_kernels.shapes import ACTIVATIONS

SIZE = 64

# Reasons for a block to stay eager as long as the operators have no such option.
FIELDS = {each.name for each in fields(Layer)}
LACKING = {
    words
    for words, is_served in {
        "kernel 5": "kernel" in FIELDS,
        "squeeze-excite": "squeezed_channels" in FIELDS,
        "two activations": "depthwise_activation" in FIELDS,
        "hardswish": "hardswish" in ACTIVATIONS,
        "silu": "silu" in ACTIVATIONS,
    }.items()
    if not is_served
}


class FlatBlock(nn.Module):
    """The block as the article that this project began with has it: one flat Sequential."""

    def __init__(self, inp: int, oup: int, stride: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = inp * expand_ratio
        self.is_shortcut = stride == 1 and inp == oup
        self.conv = nn.Sequential(
            *(nn.Conv2d(inp, hidden, 1, 1, 0, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()),
            *(nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden)),
            *(nn.ReLU6(), nn.Conv2d(hidden, oup, 1, 1, 0, bias=False), nn.BatchNorm2d(oup)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.is_shortcut else self.conv(x)


class FlatMobileNetV2(nn.Module):
    """The article's network, which ends with the last convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first_layer = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()
        )
        blocks, channels = [], 32
        for expansion, oup, repeats, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 2, 2)):
            for repeat in range(repeats):
                blocks.append(FlatBlock(channels, oup, 1 if repeat else stride, expansion))
                channels = oup
        self.layers = nn.Sequential(*blocks)
        self.last_layer = nn.Sequential(
            nn.Conv2d(channels, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.last_layer(self.layers(self.first_layer(x)))


class Entry(NamedTuple):
    """A model, its blocks, and reasons for some of them to stay eager for good."""

    blocks: int
    build: Callable[[], nn.Module]
    sizes: tuple[tuple[int, int], ...] = ((SIZE, SIZE),)
    eager: tuple[str, ...] = ()


def of(library: str, function: str, *args, **options) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        found = pytest.importorskip(library, reason=f"needs {library}: pip install 'mnv2-kernels[zoo]'")
        for name in function.split("."):
            found = getattr(found, name, None) or import_module(f"{found.__name__}.{name}")
        return found(*args, **options)

    return build


def timm(name: str, **options) -> Callable[[], nn.Module]:
    return of("timm", "create_model", name, num_classes=10, **options)


def torchvision(name: str, **options) -> Callable[[], nn.Module]:
    return of("torchvision", "models.get_model", name, weights=None, **options)


def transformers(**options) -> nn.Module:
    library = pytest.importorskip(
        "transformers", reason="needs transformers: pip install 'mnv2-kernels[zoo]'"
    )
    return library.MobileNetV2ForImageClassification(library.MobileNetV2Config(num_labels=10, **options))


ODD = ((SIZE, SIZE), (65, 71))
BACKBONE = {"weights_backbone": None, "num_classes": 5}

ZOO = {
    **{
        f"timm {name}": Entry(17, timm(name))
        for name in ("mobilenetv2_035", "mobilenetv2_100", "mobilenetv2_140")
    },
    "timm mobilenetv2_110d": Entry(22, timm("mobilenetv2_110d")),
    "timm mobilenetv2_100 features": Entry(
        17, of("timm", "create_model", "mobilenetv2_100", features_only=True)
    ),
    "timm efficientnet_lite0": Entry(16, timm("efficientnet_lite0")),
    "timm tf_efficientnet_lite0": Entry(16, timm("tf_efficientnet_lite0"), ODD),
    "timm mnasnet_100": Entry(17, timm("mnasnet_100")),
    "timm fbnetc_100": Entry(21, timm("fbnetc_100")),
    "timm spnasnet_100": Entry(21, timm("spnasnet_100")),
    "timm semnasnet_100": Entry(16, timm("semnasnet_100")),
    "timm mobilenetv3_small_100": Entry(11, timm("mobilenetv3_small_100")),
    "timm mobilenetv3_large_100": Entry(15, timm("mobilenetv3_large_100")),
    "timm tf_mobilenetv3_small_minimal_100": Entry(11, timm("tf_mobilenetv3_small_minimal_100"), ODD),
    "timm efficientnet_b0": Entry(16, timm("efficientnet_b0")),
    "torchvision mobilenet_v2": Entry(17, torchvision("mobilenet_v2")),
    "torchvision mnasnet1_0": Entry(17, torchvision("mnasnet1_0")),
    "torchvision mobilenet_v3_small": Entry(11, torchvision("mobilenet_v3_small")),
    "torchvision mobilenet_v3_large": Entry(15, torchvision("mobilenet_v3_large")),
    "torchvision efficientnet_b0": Entry(16, torchvision("efficientnet_b0")),
    "torchvision quantizable mobilenet_v2": Entry(17, of("torchvision", "models.quantization.mobilenet_v2")),
    "torchvision ssdlite320_mobilenet_v3_large": Entry(
        31, torchvision("ssdlite320_mobilenet_v3_large", **BACKBONE), ((320, 320),)
    ),
    "torchvision deeplabv3_mobilenet_v3_large": Entry(
        15, torchvision("deeplabv3_mobilenet_v3_large", **BACKBONE), eager=("dilation 2",)
    ),
    "transformers MobileNetV2, tf_padding": Entry(17, lambda: transformers(tf_padding=True), ODD),
    "transformers MobileNetV2": Entry(17, lambda: transformers(tf_padding=False), ODD),
    "smp Unet mobilenet_v2": Entry(
        17, of("segmentation_models_pytorch", "Unet", "mobilenet_v2", encoder_weights=None)
    ),
    "the article's": Entry(8, FlatMobileNetV2),
    "a flat Sequential": Entry(
        2,
        lambda: nn.Sequential(
            *(
                nn.Conv2d(3, 16, 3, 2, 1),
                nn.ReLU6(),
                *FlatBlock(16, 24, 2, 3).conv,
                *FlatBlock(24, 32, 1, 2).conv,
            )
        ),
    ),
}


def run(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What a model makes of images; of a detector without its boxes, whose order may change by a rounding."""
    if hasattr(model, "backbone") and hasattr(model, "head"):
        results = model.head([*model.backbone(x).values()])
    else:
        results = model(x)
    if hasattr(results, "to_tuple"):
        results = results.to_tuple()
    return [each for each in tree_leaves(results) if isinstance(each, Tensor)]


@torch.no_grad()
def prepared(build: Callable[[], nn.Module], size: tuple[int, int]) -> nn.Module:
    """In eval mode, with the statistics of random images; with others a signal dies out on its way."""
    torch.manual_seed(0)
    model = build()
    norms = [
        each for each in model.modules() if isinstance(each, nn.BatchNorm2d) and each.track_running_stats
    ]
    for norm in norms:
        norm.momentum = 1.0
        if norm.affine:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.3)
    run(model.train(), torch.randn(4, 3, *size))
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_every_inverted_residual_of_a_model_is_found_and_right(name):
    entry = ZOO[name]
    eager = prepared(entry.build, entry.sizes[0])
    fused = fuse(copy.deepcopy(eager))
    report = fusion_report(fused)
    assert len(report.fused) + len(report.eager) == entry.blocks
    reasons = {reason for words in report.eager.values() for reason in words.split(", ")}
    assert reasons <= LACKING | {*entry.eager}
    assert report.fused or LACKING
    exact = copy.deepcopy(eager).double()
    with torch.no_grad():
        for size in entry.sizes:
            x = torch.randn(MINIMUM_INPUTS, 3, *size)
            with calls() as names:
                ours = run(fused, x)
            assert any(name.startswith("run ") for name in names) == bool(report.fused or report.others)
            for one, other, truth in zip(ours, run(eager, x), run(exact, x.double()), strict=True):
                assert_accurate(one, other, truth)
