"""The operators in plain torch: what they compute, in any floating-point dtype and with gradients.

Same arguments as ``torch.ops.mnv2.{fused_block, stem, head_pool, linear}``. Scale and bias are applied as a
BatchNorm in eval mode applies them, so in x's dtype a result is what the eager network gives, and in float64
it is the truth that the tests measure errors against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "silu": F.silu,
}
_GATE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
}


def _convolve(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    activation: str,
    stride: int = 1,
    groups: int = 1,
) -> Tensor:
    """activation(conv(x, weight) * scale + bias), without padding; the weight is rounded to x's dtype."""
    y = F.conv2d(x, weight.to(x.dtype), stride=stride, groups=groups)
    if scale is not None or bias is not None:
        # BatchNorm keeps its parameters in float32 beside a half-precision input and rounds once.
        dtype = torch.promote_types(x.dtype, torch.float32)
        mean = torch.zeros(y.shape[1], dtype=dtype, device=x.device)
        variance = torch.ones_like(mean)
        scale = torch.ones_like(mean) if scale is None else scale.to(dtype)
        bias = torch.zeros_like(mean) if bias is None else bias.to(dtype)
        y = torch.batch_norm(y, scale, bias, mean, variance, False, 0.0, 0.0, False)
    return _ACTIVATIONS[activation](y)


def _gate(
    x: Tensor,
    squeeze_weight: Tensor,
    squeeze_bias: Tensor | None,
    excite_weight: Tensor,
    excite_bias: Tensor | None,
    squeeze_activation: str,
    excite_activation: str,
) -> Tensor:
    """x times a number for each of its channels, which all channels' means decide."""

    def convolve(y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(y, weight.to(y.dtype), None if bias is None else bias.to(y.dtype))

    squeezed = convolve(x.mean((2, 3), keepdim=True), squeeze_weight, squeeze_bias)
    excited = convolve(_ACTIVATIONS[squeeze_activation](squeezed), excite_weight, excite_bias)
    return x * _GATE_ACTIVATIONS[excite_activation](excited)


def _pad(x: Tensor, padding: Sequence[int]) -> Tensor:
    top, left, bottom, right = padding
    return F.pad(x, (left, right, top, bottom))


def fused_block(
    x: Tensor,
    expand_weight: Tensor | None,
    expand_scale: Tensor | None,
    expand_bias: Tensor | None,
    depthwise_weight: Tensor,
    depthwise_scale: Tensor | None,
    depthwise_bias: Tensor | None,
    project_weight: Tensor,
    project_scale: Tensor | None,
    project_bias: Tensor | None,
    squeeze_weight: Tensor | None = None,
    squeeze_bias: Tensor | None = None,
    excite_weight: Tensor | None = None,
    excite_bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: Sequence[int] = (1, 1, 1, 1),
    residual: bool = False,
    activation: str = "relu6",
    project_activation: str = "none",
    depthwise_activation: str | None = None,
    squeeze_activation: str = "relu",
    excite_activation: str = "sigmoid",
) -> Tensor:
    """The inverted residual of x (N, C, H, W): (N, out_channels, out_height, out_width) of x's dtype.

    ``depthwise_activation`` is by default ``activation``. There is a gate where ``squeeze_weight`` is given.
    """
    behind_depthwise = activation if depthwise_activation is None else depthwise_activation
    y = x
    if expand_weight is not None:
        y = _convolve(y, expand_weight, expand_scale, expand_bias, activation)
    y = _pad(y, padding)
    y = _convolve(
        y, depthwise_weight, depthwise_scale, depthwise_bias, behind_depthwise, stride, groups=y.shape[1]
    )
    if squeeze_weight is not None and excite_weight is not None:
        gate = (squeeze_weight, squeeze_bias, excite_weight, excite_bias)
        y = _gate(y, *gate, squeeze_activation, excite_activation)
    y = _convolve(y, project_weight, project_scale, project_bias, project_activation)
    return x + y if residual else y


def numbers_of(x: Tensor, table: Tensor, bytes_as: str = "float32") -> Tensor:
    """What the bytes x (N, C, H, W) of a chain with ``bytes_as`` stand for: ``table[channel][byte]``.

    ``table`` is (C, 256), the result of x's shape. The rest of the chain computes with it as with floats.
    """
    channel = torch.arange(x.shape[1], device=x.device).view(-1, 1, 1)
    return table.to(getattr(torch, bytes_as))[channel, x.long()]


def stem(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    *,
    stride: int = 2,
    padding: Sequence[int] = (1, 1, 1, 1),
    activation: str = "relu6",
) -> Tensor:
    """The dense convolution of x (N, C, H, W): (N, out_channels, out_height, out_width) of x's dtype."""
    return _convolve(_pad(x, padding), weight, scale, bias, activation, stride)


def head_pool(
    x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, *, activation: str = "relu6"
) -> Tensor:
    """The 1x1 convolution of x (N, C, H, W) and its mean over all pixels: (N, out_channels) of x's dtype."""
    return _convolve(x, weight, scale, bias, activation).mean((2, 3))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, activation: str = "none") -> Tensor:
    """The linear layer of x (N, in_features): (N, out_features) of x's dtype."""
    y = F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
    return _ACTIVATIONS[activation](y)
