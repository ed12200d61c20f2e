"""The operators on GPUs: checked in C++, allocated and launched here. Arguments are those of the schemas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layer import LAYER_OPS, Layer, layer_of_call, parse_layers
from .autotune import chosen_config
from .gate import run_gated
from .head_pool import launch_head_pool
from .inverted_residual import block_launch
from .packing import DTYPES, Packing, chain_packing, pack_chain
from .stem import launch_stem

checks = torch.ops.mnv2
Weight = Tensor | None


def precision(x: Tensor) -> str:
    """Of float32 products, as tl.dot takes it: TF32 where torch's own convolutions may use it."""
    may_use_tf32 = x.is_cuda and torch.version.hip is None
    cudnn: Any = torch.backends.cudnn
    return "tf32" if may_use_tf32 and cudnn.conv.fp32_precision == "tf32" else "ieee"


# --- packed layers ---


def pack(weights: Sequence[Weight], *, layers: str, portable: bool = False) -> Tensor:
    if portable:
        raise RuntimeError("mnv2::pack: portable: expected False (portable weights are for CPUs), got True")
    dtype = DTYPES[checks.check_pack(weights, layers=layers)]
    chain = parse_layers(layers)
    return pack_chain(chain_packing(chain, dtype), chain, weights)


def run(x: Tensor, packed: Tensor, *, layers: str) -> Tensor:
    lengths = [_length(layers, dtype) for dtype in DTYPES]
    position = checks.check_run(x, packed, lengths, layers=layers)
    return _run_chain(x, packed, parse_layers(layers), DTYPES[position])


def _length(layers: str, dtype: torch.dtype) -> int:
    """For a check that looks at it last: 0 where it will refuse the layers."""
    try:
        return chain_packing(parse_layers(layers), dtype).nbytes
    except (ValueError, TypeError, KeyError):
        return 0


def _run_chain(x: Tensor, packed: Tensor, layers: tuple[Layer, ...], dtype: torch.dtype) -> Tensor:
    packing = chain_packing(layers, dtype)
    for layer, each, part in zip(layers, packing.packings, packing.parts(packed), strict=True):
        x = _run_layer(x, part, layer, each)
    return x


def _run_layer(x: Tensor, packed: Tensor, layer: Layer, packing: Packing) -> Tensor:
    """By its kernel; a linear layer by torch, which has a library's matrix product."""
    if layer.kind == "linear":
        weight, bias = packing.sections(packed)
        y = F.linear(x, weight.view(layer.out_channels, -1).to(x.dtype), bias.to(x.dtype))
        return y if layer.activation == "none" else getattr(F, layer.activation)(y)
    shape: Any = layer.shape(x.shape[0], x.shape[2], x.shape[3])
    if layer.kind == "head_pool":
        y = x.new_empty((shape.batch, shape.out_channels))
    else:
        size = (shape.batch, shape.out_channels, shape.out_height, shape.out_width)
        y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    if shape.batch == 0:
        return y
    if layer.kind == "stem":
        launch_stem(shape, packing, precision(x), x, packed, y)
        return y
    x = x.contiguous(memory_format=torch.channels_last)
    if layer.kind == "head_pool":
        launch_head_pool(shape, packing, precision(x), x, packed, y)
    else:
        config = chosen_config(shape, packing, precision(x), x, packed)
        launch = block_launch(shape, packing, config, x.dtype, precision(x))
        if shape.squeezed_channels:
            run_gated(shape, packing, launch, precision(x), x, packed, y)
        else:
            launch(x, packed, y)
    return y


# --- a layer on weights as they are, packed for one call ---


def _unpacked(op: str) -> Callable[..., Tensor]:
    def run(x: Tensor, *weights: Weight, **options: Any) -> Tensor:
        shapes = [None if weight is None else weight.shape for weight in weights]
        layer = layer_of_call(op, shapes, x.shape[1] if x.dim() > 1 else 0, **options)
        checks.check_pack(list(weights), layers=str(layer), x=x, op=op)
        packed = pack_chain(chain_packing((layer,), x.dtype), (layer,), weights)
        return _run_chain(x, packed, (layer,), x.dtype)

    return run


fused_block, stem, head_pool, linear = map(_unpacked, LAYER_OPS)
