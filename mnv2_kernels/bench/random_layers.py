"""Layers of random weights, packed: what a network's time needs and no checkpoint has to be at hand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..layer import Layer, join_layers
from ..packing.packed_layers import PackedLayers, outside_inference_mode

WEIGHT_SEED = 0


def pack_random(layers: Sequence[Layer], dtype: torch.dtype) -> PackedLayers:
    """The layers with weights that are always the same and that lead to no zeros, infinities or denormals."""
    generator = torch.Generator().manual_seed(WEIGHT_SEED)
    with outside_inference_mode():
        weights = [weight for layer in layers for weight in _weights(layer, generator, dtype)]
        return PackedLayers(layers, torch.ops.mnv2.pack(weights, layers=join_layers(layers)))


def _weights(layer: Layer, generator: torch.Generator, dtype: torch.dtype) -> Iterator[Tensor | None]:
    """What mnv2::pack takes for a layer, in its order."""

    def normal(*size: int, fan_in: int) -> Tensor:
        return (torch.randn(size, generator=generator) * (2 / fan_in) ** 0.5).to(dtype)

    def convolution(out_channels: int, fan_in_channels: int, kernel: int) -> Iterator[Tensor]:
        """Weight, scale and bias."""
        size = (out_channels, fan_in_channels, kernel, kernel)
        yield normal(*size, fan_in=fan_in_channels * kernel * kernel)
        yield torch.ones(out_channels)
        yield torch.randn(out_channels, generator=generator)

    def linear(out_channels: int, in_channels: int, *kernel: int) -> Iterator[Tensor]:
        """Weight and bias."""
        yield normal(out_channels, in_channels, *kernel, fan_in=in_channels)
        yield torch.randn(out_channels, generator=generator).to(dtype)

    if layer.kind == "linear":
        yield from linear(layer.out_channels, layer.in_channels)
    elif layer.kind == "block":
        expanded = layer.expanded_channels
        yield from convolution(expanded, layer.in_channels, 1) if layer.expand else (None, None, None)
        yield from convolution(expanded, 1, layer.kernel)
        yield from convolution(layer.out_channels, expanded, 1)
        if layer.squeezed_channels:
            yield from linear(layer.squeezed_channels, expanded, 1, 1)
            yield from linear(expanded, layer.squeezed_channels, 1, 1)
    else:
        kernel = layer.kernel if layer.kind == "stem" else 1
        yield from convolution(layer.out_channels, layer.in_channels, kernel)
