"""A normalisation in eval mode as the scale and bias of the convolution before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def fold(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """What ``norm`` adds to ``conv``: norm(conv(x)) is conv without its bias, times scale, plus bias.

    Weights stay exact: scaled and rounded again they would cost accuracy. ``norm`` is like BatchNorm2d or an Identity.
    Returns (out_channels,) float32 tensors, computed in float64, without a gradient; None stands for 1 and 0.
    """
    if isinstance(norm, nn.Identity):
        return None, None if conv.bias is None else conv.bias.detach().float()
    scale = (norm.running_var.detach().double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = norm.weight.detach().double() * scale
    bias = -norm.running_mean.detach().double() * scale
    if conv.bias is not None:
        bias = bias + conv.bias.detach().double() * scale
    if norm.bias is not None:
        bias = norm.bias.detach().double() + bias
    return scale.float(), bias.float()
