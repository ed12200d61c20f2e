"""Models of other libraries that hold inverted residuals (the extra ``zoo``), of random weights."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..weights.models import give_statistics
from . import BenchError

_SIZE = 64


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
    sizes: tuple[tuple[int, int], ...] = ((_SIZE, _SIZE),)
    eager: tuple[str, ...] = ()


def _of(library: str, function: str, *args: Any, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        found: Any = import_module(library)
        for name in function.split("."):
            found = getattr(found, name, None) or import_module(f"{found.__name__}.{name}")
        return found(*args, **options)

    return build


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return _of("timm", "create_model", name, num_classes=10, **options)


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    return _of("torchvision", "models.get_model", name, weights=None, **options)


def _transformers(**options: Any) -> nn.Module:
    library = import_module("transformers")
    return library.MobileNetV2ForImageClassification(library.MobileNetV2Config(num_labels=10, **options))


_ODD = ((_SIZE, _SIZE), (65, 71))
_BACKBONE = {"weights_backbone": None, "num_classes": 5}

ZOO = {
    **{
        f"timm {name}": Entry(17, _timm(name))
        for name in ("mobilenetv2_035", "mobilenetv2_100", "mobilenetv2_140")
    },
    "timm mobilenetv2_110d": Entry(22, _timm("mobilenetv2_110d")),
    "timm mobilenetv2_100 features": Entry(
        17, _of("timm", "create_model", "mobilenetv2_100", features_only=True)
    ),
    "timm efficientnet_lite0": Entry(16, _timm("efficientnet_lite0")),
    "timm tf_efficientnet_lite0": Entry(16, _timm("tf_efficientnet_lite0"), _ODD),
    "timm mnasnet_100": Entry(17, _timm("mnasnet_100")),
    "timm fbnetc_100": Entry(21, _timm("fbnetc_100")),
    "timm spnasnet_100": Entry(21, _timm("spnasnet_100")),
    "timm semnasnet_100": Entry(16, _timm("semnasnet_100")),
    "timm mobilenetv3_small_100": Entry(11, _timm("mobilenetv3_small_100")),
    "timm mobilenetv3_large_100": Entry(15, _timm("mobilenetv3_large_100")),
    "timm tf_mobilenetv3_small_minimal_100": Entry(11, _timm("tf_mobilenetv3_small_minimal_100"), _ODD),
    "timm efficientnet_b0": Entry(16, _timm("efficientnet_b0")),
    "torchvision mobilenet_v2": Entry(17, _torchvision("mobilenet_v2")),
    "torchvision mnasnet1_0": Entry(17, _torchvision("mnasnet1_0")),
    "torchvision mobilenet_v3_small": Entry(11, _torchvision("mobilenet_v3_small"), ((96, 96),)),
    "torchvision mobilenet_v3_large": Entry(15, _torchvision("mobilenet_v3_large")),
    "torchvision efficientnet_b0": Entry(16, _torchvision("efficientnet_b0")),
    "torchvision quantizable mobilenet_v2": Entry(17, _of("torchvision", "models.quantization.mobilenet_v2")),
    "torchvision ssdlite320_mobilenet_v3_large": Entry(
        31, _torchvision("ssdlite320_mobilenet_v3_large", **_BACKBONE), ((320, 320),)
    ),
    "torchvision deeplabv3_mobilenet_v3_large": Entry(
        15, _torchvision("deeplabv3_mobilenet_v3_large", **_BACKBONE), eager=("dilation 2",)
    ),
    "transformers MobileNetV2, tf_padding": Entry(17, lambda: _transformers(tf_padding=True), _ODD),
    "transformers MobileNetV2": Entry(17, lambda: _transformers(tf_padding=False), _ODD),
    "smp Unet mobilenet_v2": Entry(
        17, _of("segmentation_models_pytorch", "Unet", "mobilenet_v2", encoder_weights=None)
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

# What builds networks.NETWORKS, of 1000 classes.
BUILDERS = {
    "mobilenet_v2": _torchvision("mobilenet_v2"),
    "efficientnet_lite0": _of("timm", "create_model", "efficientnet_lite0"),
    "mnasnet_b1": _torchvision("mnasnet1_0"),
    "fbnet_c": _of("timm", "create_model", "fbnetc_100"),
    "mobilenetv3_small": _torchvision("mobilenet_v3_small"),
    "mobilenetv3_large": _torchvision("mobilenet_v3_large"),
    "efficientnet_b0": _torchvision("efficientnet_b0"),
}


def build_network(network: str) -> nn.Module:
    """One of BUILDERS. Raises BenchError where the library that it comes from is not installed."""
    try:
        return BUILDERS[network]()
    except ModuleNotFoundError as error:
        raise BenchError(f"{network} comes from {error.name}, which is not installed") from None


def prepared(entry: Entry) -> nn.Module:
    """An entry's model in eval mode, with random images' statistics."""
    return with_statistics(entry.build, entry.sizes[0])


def with_statistics(build: Callable[[], nn.Module], size: tuple[int, int] = (_SIZE, _SIZE)) -> nn.Module:
    """A model in eval mode, with random images' statistics."""
    torch.manual_seed(0)
    return give_statistics(build(), size)
