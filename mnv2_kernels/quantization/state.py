"""How a quantised network's state_dict names its layers and their tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..layer import Layer, join_layers, parse_layers
from ..shapes import KERNEL_SIZE

STEM, HEAD, CLASSIFIER = "stem", "head_pool", "linear"
STATE_LAYERS = "layers"
STEM_NAME = "features.0"


def layer_names(layers: Sequence[Layer]) -> dict[str, Layer]:
    """The layers by their names in a FusedMobileNetV2."""
    names = [*(f"features.{index}" for index in range(len(layers) - 1)), "classifier"]
    return dict(zip(names, layers, strict=True))


def convolution_shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    """The weight shapes of a layer's convolutions, by name, first to last."""
    inp, out, expanded = layer.in_channels, layer.out_channels, layer.expanded_channels
    window = (KERNEL_SIZE, KERNEL_SIZE)
    if layer.kind == "block":
        shapes: dict[str, tuple[int, ...]] = {"expand": (expanded, inp, 1, 1)} if layer.expand else {}
        return shapes | {"depthwise": (expanded, 1, *window), "project": (out, expanded, 1, 1)}
    return {"conv": {STEM: (out, inp, *window), HEAD: (out, inp, 1, 1), CLASSIFIER: (out, inp)}[layer.kind]}


def layers_tensor(layers: Sequence[Layer]) -> Tensor:
    """The text of the layers as bytes."""
    return torch.frombuffer(bytearray(join_layers(layers).encode()), dtype=torch.uint8)


def read_layers(state: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """The layers of a state_dict. Raises ValueError where it has none."""
    text = state.get(STATE_LAYERS)
    if not isinstance(text, Tensor) or text.dtype != torch.uint8 or text.dim() != 1:
        raise ValueError(f"expected a QuantizedMobileNetV2's state_dict: it has no {STATE_LAYERS!r}")
    return parse_layers(bytes(text.tolist()).decode(errors="replace"))


def layers_in_float(state: Mapping[str, Tensor], layers: Sequence[Layer]) -> list[str]:
    """The names of those that are kept in float: they have weights, but no multipliers."""
    return [
        name
        for name, layer in layer_names(layers).items()
        if f"{name}.{next(iter(convolution_shapes(layer)))}.multiplier" not in state
    ]
