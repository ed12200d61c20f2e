"""The arithmetic of int8 layers, to the bit: every kernel computes these very numbers.

A tensor is uint8 with a scale and a zero point for each channel: ``real = scale * (q - zero_point)``. A
convolution has an int8 ``weight`` and, for each output channel, a float32 ``multiplier`` and ``bias``, into
which all scales and zero points are folded (``rounding.py``):

    a = sum of weight * q                       int32: exact, in any order
    y = fma(float32(a), multiplier, bias)       float32(a) to nearest even, then one rounding
    y = fma(float32(q_input), shortcut, y)      blocks with a shortcut only
    q = clamp(rint(y), 0, 255)                  ties to even

The clamp is ReLU where the output's zero point is 0, and ReLU6 where its scale is 6 / 255, too. Inputs of a
depthwise convolution have zero point 0, so zeros surround them; ``pad`` surrounds the image's bytes. Pool,
linear layer and the conversions from and to float are here, too.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..shapes import SYMMETRIC_PADDING, Padding

NO_PADDING: Padding = (0, 0, 0, 0)
HIGHEST = 255  # of an activation
HIGHEST_WEIGHT = 127  # and its negative the lowest


class Convolution(NamedTuple):
    """int8 weight (out, in / groups, k, k), or (out, in) if linear; float32 multiplier and bias (out,)."""

    weight: Tensor
    multiplier: Tensor
    bias: Tensor


def stem(
    x: Tensor, conv: Convolution, pad: Tensor, *, stride: int = 2, padding: Padding = SYMMETRIC_PADDING
) -> Tensor:
    """The dense 3x3 convolution of bytes x (N, C, H, W): uint8 (N, out_channels, out_height, out_width).

    ``pad``, uint8 (C,), surrounds the image: the bytes nearest to 0.
    """
    return requantise(accumulate(x, conv.weight, stride=stride, padding=padding, pad=pad), conv)


def fused_block(
    x: Tensor,
    expand: Convolution | None,
    depthwise: Convolution,
    project: Convolution,
    shortcut: Tensor | None = None,
    *,
    stride: int = 1,
    padding: Padding = SYMMETRIC_PADDING,
) -> Tensor:
    """The inverted residual of uint8 x (N, C, H, W): uint8 (N, out_channels, out_height, out_width).

    ``shortcut``, float32 (out_channels,): the input's scale over the output's; None without a shortcut.
    """
    hidden = x if expand is None else pointwise(x, expand)
    sums = accumulate(hidden, depthwise.weight, depthwise=True, stride=stride, padding=padding)
    return pointwise(requantise(sums, depthwise), project, x, shortcut)


def head_pool(x: Tensor, conv: Convolution, pool: Tensor) -> Tensor:
    """The 1x1 convolution of uint8 x (N, C, H, W) and its mean over all pixels: uint8 (N, out_channels).

    ``pool``, float32 (1,): the scale of the convolution's output over that of the result.
    """
    return average(pointwise(x, conv), pool)


def linear(x: Tensor, weights: Convolution) -> Tensor:
    """The linear layer of uint8 x (N, in_features): float32 (N, out_features)."""
    sums = (x.double() @ weights.weight.double().T).int()
    return fma(sums.float(), weights.multiplier, weights.bias)


def pointwise(
    x: Tensor, conv: Convolution, residual: Tensor | None = None, shortcut: Tensor | None = None
) -> Tensor:
    """The 1x1 convolution of uint8 x (N, C, H, W), and the shortcut from ``residual``."""
    return requantise(accumulate(x, conv.weight), conv, residual, shortcut)


def average(x: Tensor, pool: Tensor) -> Tensor:
    """uint8 (N, C, H, W) to uint8 (N, C): rint(float32(sum) * (pool / pixels)), each operation in float32."""
    sums = x.flatten(2).int().sum(2, dtype=torch.int32)
    pixels = torch.full_like(pool, x.shape[2] * x.shape[3])  # torch may divide by a number otherwise
    return _to_uint8(sums.float() * (pool / pixels))


def accumulate(
    x: Tensor,
    weight: Tensor,
    *,
    depthwise: bool = False,
    stride: int = 1,
    padding: Padding = NO_PADDING,
    pad: Tensor | None = None,
) -> Tensor:
    """The int32 sums of a convolution of uint8 x (N, C, H, W), which ``pad`` or zeros surround."""
    x = _surround(x.int(), padding, pad)
    kernel = weight.shape[2]
    sums = torch.zeros((), dtype=torch.int32)
    for row, column in product(range(kernel), repeat=2):
        rows = slice(row, x.shape[2] - kernel + row + 1, stride)
        columns = slice(column, x.shape[3] - kernel + column + 1, stride)
        multiply = _multiply_channels if depthwise else _mix_channels
        sums = sums + multiply(x[:, :, rows, columns], weight[:, :, row, column])
    return sums


def _surround(x: Tensor, padding: Padding, pad: Tensor | None) -> Tensor:
    top, left, bottom, right = padding
    edge = torch.zeros((), dtype=torch.int32) if pad is None else _by_channel(pad.int())
    return F.pad(x - edge, (left, right, top, bottom)) + edge


def _multiply_channels(x: Tensor, weight: Tensor) -> Tensor:
    return x * weight.int().unsqueeze(2)


def _mix_channels(x: Tensor, weight: Tensor) -> Tensor:
    """Float64 adds integers of this size exactly."""
    return (weight.double() @ x.double().flatten(2)).int().unflatten(2, x.shape[2:])


def requantise(
    sums: Tensor, conv: Convolution, residual: Tensor | None = None, shortcut: Tensor | None = None
) -> Tensor:
    """int32 sums (N, out, H, W) to uint8; ``residual`` is the block's input where it has a ``shortcut``."""
    y = fma(sums.float(), _by_channel(conv.multiplier), _by_channel(conv.bias))
    if residual is not None and shortcut is not None:
        y = fma(residual.float(), _by_channel(shortcut), y)
    return _to_uint8(y)


def quantise(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Float32 x (N, C, ...) to uint8: clamp(rint(fma(x, 1 / scale, zero_point)), 0, 255), of NaN 0."""
    return _to_uint8(fma(x.float(), _like(x, scale.reciprocal()), _like(x, zero_point.float())).nan_to_num(0))


def dequantise(q: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """uint8 q (N, C, ...) to float32: scale * (q - zero_point)."""
    return (q.float() - _like(q, zero_point.float())) * _like(q, scale)


def fma(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """float32 a * b + c with one rounding, as fmaf computes it.

    The product is exact in float64. The sum is rounded there to odd: its last bit is set where something was
    cut off, so that rounding it once more, to float32, never takes a tie for one that was none.
    """
    exact, c = a.double() * b.double(), c.double()
    total = exact + c
    virtual = total - exact
    error = (exact - (total - virtual)) + (c - virtual)
    bits = total.view(torch.int64)
    towards_error = torch.where((error > 0) == (total > 0), 1, -1)
    odd = torch.where((error != 0) & (bits & 1 == 0), bits + towards_error, bits)
    return odd.view(torch.float64).float()


def _to_uint8(y: Tensor) -> Tensor:
    return y.round().clamp(0, HIGHEST).to(torch.uint8)


def _by_channel(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1)


def _like(x: Tensor, values: Tensor) -> Tensor:
    """Values of channels, to be combined with an x (N, C, ...)."""
    return values.view(-1, *[1] * (x.dim() - 2))
