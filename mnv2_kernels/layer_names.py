"""What MobileNetV2's layers are called: by torchvision, and so here, by Keras and other implementations.

Every function gives the layers from the first convolution to the last. ``has_expand`` says whether the first
block has an expand, which only tonylins's first version gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .shapes import INVERTED_RESIDUAL_SETTING

BLOCKS = sum(repeats for _, _, repeats, _ in INVERTED_RESIDUAL_SETTING)
NORM_WEIGHTS = ("weight", "bias", "running_mean", "running_var")
CLASSIFIER = "classifier.1"


class LayerNames(NamedTuple):
    """A convolution and its BatchNorm."""

    conv: str
    norm: str


Layers = Sequence[LayerNames]


@dataclass(frozen=True)
class Naming:
    """The names of one implementation.

    ``mark`` is a weight that it alone has, ``expand_mark`` one that is there if the first block has an
    expand. ``classifiers`` are possible names of the classifier.
    """

    source: str
    mark: str
    expand_mark: str
    layers: Callable[[bool], Layers]
    classifiers: Sequence[str] = ("classifier", CLASSIFIER)


def torchvision(has_expand: bool = False) -> Layers:
    return [*_numbered(_torchvision_block, has_expand), LayerNames("features.18.0", "features.18.1")]


def tonylins(has_expand: bool = False) -> Layers:
    return [*_numbered(_flat_block, has_expand), LayerNames("features.18.0", "features.18.1")]


def d_li14(has_expand: bool = False) -> Layers:
    return [*_numbered(_flat_block, has_expand), LayerNames("conv.0", "conv.1")]


def timm(has_expand: bool = False) -> Layers:
    layers = [LayerNames("conv_stem", "bn1")]
    for stage, (_, _, repeats, _) in enumerate(INVERTED_RESIDUAL_SETTING):
        for repeat in range(repeats):
            block = f"blocks.{stage}.{repeat}"
            plain = stage == 0 and not has_expand
            convs = ("conv_dw", "conv_pw") if plain else ("conv_pw", "conv_dw", "conv_pwl")
            layers += [
                LayerNames(f"{block}.{conv}", f"{block}.bn{index}")
                for index, conv in enumerate(convs, start=1)
            ]
    return [*layers, LayerNames("conv_head", "bn2")]


def mmpretrain(has_expand: bool = False) -> Layers:
    """With its classifier, beside which the rest is called its backbone."""
    layers = [LayerNames("backbone.conv1.conv", "backbone.conv1.bn")]
    for stage, (_, _, repeats, _) in enumerate(INVERTED_RESIDUAL_SETTING, start=1):
        for repeat in range(repeats):
            convolutions = 2 if stage == 1 and not has_expand else 3
            names = (f"backbone.layer{stage}.{repeat}.conv.{index}" for index in range(convolutions))
            layers += [LayerNames(f"{name}.conv", f"{name}.bn") for name in names]
    return [*layers, LayerNames("backbone.conv2.conv", "backbone.conv2.bn")]


def keras() -> Layers:
    layers = [LayerNames("Conv1", "bn_Conv1")]
    for index in range(BLOCKS):
        block = f"block_{index}" if index else "expanded_conv"
        parts = ("expand", "depthwise", "project") if index else ("depthwise", "project")
        layers += [LayerNames(f"{block}_{part}", f"{block}_{part}_BN") for part in parts]
    return [*layers, LayerNames("Conv_1", "Conv_1_bn")]


NAMINGS = (
    Naming("torchvision", "features.2.conv.0.0.weight", "features.1.conv.3.weight", torchvision),
    Naming("d-li14", "conv.0.weight", "features.1.conv.6.weight", d_li14),
    Naming("tonylins", "features.2.conv.0.weight", "features.1.conv.6.weight", tonylins),
    Naming("timm", "conv_stem.weight", "blocks.0.0.conv_pwl.weight", timm),
    Naming(
        source="mmpretrain",
        mark="backbone.conv1.conv.weight",
        expand_mark="backbone.layer1.0.conv.2.conv.weight",
        layers=mmpretrain,
        classifiers=("head.fc",),
    ),
)

# Weights that show an implementation whose names are not read here.
UNREAD = {
    "conv_stem.first_conv.convolution.weight": "transformers",
    "layer1.0.conv.0.conv.weight": "mmpretrain",
}


def _numbered(block: Callable[[str, int], Iterator[LayerNames]], has_expand: bool) -> Iterator[LayerNames]:
    """Stem and blocks of a Sequential called ``features``."""
    yield LayerNames("features.0.0", "features.0.1")
    for index in range(1, BLOCKS + 1):
        yield from block(f"features.{index}.conv", 3 if index > 1 or has_expand else 2)


def _torchvision_block(name: str, convolutions: int) -> Iterator[LayerNames]:
    last = convolutions - 1
    for index in range(last):
        yield LayerNames(f"{name}.{index}.0", f"{name}.{index}.1")
    yield LayerNames(f"{name}.{last}", f"{name}.{last + 1}")


def _flat_block(name: str, convolutions: int) -> Iterator[LayerNames]:
    """A convolution, its norm and its activation each have a number of their own."""
    for index in range(convolutions):
        yield LayerNames(f"{name}.{3 * index}", f"{name}.{3 * index + 1}")
