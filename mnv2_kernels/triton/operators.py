"""The operators on GPUs: checked in C++, allocated and launched here. Arguments are those of the schemas."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..shapes import ACTIVATIONS, KERNEL_TAPS, BlockShape, HeadShape, StemShape
from .autotune import chosen_config
from .head_pool import launch_head_pool
from .inverted_residual import block_launch
from .packing import (
    DTYPES,
    Packing,
    block_packing,
    convolution_packing,
    linear_packing,
    pack_block_weights,
    pack_convolution,
    pack_linear_weights,
)
from .stem import launch_stem

checks = torch.ops.mnv2
Weight = Tensor | None


def precision(x: Tensor) -> str:
    """Of float32 products, as tl.dot takes it: TF32 where torch's own convolutions may use it."""
    may_use_tf32 = x.is_cuda and torch.version.hip is None
    return "tf32" if may_use_tf32 and torch.backends.cudnn.conv.fp32_precision == "tf32" else "ieee"


def _packings(packing_for: Any, *arguments: Any) -> list[Packing]:
    return [packing_for(*arguments, dtype) for dtype in DTYPES]


def _lengths(packings: list[Packing]) -> list[int]:
    """For a check that looks at them last: 0 where it will refuse the activation."""
    return [packing.nbytes if packing.activation in ACTIVATIONS else 0 for packing in packings]


def _image_result(x: Tensor, shape: BlockShape | StemShape) -> Tensor:
    size = (shape.batch, shape.out_channels, shape.out_height, shape.out_width)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _batch_and_size(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[2], x.shape[3]


def _tuples(options: dict[str, Any]) -> dict[str, Any]:
    """A shape is a key, and torch gives lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


# --- inverted residual ---


def _block_channels(weights: tuple[Weight, ...]) -> tuple[int, int, int, bool]:
    expand, project = weights[0], weights[6]
    out_channels, expanded = project.shape[:2]
    return expanded if expand is None else expand.shape[1], expanded, out_channels, expand is not None


def _pack_block(packing: Packing, weights: tuple[Weight, ...]) -> Tensor:
    return pack_block_weights(packing, None if weights[0] is None else weights[:3], weights[3:6], weights[6:])


def _run_block(x: Tensor, packed: Tensor, shape: BlockShape, packing: Packing) -> Tensor:
    y = _image_result(x, shape)
    if shape.batch:
        x = x.contiguous(memory_format=torch.channels_last)
        config = chosen_config(shape, packing, precision(x), x, packed)
        block_launch(shape, packing, config, x.dtype, precision(x))(x, packed, y)
    return y


def fused_block(x: Tensor, *weights: Weight, **options: Any) -> Tensor:
    checks.check_fused_block(x, *weights, **options)
    *channels, expand = _block_channels(weights)
    shape = BlockShape(*_batch_and_size(x), *channels, expand=expand, **_tuples(options))
    packing = block_packing(*channels, expand, shape.activation, x.dtype)
    return _run_block(x, _pack_block(packing, weights), shape, packing)


def pack_block(*weights: Weight, activation: str = "relu6", **options: Any) -> Tensor:
    dtype = DTYPES[checks.check_pack_block(*weights, activation=activation, **options)]
    return _pack_block(block_packing(*_block_channels(weights), activation, dtype), weights)


def fused_block_packed(
    x: Tensor,
    packed: Tensor,
    *,
    in_channels: int,
    expanded_channels: int,
    out_channels: int,
    expand: bool = True,
    activation: str = "relu6",
    **options: Any,
) -> Tensor:
    channels = (in_channels, expanded_channels, out_channels)
    options["activation"] = activation
    packings = _packings(block_packing, *channels, expand, activation)
    position = checks.check_fused_block_packed(
        x, packed, _lengths(packings), in_channels=in_channels, expanded_channels=expanded_channels,
        out_channels=out_channels, expand=expand, **options,
    )  # fmt: skip
    shape = BlockShape(*_batch_and_size(x), *channels, expand=expand, **_tuples(options))
    return _run_block(x, packed, shape, packings[position])


# --- stem ---


def _run_stem(x: Tensor, packed: Tensor, shape: StemShape, packing: Packing) -> Tensor:
    y = _image_result(x, shape)
    if shape.batch:
        launch_stem(shape, packing, precision(x), x, packed, y)
    return y


def stem(x: Tensor, weight: Tensor, scale: Weight, bias: Weight, **options: Any) -> Tensor:
    checks.check_stem(x, weight, scale, bias, **options)
    shape = StemShape(*_batch_and_size(x), x.shape[1], weight.shape[0], **_tuples(options))
    packing = convolution_packing(shape.accumulation_depth, shape.out_channels, shape.activation, x.dtype)
    return _run_stem(x, pack_convolution(packing, (weight, scale, bias)), shape, packing)


def pack_stem(
    weight: Tensor, scale: Weight, bias: Weight, *, activation: str = "relu6", **options: Any
) -> Tensor:
    dtype = DTYPES[checks.check_pack_stem(weight, scale, bias, activation=activation, **options)]
    packing = convolution_packing(weight[0].numel(), weight.shape[0], activation, dtype)
    return pack_convolution(packing, (weight, scale, bias))


def stem_packed(
    x: Tensor,
    packed: Tensor,
    *,
    in_channels: int,
    out_channels: int,
    activation: str = "relu6",
    **options: Any,
) -> Tensor:
    options["activation"] = activation
    packings = _packings(convolution_packing, in_channels * KERNEL_TAPS, out_channels, activation)
    position = checks.check_stem_packed(
        x, packed, _lengths(packings), in_channels=in_channels, out_channels=out_channels, **options
    )
    shape = StemShape(*_batch_and_size(x), in_channels, out_channels, **_tuples(options))
    return _run_stem(x, packed, shape, packings[position])


# --- head and pool ---


def _run_head_pool(x: Tensor, packed: Tensor, shape: HeadShape, packing: Packing) -> Tensor:
    y = x.new_empty((shape.batch, shape.out_channels))
    if shape.batch:
        x = x.contiguous(memory_format=torch.channels_last)
        launch_head_pool(shape, packing, precision(x), x, packed, y)
    return y


def head_pool(x: Tensor, weight: Tensor, scale: Weight, bias: Weight, *, activation: str = "relu6") -> Tensor:
    checks.check_head_pool(x, weight, scale, bias, activation=activation)
    shape = HeadShape(*_batch_and_size(x), x.shape[1], weight.shape[0], activation)
    packing = convolution_packing(x.shape[1], weight.shape[0], activation, x.dtype)
    return _run_head_pool(x, pack_convolution(packing, (weight, scale, bias)), shape, packing)


def pack_head_pool(
    weight: Tensor, scale: Weight, bias: Weight, *, activation: str = "relu6", **options: Any
) -> Tensor:
    dtype = DTYPES[checks.check_pack_head_pool(weight, scale, bias, activation=activation, **options)]
    packing = convolution_packing(weight.shape[1], weight.shape[0], activation, dtype)
    return pack_convolution(packing, (weight, scale, bias))


def head_pool_packed(
    x: Tensor, packed: Tensor, *, in_channels: int, out_channels: int, activation: str = "relu6"
) -> Tensor:
    packings = _packings(convolution_packing, in_channels, out_channels, activation)
    position = checks.check_head_pool_packed(
        x,
        packed,
        _lengths(packings),
        in_channels=in_channels,
        out_channels=out_channels,
        activation=activation,
    )
    shape = HeadShape(*_batch_and_size(x), in_channels, out_channels, activation)
    return _run_head_pool(x, packed, shape, packings[position])


# --- linear: torch's own, which is a library's matrix product ---


def _run_linear(x: Tensor, packed: Tensor, packing: Packing, out_features: int) -> Tensor:
    weight, bias = packing.sections(packed)
    return F.linear(x, weight.view(out_features, -1).to(x.dtype), bias.to(x.dtype))


def linear(x: Tensor, weight: Tensor, bias: Weight) -> Tensor:
    checks.check_linear(x, weight, bias)
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def pack_linear(weight: Tensor, bias: Weight) -> Tensor:
    dtype = DTYPES[checks.check_pack_linear(weight, bias)]
    return pack_linear_weights(linear_packing(weight.shape[1], weight.shape[0], dtype), weight, bias)


def linear_packed(x: Tensor, packed: Tensor, *, in_features: int, out_features: int) -> Tensor:
    packings = _packings(linear_packing, in_features, out_features)
    position = checks.check_linear_packed(
        x, packed, _lengths(packings), in_features=in_features, out_features=out_features
    )
    return _run_linear(x, packed, packings[position], out_features)
