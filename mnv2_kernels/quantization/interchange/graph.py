"""A quantised network as other libraries write it down: a graph of real numbers with rounding in between.

Readers of other formats make these nodes, and ``assembly.py`` makes a network of them. Zero points are those
of uint8: readers add 128 to int8's. ``name`` is the node's in its own format, for messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...shapes import Padding
from ..reference_int8 import HIGHEST, NO_PADDING
from ..rounding import Grid

INT8_OFFSET = 128  # from int8 to uint8
ACTIVATION_LEVELS = {torch.uint8: (0, HIGHEST), torch.int8: (-INT8_OFFSET, INT8_OFFSET - 1)}


@dataclass(frozen=True, eq=False)
class Image:
    """What the network is given."""

    name: str


@dataclass(frozen=True, eq=False)
class Steps:
    """real / scale + offset, float32 (channels,) or (1,) both: an image in steps of its bytes."""

    name: str
    source: Node
    scale: Tensor
    offset: Tensor


@dataclass(frozen=True, eq=False)
class Quantize:
    name: str
    source: Node
    grid: Grid


@dataclass(frozen=True, eq=False)
class Dequantize:
    name: str
    source: Node
    grid: Grid


@dataclass(frozen=True, eq=False)
class Convolve:
    """A convolution, or a linear layer if its weight (out, in) has two dimensions.

    ``weight`` is int8 with the zero point 0, ``scale`` and ``bias`` are float64 (out,).
    """

    name: str
    source: Node
    weight: Tensor
    scale: Tensor
    bias: Tensor
    stride: int = 1
    padding: Padding | Literal["same"] = NO_PADDING
    groups: int = 1

    @property
    def is_depthwise(self) -> bool:
        return self.weight.dim() == 4 and self.groups == len(self.weight) > 1

    @property
    def is_pointwise(self) -> bool:
        return self.weight.dim() == 4 and self.groups == 1 and self.weight.shape[2:] == (1, 1)


@dataclass(frozen=True, eq=False)
class Clamp:
    name: str
    source: Node
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Add:
    name: str
    left: Node
    right: Node


@dataclass(frozen=True, eq=False)
class Pool:
    """The mean over all pixels."""

    name: str
    source: Node


@dataclass(frozen=True, eq=False)
class Pad:
    """Zeros around the pixels."""

    name: str
    source: Node
    padding: Padding


Node = Image | Steps | Quantize | Dequantize | Convolve | Clamp | Add | Pool | Pad


def refused(name: str, why: str) -> ValueError:
    """The error of a node that has no equal here."""
    return ValueError(f"{name or 'a node without a name'}: {why}")


def activation_grid(
    name: str, scale: Tensor, zero_point: Tensor, dtype: torch.dtype, levels: tuple[int, int] | None = None
) -> Grid:
    """The grid of an activation, one scale or one for each channel; ``levels`` if they are not all of dtype.

    Raises ValueError for integers other than all 256 of eight bits.
    """
    if dtype not in ACTIVATION_LEVELS:
        raise refused(name, f"its activations are {dtype}, here they have eight bits")
    low, high = ACTIVATION_LEVELS[dtype]
    if levels not in (None, (low, high)):
        raise refused(name, f"its activations have the levels {levels}, here all from {low} to {high}")
    scale = scale.detach().float().reshape(-1)
    zero_point = zero_point.reshape(-1).double() - low
    if not ((scale > 0) & scale.isfinite()).all():
        raise refused(name, f"its scale is not a finite number above 0: {scale.min().item()}")
    return Grid(scale, zero_point.float().expand_as(scale))


def int8_weight(name: str, weight: Tensor, zero_point: Tensor, axis: int = 0) -> Tensor:
    """Integer weights less their zero point, int8 if they fit. Raises ValueError where they do not."""
    shape = [1] * weight.dim()
    shape[axis] = -1
    whole = weight.long() - zero_point.long().reshape(shape)
    if whole.numel() and (whole.min() < -INT8_OFFSET or whole.max() >= INT8_OFFSET):
        raise refused(name, "its weights less their zero point do not fit int8, here weights are symmetric")
    return whole.to(torch.int8)


def channel_scale(name: str, scale: Tensor, outputs: int) -> Tensor:
    """The scale of weights as float64 (outputs,), of one number or one for each output channel."""
    scale = scale.detach().double().reshape(-1)
    if len(scale) not in (1, outputs):
        raise refused(name, f"its weights have {len(scale)} scales for {outputs} output channels")
    return scale.expand(outputs)
