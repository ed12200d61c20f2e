"""What a packed network holds, read from its bytes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _native
from .layer_description import SHAPES
from .shapes import LayerShape


def layer_shapes(packed: Tensor, x: Tensor) -> list[LayerShape]:
    """The layers of ``mnv2::pack_network``'s tensor for images x (N, C, H, W), first to last.

    Raises ValueError where the bytes are no packed network or cannot be read (a fake tensor), or where x does
    not fill the window of every layer.
    """
    return [_shape(**layer) for layer in _native.network_layers(*_bytes(packed), *_image(x))]


def layer_plans(packed: Tensor, x: Tensor, threads: int) -> list[dict[str, Any]]:
    """How each of these layers is cut, as ``_native.plan`` tells it of a block; errors as of layer_shapes."""
    return _native.network_plans(*_bytes(packed), *_image(x), threads)


def _bytes(packed: Tensor) -> tuple[int, int]:
    if type(packed) is not Tensor or packed.device.type != "cpu" or packed.dtype != torch.uint8:
        raise ValueError("packed: expected a plain uint8 tensor on cpu")
    return packed.data_ptr(), packed.numel()


def _image(x: Tensor) -> tuple[int, int, int]:
    batch, _, height, width = x.shape
    return batch, height, width


def _shape(kind: str, **options: Any) -> LayerShape:
    return SHAPES[kind](**options)
