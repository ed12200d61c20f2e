"""THE packed format of the Triton kernels: one opaque tensor of bytes for each layer.

Weights as matrices [depth, channels] in their own dtype, then float32 vectors, padded with zeros to whole
steps of any configuration. It is not the CPU's format: no lanes, but rows that the load of a tile reads in
order. Nothing on a GPU can be read without waiting for it, so the length tells dtype and activation apart
(``_TAG_BYTES``); nothing else is checked when a layer runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from ..dtypes import DTYPES
from ..layer import Layer
from ..shapes import ACTIVATIONS, KERNEL_SIZE, BlockShape

Convolution = tuple[Tensor, Tensor | None, Tensor | None]

# A dot has at least 16 of each; configurations step by 32 input channels from there on.
MIN_STEP = 16
DEPTH_STEP = 32
# The most channels that a step expands.
CHANNEL_STEP = 64
# A channel's depthwise taps of 3x3 and its bias, for loads of four.
KERNEL_TAPS = KERNEL_SIZE**2
TAP_STRIDE = 12
# Sections begin where loads of 16 bytes may.
_ALIGNMENT = 16
_TAG_BYTES = 16


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def power_of_two(value: int) -> int:
    """The power of two that a tile of ``value`` channels takes."""
    return max(MIN_STEP, 1 << (value - 1).bit_length())


def padded_depth(channels: int) -> int:
    return MIN_STEP if channels <= MIN_STEP else round_up(channels, DEPTH_STEP)


def dot_depth(depth: int, dtype: torch.dtype) -> int:
    """The step of a dense sum of ``depth`` products; exact float32 keeps both operands in registers."""
    return MIN_STEP if dtype == torch.float32 else min(depth, DEPTH_STEP)


def is_folded(dtype: torch.dtype) -> bool:
    """Whether expand and depthwise weights hold their scales: less to do, but float32 loses accuracy."""
    return dtype != torch.float32


@dataclass(frozen=True)
class Packing:
    """Where each section lies in a layer's packed tensor; names are the kernels' arguments.

    Attributes:
        matrices: (name, elements) of those in ``dtype``.
        vectors: (name, elements) of those in float32, which follow.
        in_sixths: whether values behind the expand are, see arithmetic.py.
    """

    dtype: torch.dtype
    activation: str
    matrices: tuple[tuple[str, int], ...]
    vectors: tuple[tuple[str, int], ...]
    in_sixths: bool = False

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where a section begins, in elements of its dtype."""
        offsets, position = {}, 0
        for name, size, dtype in self._sections:
            offsets[name] = position // dtype.itemsize
            position += round_up(size * dtype.itemsize, _ALIGNMENT)
        return offsets

    @cached_property
    def nbytes(self) -> int:
        tag = DTYPES.index(self.dtype) * len(ACTIVATIONS) + ACTIVATIONS.index(self.activation)
        sections = sum(round_up(size * dtype.itemsize, _ALIGNMENT) for _, size, dtype in self._sections)
        return sections + tag * _TAG_BYTES

    def pack(self, sections: dict[str, Tensor]) -> Tensor:
        """The opaque tensor of float32 sections, each of its padded size."""
        device = next(iter(sections.values())).device
        packed = torch.zeros(self.nbytes, dtype=torch.uint8, device=device)
        for (name, *_), section in zip(self._sections, self.sections(packed), strict=True):
            section.copy_(sections[name].flatten())
        return packed

    def sections(self, packed: Tensor) -> list[Tensor]:
        """Views of a packed tensor's sections, matrices first."""
        return [
            packed.view(dtype)[self.offsets[name] : self.offsets[name] + size]
            for name, size, dtype in self._sections
        ]

    def views(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """The same bytes in the matrices' dtype and in float32."""
        return packed.view(self.dtype), packed.view(torch.float32)

    @cached_property
    def _sections(self) -> list[tuple[str, int, torch.dtype]]:
        return [(*section, self.dtype) for section in self.matrices] + [
            (*section, torch.float32) for section in self.vectors
        ]


# --- inverted residual ---


@cache
def block_packing(layer: Layer | BlockShape, dtype: torch.dtype) -> Packing:
    wide, out = round_up(layer.expanded_channels, CHANNEL_STEP), power_of_two(layer.out_channels)
    matrices, vectors = [], []
    if layer.expand:
        matrices = [("EXPAND", padded_depth(layer.in_channels) * wide)]
        # The depthwise weights again, channel by channel, for loads of several taps.
        vectors = [("EXPAND_SCALE", wide), ("EXPAND_BIAS", wide), ("CHANNEL_TAPS", wide * TAP_STRIDE)]
    gate = []
    if layer.squeezed_channels:
        squeezed = round_up(layer.squeezed_channels, CHANNEL_STEP)
        gate = [("SQUEEZE", wide * squeezed), ("SQUEEZE_BIAS", squeezed)]
        gate += [("EXCITE", squeezed * wide), ("EXCITE_BIAS", wide)]
    is_relu6 = layer.activation == "relu6" and layer.depthwise_activation is None
    return Packing(
        dtype,
        layer.activation,
        (*matrices, ("PROJECT", wide * out)),
        (
            *vectors,
            ("DEPTHWISE", layer.kernel**2 * wide),
            ("DEPTHWISE_SCALE", wide),
            ("DEPTHWISE_BIAS", wide),
            ("PROJECT_SCALE", out),
            ("PROJECT_BIAS", out),
            *gate,
        ),
        in_sixths=layer.expand and is_relu6 and not layer.squeezed_channels,
    )


def pack_block_weights(
    packing: Packing,
    expand: Convolution | None,
    depthwise: Convolution,
    project: Convolution,
    gate: Sequence[Tensor | None] = (),
) -> Tensor:
    """The packed weight, scale and bias of each convolution; products are float32, rounded once.

    ``gate``: weight and bias of squeeze, then of excite, of a block with a gate.
    """
    sixth = 1 / 6 if packing.in_sixths else 1.0
    out_channels, expanded = project[0].shape[:2]
    wide, out = round_up(expanded, CHANNEL_STEP), power_of_two(out_channels)
    sections = {}
    clamped = [*_floats(depthwise)]
    if expand is not None:
        weight, scale, bias = _floats(expand)
        clamped += [weight, scale, bias]
        matrix, factor = weight.flatten(1).T, scale * sixth
        if is_folded(packing.dtype):
            matrix = matrix * factor
        sections["EXPAND"] = _padded(matrix, padded_depth(weight.shape[1]), wide)
        sections["EXPAND_SCALE"] = _padded(factor, wide)
        sections["EXPAND_BIAS"] = _padded(bias * sixth, wide)
    weight, scale, bias = _floats(depthwise)
    matrix = weight.flatten(1).T
    if is_folded(packing.dtype):
        matrix = matrix * scale
    sections["DEPTHWISE"] = _padded(matrix, matrix.shape[0], wide)
    sections["DEPTHWISE_SCALE"] = _padded(scale, wide)
    sections["DEPTHWISE_BIAS"] = _padded(bias * sixth, wide)
    if expand is not None:
        taps = torch.cat([matrix[:KERNEL_TAPS], (bias * sixth)[None]])  # of no use to larger windows
        sections["CHANNEL_TAPS"] = _padded(taps.T, wide, TAP_STRIDE)
    weight, scale, bias = _floats(project)
    sections["PROJECT"] = _padded(weight.flatten(1).T, wide, out)
    sections["PROJECT_SCALE"] = _padded(scale / sixth, out)
    sections["PROJECT_BIAS"] = _padded(bias + _nan_where_any_is(clamped), out)
    if gate:
        sections |= _gate_sections(gate, wide)
    return packing.pack(sections)


def _gate_sections(gate: Sequence[Any], wide: int) -> dict[str, Tensor]:
    """Both weights as matrices [depth, channels]."""
    weight, _, bias = _floats((gate[0], None, gate[1]))
    squeezed = round_up(weight.shape[0], CHANNEL_STEP)
    sections = {
        "SQUEEZE": _padded(weight.flatten(1).T, wide, squeezed),
        "SQUEEZE_BIAS": _padded(bias, squeezed),
    }
    weight, _, bias = _floats((gate[2], None, gate[3]))
    sections |= {"EXCITE": _padded(weight.flatten(1).T, squeezed, wide), "EXCITE_BIAS": _padded(bias, wide)}
    return sections


def _nan_where_any_is(weights: list[Tensor]) -> Tensor:
    """NaN where one of the weights is, else 0: a clamp to [0, 1] would hide it, and every result has it."""
    nan = torch.stack([weight.isnan().any() for weight in weights]).any()
    return torch.where(nan, torch.nan, 0.0)


# --- stem, head ---


def pack_convolution(packing: Packing, convolution: Convolution) -> Tensor:
    """The packed weight (its taps before its input channels), scale and bias."""
    weight, scale, bias = _floats(convolution)
    matrix = weight.movedim(1, -1).flatten(1).T
    depth, out = padded_depth(matrix.shape[0]), power_of_two(matrix.shape[1])
    return packing.pack(
        {"WEIGHT": _padded(matrix, depth, out), "SCALE": _padded(scale, out), "BIAS": _padded(bias, out)}
    )


def _floats(convolution: Convolution) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, scale (1 where there is none) and bias (0) in float32."""
    weight, scale, bias = convolution
    ones = torch.ones(weight.shape[0], device=weight.device)
    return (
        weight.float(),
        ones if scale is None else scale.float(),
        torch.zeros_like(ones) if bias is None else bias.float(),
    )


def _padded(tensor: Tensor, *shape: int) -> Tensor:
    padded = tensor.new_zeros(shape)
    padded[tuple(map(slice, tensor.shape))] = tensor
    return padded


# --- chains ---


@dataclass(frozen=True)
class ChainPacking:
    """The packed layers of a chain, one after the other in one tensor."""

    packings: tuple[Packing, ...]

    @cached_property
    def nbytes(self) -> int:
        return sum(packing.nbytes for packing in self.packings)

    def parts(self, packed: Tensor) -> tuple[Tensor, ...]:
        """Each layer's own packed tensor, a view."""
        return packed.split([packing.nbytes for packing in self.packings])


@cache
def chain_packing(layers: tuple[Layer, ...], dtype: torch.dtype) -> ChainPacking:
    return ChainPacking(tuple(_layer_packing(layer, dtype) for layer in layers))


def pack_chain(packing: ChainPacking, layers: Sequence[Layer], weights: Sequence[Tensor | None]) -> Tensor:
    """Weights as mnv2::pack takes them: those of each layer, one layer after the other."""
    packed, left = [], list(weights)
    for layer, each in zip(layers, packing.packings, strict=True):
        packed.append(_pack_layer(layer, each, left[: layer.tensors]))
        del left[: layer.tensors]
    return torch.cat(packed)


def _layer_packing(layer: Layer, dtype: torch.dtype) -> Packing:
    if layer.kind == "block":
        return block_packing(layer, dtype)
    if layer.kind == "linear":
        weight, bias = ("WEIGHT", layer.out_channels * layer.in_channels), ("BIAS", layer.out_channels)
        return Packing(dtype, "none", (weight,), (bias,))
    out = power_of_two(layer.out_channels)
    depth = padded_depth(layer.in_channels * (layer.kernel**2 if layer.kind == "stem" else 1))
    return Packing(dtype, layer.activation, (("WEIGHT", depth * out),), (("SCALE", out), ("BIAS", out)))


def _pack_layer(layer: Layer, packing: Packing, weights: Sequence[Any]) -> Tensor:
    if layer.kind == "block":
        expand = tuple(weights[:3]) if layer.expand else None
        return pack_block_weights(packing, expand, tuple(weights[3:6]), tuple(weights[6:9]), weights[9:])
    if layer.kind == "linear":
        weight, _, bias = _floats((weights[0], None, weights[1]))
        return packing.pack({"WEIGHT": weight, "BIAS": bias})
    return pack_convolution(packing, tuple(weights))
