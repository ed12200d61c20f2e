"""From real numbers to integers: the grid of a tensor, and a convolution's weights on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .reference_int8 import HIGHEST, HIGHEST_WEIGHT, Convolution, dequantise, quantise

Numbers = float | Sequence[float]

RELU6 = 6.0
# Kernels convert y to int32 before they clamp it.
HIGHEST_Y = 2**31
# A longer sum of products could leave int32. Weights of other libraries may be -128.
LONGEST_SUM = (2**31 - 1) // (HIGHEST * (HIGHEST_WEIGHT + 1))


@dataclass(frozen=True)
class Grid:
    """What the bytes of a tensor stand for, real = scale * (q - zero_point): float32 (channels,) both.

    Zero points are whole numbers in 0 to 255, except the image's.
    """

    scale: Tensor
    zero_point: Tensor

    @classmethod
    def of_range(cls, low: Tensor, high: Tensor) -> Grid:
        """The grid of [low, high], (channels,), widened to hold 0. A channel that is always 0 has scale 1."""
        low, high = low.double().clamp(max=0), high.double().clamp(min=0)
        scale = ((high - low) / HIGHEST).float()
        scale = torch.where(scale > 0, scale, 1.0)
        return cls(scale, (-low / scale.double()).round().clamp(0, HIGHEST).float())

    @classmethod
    def of_relu6(cls, channels: int) -> Grid:
        """All of ReLU6's range, so that saturation is its clamp, whatever the images."""
        return cls.of_range(torch.zeros(channels), torch.full((channels,), RELU6))

    @classmethod
    def of_image(cls, mean: Numbers, deviation: Numbers, channels: int) -> Grid:
        """Bytes that the network takes as (byte / 255 - mean) / deviation, for all channels or each.

        Raises ValueError where there are neither one nor ``channels`` of them, or a deviation is not above 0.
        """
        zero_point = HIGHEST * _of_channels("mean", mean, channels)
        steps = HIGHEST * _of_channels("deviation", deviation, channels)
        if not (steps > 0).all():
            raise ValueError(f"deviation: expected numbers above 0, got {deviation}")
        return cls(steps.reciprocal().float(), zero_point.float())

    @property
    def pad(self) -> Tensor:
        """The bytes nearest to 0, uint8 (channels,)."""
        return self.zero_point.round().clamp(0, HIGHEST).to(torch.uint8)

    def bytes_of(self, x: Tensor) -> Tensor:
        """Float32 x (N, channels, ...) as uint8."""
        return quantise(x, self.scale, self.zero_point)

    def real(self, q: Tensor) -> Tensor:
        """uint8 q (N, channels, ...) as float32."""
        return dequantise(q, self.scale, self.zero_point)

    def clipped(self, x: Tensor) -> Tensor:
        """Which of x (N, C, ...) lie more than half a step outside the grid."""
        trailing = [1] * (x.dim() - 2)
        level = x / self.scale.view(-1, *trailing) + self.zero_point.view(-1, *trailing)
        return (level < -0.5) | (level > HIGHEST + 0.5)


def _of_channels(name: str, numbers: Numbers, channels: int) -> Tensor:
    values = torch.as_tensor(numbers, dtype=torch.float64).reshape(-1)
    if len(values) not in (1, channels):
        raise ValueError(f"{name}: expected one number or {channels}, got {numbers}")
    return values.expand(channels)


@dataclass(frozen=True)
class RoundedWeights:
    """int8 weights (out, ...) of inputs on one grid, with one float64 scale and bias an output channel.

    The real result is ``scale * (sum of weight * q - zero_sum) + bias``.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor
    zero_sum: Tensor

    @classmethod
    def nearest(cls, weight: Tensor, bias: Tensor, source: Grid, depthwise: bool = False) -> RoundedWeights:
        """A convolution's or linear layer's, to nearest: the largest weight of an output channel is 127.

        The scales of input channels go into the weights before these are rounded.
        """
        trailing = [1] * (weight.dim() - 2)
        shape = (*((-1, 1) if depthwise else (1, -1)), *trailing)
        folded = weight.double() * source.scale.double().view(shape)
        largest = folded.flatten(1).abs().amax(1)
        scale = torch.where(largest > 0, largest / HIGHEST_WEIGHT, 1.0)
        whole = (folded / scale.view(-1, 1, *trailing)).round().clamp(-HIGHEST_WEIGHT, HIGHEST_WEIGHT)
        zero_sum = (whole * source.zero_point.double().view(shape)).flatten(1).sum(1)
        return cls(whole.to(torch.int8), scale, bias.double(), zero_sum)

    def onto(self, target: Grid, shortcut: Grid | None = None) -> tuple[Convolution, Tensor | None]:
        """What a kernel takes to give results on ``target``, and the factor of an input on ``shortcut``.

        Raises ValueError where a sum of that length, or a result in steps of the target, might not fit int32.
        """
        step, zero_point = target.scale.double(), target.zero_point.double()
        bias = (self.bias - self.scale * self.zero_sum) / step + zero_point
        factor = None
        if shortcut is not None:
            ratio = shortcut.scale.double() / step
            bias = bias - ratio * shortcut.zero_point.double()
            factor = ratio.float()
        conv = Convolution(self.weight, (self.scale / step).float(), bias.float())
        _check_fits(conv, factor)
        return conv, factor


def _check_fits(conv: Convolution, shortcut: Tensor | None) -> None:
    weights = conv.weight.flatten(1)
    if weights.shape[1] > LONGEST_SUM:
        raise ValueError(f"expected sums of at most {LONGEST_SUM} products, got {weights.shape[1]}")
    factor = 0.0 if shortcut is None else shortcut.double()
    largest = HIGHEST * (weights.double().abs().sum(1) * conv.multiplier.double() + factor)
    steps = (largest + conv.bias.double().abs()).max().item()
    if not steps < HIGHEST_Y:  # also NaN
        raise ValueError(f"expected results of less than 2^31 steps of their grid, got {steps:.2g}")
