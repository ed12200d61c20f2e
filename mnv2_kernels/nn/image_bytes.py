"""What the bytes of an image stand for: mean and deviation as a table that the first layer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ..dtypes import dtype_name
from ..fusion.fused_layer import Fusion
from ..packing.packed_layers import outside_inference_mode

Numbers = float | Sequence[float]
Named = Literal["imagenet", "tf"]
Normalize = tuple[Numbers, Numbers] | Named
ImageLayout = Literal["NCHW", "NHWC"]

# Where height and width stand.
SIDES: dict[ImageLayout, tuple[int, int]] = {"NCHW": (2, 3), "NHWC": (1, 2)}

# Mean and deviation of torchvision's weights.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

EXPECTED = f"{', '.join(map(repr, get_args(Named)))} or (mean, deviation)"


def check_layout(layout: str) -> None:
    """Raises ValueError for a layout of images that is none."""
    if layout not in SIDES:
        raise ValueError(f"layout: expected one of {', '.join(SIDES)}, got {layout!r}")


def reads_bytes(fusion: Fusion, normalize: Normalize) -> Fusion:
    """The stem on images of bytes, which become numbers of its weights' dtype.

    There is no backward to bytes: ``function`` stays that of the stem on numbers. Raises RuntimeError where
    the layer is no stem, ValueError for a wrong ``normalize``.
    """
    layer = fusion.layer
    if layer.kind != "stem":
        raise RuntimeError(f"deploy: normalize: expected a stem as the first layer, got a {layer.kind}")
    with outside_inference_mode():
        weight = fusion.weights()[0]
        assert weight is not None  # a stem has one
        table = table_of(normalize, layer.in_channels).to(weight.device)
    of_bytes = replace(layer, bytes_as=dtype_name(weight.dtype))
    return replace(fusion, layer=of_bytes, weights=lambda: (*fusion.weights(), table))


def table_of(normalize: Normalize, channels: int) -> Tensor:
    """float32 (channels, 256): what each byte of each channel stands for, in the bits that torch computes.

    "tf" is ``byte / 127.5 - 1``, as Keras has it; else it is ``(byte / 255 - mean) / deviation``, of
    "imagenet" torchvision's. Raises ValueError where ``normalize`` is neither.
    """
    byte = torch.arange(256, dtype=torch.float32, device="cpu").expand(channels, -1)
    if normalize == "tf":
        return byte / 127.5 - 1
    if normalize == "imagenet":
        normalize = IMAGENET
    if not isinstance(normalize, Sequence) or isinstance(normalize, str) or len(normalize) != 2:
        raise ValueError(f"normalize: expected {EXPECTED}, got {normalize!r}")
    mean, deviation = (
        _of_channels(name, numbers, channels)
        for name, numbers in zip(("mean", "deviation"), normalize, strict=True)
    )
    if not (deviation > 0).all():
        raise ValueError(f"normalize: deviation: expected numbers above 0, got {normalize[1]}")
    table = (byte / 255 - mean) / deviation
    if not table.isfinite().all():
        raise ValueError(
            f"normalize: expected finite numbers for all bytes, got infinite ones by {normalize}"
        )
    return table


def _of_channels(name: str, numbers: Numbers, channels: int) -> Tensor:
    """(channels, 1) of one number or one for each channel."""
    try:
        given = torch.as_tensor(numbers, dtype=torch.float32, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"normalize: {name}: expected numbers, got {numbers!r}") from None
    if given.shape not in ((), (channels,)) or not given.isfinite().all():
        raise ValueError(f"normalize: {name}: expected one finite number or {channels}, got {numbers}")
    return given.expand(channels)[:, None]
