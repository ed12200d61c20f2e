"""Layers of known modules as parts, by the modules' attributes instead of a trial call.

Reading them takes a tenth of the time of a trial call, which every changed weight would cost, and works where
nothing can be called: in a graph that torch.compile makes, whose guards have to see each attribute.
Which parts there are and which of them the operators compute is decided as for any other module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.nn.modules.utils import _pair

from ..fusion.eager_layers import EagerLayer, SamePaddedConv2d, check_tensors
from ..fusion.functions import LayerFunction, block_function, head_function, layer_function, linear_function
from ..fusion.fused_layer import Fusion, Weights
from ..fusion.own_code import NotFusable
from ..shapes import MAX_CHANNELS
from .parts import NOWHERE, Part, PartKind, parts_of
from .served import layer_of_part, reasons_of, weights_of
from .steps import Convolution, Item, Joined, Step, norm_affine


def block_fusion(layers: Sequence[EagerLayer], residual: bool) -> Fusion:
    """An inverted residual, also with an activation behind the project; NotFusable where it is none."""
    items: list[Item] = [_convolution(each) for each in layers]
    if residual:
        items.append(Step("add", len(items)))
    return _fusion(_part("block", items), layers, block_function(layers, residual))


def stem_fusion(layer: EagerLayer) -> Fusion:
    """A dense convolution, norm and activation; NotFusable for anything else."""
    return _fusion(_part("stem", [_convolution(layer)]), [layer], layer_function(layer))


def head_fusion(layer: EagerLayer) -> Fusion:
    """A 1x1 convolution, norm, activation and pool; NotFusable for anything else."""
    part = _part("head_pool", [_convolution(layer), Step("pool", False)])
    return _fusion(part, [layer], head_function(layer))


def linear_fusion(name: str, linear: nn.Linear) -> Fusion:
    """A linear layer; NotFusable where the kernels do not take its weights."""
    check_tensors(name, linear.weight, linear.bias)
    part = _part("linear", [Convolution(NOWHERE, linear.weight.detach())])
    return _fusion(part, [EagerLayer(name, linear, nn.Identity())], linear_function(linear))


def _part(kind: PartKind, items: Sequence[Item]) -> Part:
    # A stem of any number of channels: these networks say that it is one.
    joined = [Joined(NOWHERE, NOWHERE, item, 0, 0) for item in items]
    parts = parts_of(joined, most_stem_channels=MAX_CHANNELS)
    if why := reasons_of(parts):
        raise NotFusable(why)
    if [part.kind for part in parts] != [kind]:
        raise NotFusable(f"it is no {kind}")
    return parts[0]


def _fusion(part: Part, layers: Sequence[EagerLayer], function: LayerFunction) -> Fusion:
    return Fusion(layer_of_part(part), partial(_weights, part, layers), function)


@torch.no_grad()
def _weights(part: Part, layers: Sequence[EagerLayer]) -> Weights:
    """As they are now, the norms folded."""
    return weights_of(replace(part, layers=[*map(_folded, part.layers, layers)]))


def _folded(convolution: Convolution, layer: EagerLayer) -> Convolution:
    folded, bias, norm = replace(convolution), layer.conv.bias, layer.norm
    folded.affine(None, None if bias is None else bias.double())
    if type(norm) is not nn.Identity:
        folded.affine(*norm_affine(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps))
    return folded


def _convolution(layer: EagerLayer) -> Convolution:
    """Without what scales and shifts it, which is worth computing only where the operators take the layer."""
    layer.check()
    conv = layer.conv
    stride, dilation = _pair(conv.stride), _pair(conv.dilation)
    is_same = type(conv) is SamePaddedConv2d
    # With stride 1, SAME is half of the kernel on every side.
    padding = [size // 2 for size in conv.weight.shape[2:]] if is_same else conv.padding
    if conv.padding_mode != "zeros" or isinstance(padding, str):
        raise NotFusable(f"{layer.name}: its padding is {conv.padding_mode}, {padding}")
    found = Convolution(NOWHERE, conv.weight.detach(), stride, dilation, conv.groups, 2 * _pair(padding))
    found.same = is_same and stride != (1, 1)
    found.activation = layer.activation_name
    return found
