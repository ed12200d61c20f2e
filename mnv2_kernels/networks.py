"""A FusedMobileNetV2 as its comparisons need it: without its kernels, and as shapes."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

from .fusion import Fusion
from .modules import FusedMobileNetV2
from .shapes import (
    BlockShape,
    ClassifierShape,
    HeadShape,
    NetworkShape,
    Padding,
    StemShape,
    same_padding_2d,
)
from .units import FusedUnit

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@torch.inference_mode(False)
def eager_copy(model: AnyModule) -> AnyModule:
    """The same network in eval mode, channels_last, computed by torch's own convolutions and BatchNorms."""
    eager = deepcopy(model).eval().to(memory_format=torch.channels_last)
    for module in eager.modules():
        if isinstance(module, (FusedMobileNetV2, FusedUnit)):
            # In train mode these run their layers, and the layers stay in eval mode.
            module.training = True
    return eager


def network_shape(model: FusedMobileNetV2, size: int) -> NetworkShape:
    """The shapes of a network, for one input of size x size.

    Raises:
        NotFusable: a part of it has no kernel.
    """
    stem, *blocks, head = (unit.fusion() for unit in model.features)
    stem_shape = StemShape(1, size, size, **stem.channels, **_window(stem, size))
    size = stem_shape.out_height
    block_shapes = []
    for block in blocks:
        shape = BlockShape(1, size, size, **block.channels, **{**block.options, **_window(block, size)})
        block_shapes.append(shape)
        size = shape.out_height
    head_shape = HeadShape(1, size, size, **head.channels)
    classifier = ClassifierShape(1, model.last_channel, classes(model))
    return NetworkShape(stem_shape, tuple(block_shapes), head_shape, classifier)


def image_channels(model: FusedMobileNetV2) -> int:
    return model.features[0][0].in_channels


def classes(model: FusedMobileNetV2) -> int:
    return model.classifier[-1].out_features


def _window(fusion: Fusion, size: int) -> dict[str, int | Padding]:
    stride = fusion.options["stride"]
    padding = fusion.options.get("padding") or same_padding_2d(size, size, stride)
    return {"stride": stride, "padding": padding}
