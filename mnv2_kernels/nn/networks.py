"""A FusedMobileNetV2 as its comparisons need it: without its kernels, and as shapes."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from ..layer import layer_shapes
from ..shapes import ClassifierShape, NetworkShape
from .eager import eager
from .mobilenet_v2 import FusedMobileNetV2


@torch.inference_mode(False)
def eager_copy(model: nn.Module) -> Any:
    """A copy of ``eager(model)``, torch's own layers, in eval mode and channels_last."""
    return deepcopy(eager(model)).eval().to(memory_format=torch.channels_last)


def network_shape(model: FusedMobileNetV2, size: int) -> NetworkShape:
    """The shapes of a network, for one input of size x size. NotFusable where a part of it has no kernel."""
    units: Iterable[Any] = model.features
    shapes: Iterable[Any] = layer_shapes([unit.fusion().layer for unit in units], 1, size, size)
    stem, *blocks, head = shapes
    classifier = ClassifierShape(1, model.last_channel, classes(model))
    return NetworkShape(stem, tuple(blocks), head, classifier)


def image_channels(model: FusedMobileNetV2) -> int:
    stem: Any = model.features[0]
    return stem[0].in_channels


def classes(model: FusedMobileNetV2) -> int:
    classifier: Any = model.classifier
    return classifier[-1].out_features
