"""A FusedMobileNetV2 as its comparisons need it: without its kernels, and as shapes."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from .eager import eager
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


@torch.inference_mode(False)
def eager_copy(model: nn.Module) -> nn.Module:
    """A copy of ``eager(model)``, torch's own layers, in eval mode and channels_last."""
    return deepcopy(eager(model)).eval().to(memory_format=torch.channels_last)


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
