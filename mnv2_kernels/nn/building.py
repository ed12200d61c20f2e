"""The layers that MobileNetV2 is built of, as torchvision makes and initialises them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import nn

from ..fusion.eager_layers import ConvNormActivation, SamePaddedConv2d, norm_obstacle
from ..shapes import KERNEL_SIZE

PaddingRule = Literal["torch", "same"]
NormLayer = Callable[[int], nn.Module]

IMAGE_CHANNELS = 3
DROPOUT = 0.2


def block_layers(
    inp: int, hidden: int | None, oup: int, stride: int, norm_layer: NormLayer, padding: PaddingRule
) -> nn.Sequential:
    """Expand, depthwise and project of a block; ``hidden`` is None where it has no expand."""
    layers: list[nn.Module] = []
    if hidden is not None:
        layers.append(activated(ConvNormActivation, nn.Conv2d(inp, hidden, 1, bias=False), norm_layer))
    hidden = inp if hidden is None else hidden
    layers.append(activated(ConvNormActivation, conv3x3(hidden, hidden, stride, padding, hidden), norm_layer))
    return nn.Sequential(*layers, nn.Conv2d(hidden, oup, 1, bias=False), _norm(norm_layer, oup))


def conv3x3(inp: int, oup: int, stride: int, padding: PaddingRule, groups: int = 1) -> nn.Conv2d:
    if padding not in get_args(PaddingRule):
        raise ValueError(f"padding: expected 'torch' or 'same', got {padding!r}")
    # With stride 1, SAME is 1 on every side.
    if padding == "same" and stride != 1:
        return SamePaddedConv2d(inp, oup, KERNEL_SIZE, stride, groups=groups, bias=False)
    return nn.Conv2d(inp, oup, KERNEL_SIZE, stride, padding=1, groups=groups, bias=False)


def _norm(norm_layer: NormLayer, channels: int) -> nn.Module:
    norm = norm_layer(channels)
    if norm_obstacle(norm) is not None:
        raise TypeError(f"norm_layer: expected what makes a BatchNorm2d, got {type(norm).__name__}")
    return norm


def activated(unit: type[ConvNormActivation], conv: nn.Conv2d, norm_layer: NormLayer) -> ConvNormActivation:
    return unit(conv, _norm(norm_layer, conv.out_channels), nn.ReLU6(inplace=True))


def initialise(module: nn.Module) -> None:
    """torchvision's initialisation, draw for draw."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.BatchNorm2d) and module.affine:
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)
