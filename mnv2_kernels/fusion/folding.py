"""A normalisation in eval mode as the scale and bias of the convolution before it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def fold(conv: nn.Conv2d, norm: Any) -> tuple[Tensor | None, Tensor | None]:
    """(scale, bias) such that norm(conv(x)) is conv without its own bias, times scale, plus bias.

    The weights stay as they are: scaled and rounded again they would cost accuracy. ``norm`` is like
    BatchNorm2d, or an Identity. The results are float32 of (out_channels,), computed in float64, without a
    gradient; None stands for a scale of 1 and a bias of 0.
    """
    if isinstance(norm, nn.Identity):
        return None, None if conv.bias is None else conv.bias.detach().float()
    deviation = (_double(norm.running_var) + norm.eps).sqrt()
    scale = (1.0 if norm.weight is None else _double(norm.weight)) / deviation
    mean = _double(norm.running_mean)
    if conv.bias is not None:
        mean = mean - _double(conv.bias)
    bias = (0.0 if norm.bias is None else _double(norm.bias)) - mean * scale
    return scale.float(), bias.float()


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().double()
