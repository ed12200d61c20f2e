"""Where a quantised network departs from the float one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..nn.mobilenet_v2 import FusedMobileNetV2
from .network import QuantizedMobileNetV2
from .quantize import float_layers
from .state import CLASSIFIER


@dataclass(frozen=True)
class LayerReport:
    """One layer's results over all images, beside those of the float network.

    ``sqnr`` is the signal to noise ratio in dB, all layers before it quantised, too; infinite without a
    difference. ``clipped`` is the share of the float results that lie outside the layer's grid, 0 of logits.
    """

    name: str
    layer: str
    in_float: bool
    sqnr: float
    clipped: float


@torch.no_grad()
def quantization_report(
    model: FusedMobileNetV2, quantized: QuantizedMobileNetV2, batches: Iterable[Tensor]
) -> list[LayerReport]:
    """How much of the float network's results each layer keeps; a large fall from one to the next is its own.

    Args:
        model: the network that ``quantize`` took.
        batches: images (N, C, H, W), not those of the calibration: bytes, or floats as the model takes.
    """
    floats = float_layers(model)
    names = [*floats]
    signal, noise, clipped, count = (dict.fromkeys(names, 0.0) for _ in range(4))
    for batch in batches:
        is_bytes = batch.dtype == torch.uint8
        x, exact = batch, quantized.image_grid.real(batch) if is_bytes else batch
        for name, (layer, grid) in zip(names, quantized.with_input_grids(), strict=True):
            exact = floats[name](exact)
            x = layer(layer.convert(x, grid))
            has_grid = layer.layer.kind != CLASSIFIER
            got = layer.grid.real(x) if x.dtype == torch.uint8 else x
            signal[name] += exact.double().square().sum().item()
            noise[name] += (got.double() - exact.double()).square().sum().item()
            clipped[name] += layer.grid.clipped(exact).sum().item() if has_grid else 0
            count[name] += exact.numel()
    return [
        LayerReport(
            name,
            str(layer.layer),
            layer.is_float,
            decibels(signal[name], noise[name]),
            clipped[name] / max(count[name], 1),
        )
        for name, layer in quantized.named_layers()
    ]


def decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
