"""From checked layers of torch to a layer that kernels compute, with its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import ops as ops
from ..layer import SAME, Layer
from ..shapes import KERNEL_SIZE, SYMMETRIC_PADDING
from .eager_layers import EagerLayer, NotFusable, check_tensors, check_weight
from .folding import fold
from .functions import LayerFunction, block_function, head_function, layer_function, linear_function

Weights = tuple[Tensor | None, ...]


@dataclass
class Fusion:
    """A layer that kernels compute, in place of torch's modules.

    ``weights`` gives its tensors as mnv2::pack takes them, without a gradient; ``function`` is what it
    computes, with gradients.
    """

    layer: Layer
    weights: Callable[[], Weights]
    function: LayerFunction

    def __call__(self, x: Tensor) -> Tensor:
        """Packs and runs, for a trace in which nothing may outlive the call."""
        text = str(self.layer)
        packed = torch.ops.mnv2.pack.default(list(self.weights()), layers=text)
        return torch.ops.mnv2.run.default(x, packed, layers=text)


def block_fusion(
    expand: EagerLayer | None, depthwise: EagerLayer, project: EagerLayer, residual: bool
) -> Fusion:
    """An inverted residual, also with an activation behind the project; NotFusable where it is none."""
    if expand is not None:
        expand.check(kernel_size=1)
    depthwise.check(KERNEL_SIZE, depthwise=True)
    project.check(kernel_size=1)
    activation = depthwise.activation_name
    if expand is not None and expand.activation_name != activation:
        raise NotFusable(f"{depthwise.name}: its activation is not that of {expand.name}")
    window = _window(depthwise)
    if residual and window != {"stride": 1, "padding": SYMMETRIC_PADDING}:
        raise NotFusable(f"{depthwise.name}: a block with a shortcut has {window}")
    out_channels, expanded_channels = project.conv.weight.shape[:2]
    in_channels = expanded_channels if expand is None else expand.conv.weight.shape[1]
    if residual and in_channels != out_channels:
        raise NotFusable(
            f"{project.name}: a block with a shortcut has {in_channels} and {out_channels} channels"
        )
    layer = Layer(
        "block",
        in_channels=in_channels,
        out_channels=out_channels,
        expanded_channels=expanded_channels,
        **window,
        activation=activation,
        project_activation=project.activation_name,
        expand=expand is not None,
        residual=residual,
    )
    function = block_function([each for each in (expand, depthwise, project) if each is not None], residual)
    return Fusion(layer, partial(_weights, expand, depthwise, project), function)


def stem_fusion(layer: EagerLayer) -> Fusion:
    """A dense 3x3 convolution, norm and activation; NotFusable for anything else."""
    layer.check(KERNEL_SIZE)
    described = Layer("stem", *_channels(layer), **_window(layer), activation=layer.activation_name)
    return Fusion(described, partial(_weights, layer), layer_function(layer))


def head_fusion(layer: EagerLayer) -> Fusion:
    """A 1x1 convolution, norm, activation and pool; NotFusable for anything else."""
    layer.check(kernel_size=1)
    described = Layer("head_pool", *_channels(layer), activation=layer.activation_name)
    return Fusion(described, partial(_weights, layer), head_function(layer))


def linear_fusion(name: str, linear: nn.Linear) -> Fusion:
    """A linear layer; NotFusable where the kernels do not take its weights."""
    check_weight(name, linear.weight)
    check_tensors(name, linear.bias)
    out_features, in_features = linear.weight.shape
    return Fusion(
        Layer("linear", in_features, out_features),
        lambda: (linear.weight.detach(), None if linear.bias is None else linear.bias.detach()),
        linear_function(linear),
    )


def _window(layer: EagerLayer) -> dict[str, Any]:
    """Stride and padding of a 3x3 convolution. With stride 1, SAME is 1 on every side."""
    stride = layer.conv.stride[0]
    same = SYMMETRIC_PADDING if stride == 1 else SAME
    return {"stride": stride, "padding": layer.padding or same}


def _channels(layer: EagerLayer) -> tuple[int, int]:
    """Of input and output."""
    out_channels, in_channels = layer.conv.weight.shape[:2]
    return in_channels, out_channels


def _weights(*layers: EagerLayer | None) -> Weights:
    """Weight, scale and bias of each layer; None three times where there is none."""
    weights: list[Tensor | None] = []
    for layer in layers:
        if layer is None:
            weights += [None, None, None]
        else:
            weights += [layer.conv.weight.detach(), *fold(layer.conv, layer.norm)]
    return tuple(weights)
