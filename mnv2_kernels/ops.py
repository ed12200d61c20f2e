"""Loads the operators of ``torch.ops.mnv2`` and tells torch what it has to know besides their kernels.

Schemas and kernels are C++ (``csrc/torch``). Here are the fakes (shapes and strides for torch.compile and
torch.export), the refused backward, the autocast rule, and the registration of vmap rules (``batching.py``),
FLOP formulas (``flops.py``) and what graphs on disk depend on (``compile_cache.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_autograd, register_fake, register_vmap

from . import _native, batching, compile_cache, flops, gpu
from .batching import Argument
from .layer_description import result_channels
from .shapes import SYMMETRIC_PADDING, output_size

LIBRARY = Path(__file__).with_name("libmnv2_ops.so")

# Each with the function of reference.py that computes the same.
UNPACKED_OPS = ("fused_block", "stem", "head_pool", "linear")
PACKED_OPS = tuple(f"{name}_packed" for name in UNPACKED_OPS)
PACKERS = ("pack_block", "pack_stem", "pack_head_pool", "pack_linear")

# A whole network on the CPU; on NVIDIA's GPUs see gpu.CUDA_ONLY. Its packer copies packed layers;
# network_seconds is for profiles alone.
NETWORK_OPS = ("network", "pack_network", "network_seconds")

AUTOCAST_DEVICES = ("cpu", "cuda")
# In the order of packed_types in csrc/torch/checks.h, whose positions the check_ operators return.
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def _load_library() -> None:
    try:
        torch.ops.load_library(LIBRARY)
    except OSError as error:
        raise ImportError(
            f"{LIBRARY.name} does not load; build it for this torch with: pip install --no-build-isolation ."
        ) from error


# --- fakes ---


def _check(op: str, argument: str, holds: bool, expected: str, got: Callable[[], object]) -> None:
    torch._check(holds, lambda: f"mnv2::{op}: {argument}: expected {expected}, got {got()}")


def _check_input(op: str, x: Tensor, *shape: int | str) -> None:
    """Refuses what the kernels would: a graph may be recorded far from where it runs.

    ``shape`` names the sizes that may be any.
    """
    _check(op, "x", x.dtype in DTYPES, "dtype float32, float16 or bfloat16", lambda: dtype_name(x.dtype))
    _check(op, "x", x.dim() == len(shape), f"{len(shape)} dimensions", lambda: f"shape {tuple(x.shape)}")
    fits = all(size == wanted for size, wanted in zip(x.shape, shape, strict=True) if type(wanted) is not str)
    _check(op, "x", fits, f"shape ({', '.join(map(str, shape))})", lambda: tuple(x.shape))


def _tensors(names: Sequence[str], args: Sequence[Argument]) -> Iterator[tuple[str, Tensor]]:
    for name, arg in zip(names, args, strict=False):
        for tensor in arg if isinstance(arg, Sequence) else [arg]:
            if tensor is not None:
                yield name, tensor


def _on_one_device(op: torch._ops.OpOverload, fake: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The fake of ``op`` for tensors of one device.

    Torch calls fakes where any tensor is on meta: beside a CPU's the result would be memory nobody wrote.
    """
    name, names = op._schema.name, [each.name for each in op._schema.arguments]

    def checked(*args: Argument, **options: Any) -> Tensor:
        (_, first), *others = ((argument, each.device) for argument, each in _tensors(names, args))
        for argument, device in others:
            if device != first:
                raise RuntimeError(f"{name}: {argument}: expected a tensor on {first}, got one on {device}")
        return fake(*args, **options)

    return checked


def _image(
    op: str, x: Tensor, in_channels: int, channels: int, stride: int, padding: Sequence[int]
) -> Tensor:
    _check_input(op, x, "N", in_channels, "H", "W")
    batch, _, height, width = x.shape
    top, left, bottom, right = padding
    out_height, out_width = output_size(height, top, bottom, stride), output_size(width, left, right, stride)
    _check(
        op,
        "x",
        out_height > 0 and out_width > 0,
        f"a height and width of at least 3 with padding {tuple(padding)}",
        lambda: f"shape {tuple(x.shape)}",
    )
    size = (batch, channels, out_height, out_width)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _packed(like: Tensor, size: int) -> Tensor:
    return like.new_empty(size, dtype=torch.uint8)


def _weights_on_gpu(weight: Tensor) -> bool:
    """Whether the packers of GPUs, whose formats are others, take the weights."""
    return weight.device.type in gpu.DEVICES


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` of torch.float32, as ``_native`` takes it."""
    return str(dtype).removeprefix("torch.")


def weights_dtype(*weights: Tensor | None) -> str:
    """The name of the 16-bit dtype that the weights have in common, else float32: their arithmetic."""
    dtypes = {weight.dtype for weight in weights if weight is not None}
    return dtype_name(dtypes.pop()) if dtypes in ({torch.float16}, {torch.bfloat16}) else "float32"


def _fused_block_fake(
    x: Tensor,
    expand_weight: Tensor | None,
    expand_scale: Tensor | None,
    expand_bias: Tensor | None,
    depthwise_weight: Tensor,
    depthwise_scale: Tensor | None,
    depthwise_bias: Tensor | None,
    project_weight: Tensor,
    project_scale: Tensor | None,
    project_bias: Tensor | None,
    *,
    stride: int = 1,
    padding: Sequence[int] = SYMMETRIC_PADDING,
    **_: Any,
) -> Tensor:
    in_channels = depthwise_weight.shape[0] if expand_weight is None else expand_weight.shape[1]
    return _image("fused_block", x, in_channels, project_weight.shape[0], stride, padding)


def _pack_block_fake(
    expand_weight: Tensor | None,
    expand_scale: Tensor | None,
    expand_bias: Tensor | None,
    depthwise_weight: Tensor,
    depthwise_scale: Tensor | None,
    depthwise_bias: Tensor | None,
    project_weight: Tensor,
    project_scale: Tensor | None,
    project_bias: Tensor | None,
    *,
    activation: str = "relu6",
    **options: Any,
) -> Tensor:
    # int() fixes a symbolic channel count: the packed size is no formula but the C++ library's answer.
    out_channels, expanded_channels = (int(size) for size in project_weight.shape[:2])
    in_channels = expanded_channels if expand_weight is None else int(expand_weight.shape[1])
    expand = expand_weight is not None
    weights = weights_dtype(expand_weight, depthwise_weight, project_weight)
    if _weights_on_gpu(project_weight):
        channels = (in_channels, expanded_channels, out_channels)
        device = project_weight.device.type
        size = gpu.packed_block_bytes(device, channels, expand, weights, activation, **options)
        return _packed(project_weight, size)
    size = _native.packed_block_bytes(in_channels, expanded_channels, out_channels, expand, weights)
    return _packed(project_weight, size)


def _fused_block_packed_fake(
    x: Tensor,
    packed: Tensor,
    *,
    in_channels: int,
    expanded_channels: int,
    out_channels: int,
    stride: int = 1,
    padding: Sequence[int] = SYMMETRIC_PADDING,
    **_: Any,
) -> Tensor:
    return _image("fused_block_packed", x, in_channels, out_channels, stride, padding)


def _stem_fake(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    *,
    stride: int = 2,
    padding: Sequence[int] = SYMMETRIC_PADDING,
    **_: Any,
) -> Tensor:
    return _image("stem", x, weight.shape[1], weight.shape[0], stride, padding)


def _pack_stem_fake(
    weight: Tensor, scale: Tensor | None, bias: Tensor | None, *, activation: str = "relu6", **options: Any
) -> Tensor:
    out_channels, in_channels = (int(size) for size in weight.shape[:2])
    weights = weights_dtype(weight)
    if _weights_on_gpu(weight):
        channels = (in_channels, out_channels)
        size = gpu.packed_stem_bytes(weight.device.type, *channels, weights, activation, **options)
        return _packed(weight, size)
    return _packed(weight, _native.packed_stem_bytes(in_channels, out_channels, weights))


def _stem_packed_fake(
    x: Tensor,
    packed: Tensor,
    *,
    in_channels: int,
    out_channels: int,
    stride: int = 2,
    padding: Sequence[int] = SYMMETRIC_PADDING,
    **_: Any,
) -> Tensor:
    return _image("stem_packed", x, in_channels, out_channels, stride, padding)


def _head_pool_fake(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, **_: Any) -> Tensor:
    _check_input("head_pool", x, "N", weight.shape[1], "H", "W")
    return x.new_empty((x.shape[0], weight.shape[0]))


def _pack_head_pool_fake(
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    *,
    activation: str = "relu6",
) -> Tensor:
    out_channels, in_channels = (int(size) for size in weight.shape[:2])
    weights = weights_dtype(weight)
    if _weights_on_gpu(weight):
        channels = (in_channels, out_channels)
        return _packed(weight, gpu.packed_head_pool_bytes(weight.device.type, *channels, weights, activation))
    return _packed(weight, _native.packed_head_pool_bytes(in_channels, out_channels, weights))


def _head_pool_packed_fake(
    x: Tensor, packed: Tensor, *, in_channels: int, out_channels: int, **_: Any
) -> Tensor:
    _check_input("head_pool_packed", x, "N", in_channels, "H", "W")
    return x.new_empty((x.shape[0], out_channels))


def _linear_fake(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    _check_input("linear", x, "N", weight.shape[1])
    return x.new_empty((x.shape[0], weight.shape[0]))


def _pack_linear_fake(weight: Tensor, bias: Tensor | None) -> Tensor:
    out_features, in_features = (int(size) for size in weight.shape)
    weights = weights_dtype(weight)
    if _weights_on_gpu(weight):
        return _packed(
            weight, gpu.packed_linear_bytes(weight.device.type, in_features, out_features, weights)
        )
    return _packed(weight, _native.packed_linear_bytes(in_features, out_features, weights))


def _linear_packed_fake(x: Tensor, packed: Tensor, *, in_features: int, out_features: int) -> Tensor:
    _check_input("linear_packed", x, "N", in_features)
    return x.new_empty((x.shape[0], out_features))


def _pack_network_fake(layers: Sequence[Tensor], *, same_padding: Sequence[bool]) -> Tensor:
    return _packed(layers[0], _native.packed_network_bytes([int(layer.shape[0]) for layer in layers]))


def _network_fake(x: Tensor, packed: Tensor, *, in_channels: int, out_channels: int) -> Tensor:
    _check_input("network", x, "N", in_channels, "H", "W")
    return x.new_empty((x.shape[0], out_channels))


def _network_layers_fake(x: Tensor, packed: Sequence[Tensor], *, layers: str) -> Tensor:
    return x.new_empty((x.shape[0], result_channels(layers)))


def _pack_stem_block_fake(
    stem_weight: Tensor,
    stem_scale: Tensor | None,
    stem_bias: Tensor | None,
    depthwise_weight: Tensor,
    depthwise_scale: Tensor | None,
    depthwise_bias: Tensor | None,
    project_weight: Tensor,
    project_scale: Tensor | None,
    project_bias: Tensor | None,
    *,
    layers: str,
) -> Tensor:
    weights = weights_dtype(stem_weight, depthwise_weight, project_weight)
    return _packed(stem_weight, torch.ops.mnv2.cuda_stem_block_bytes(layers, dtype=weights))


_FAKES: dict[str, Callable[..., Tensor]] = {
    "fused_block": _fused_block_fake,
    "pack_block": _pack_block_fake,
    "fused_block_packed": _fused_block_packed_fake,
    "stem": _stem_fake,
    "pack_stem": _pack_stem_fake,
    "stem_packed": _stem_packed_fake,
    "head_pool": _head_pool_fake,
    "pack_head_pool": _pack_head_pool_fake,
    "head_pool_packed": _head_pool_packed_fake,
    "linear": _linear_fake,
    "pack_linear": _pack_linear_fake,
    "linear_packed": _linear_packed_fake,
    "pack_network": _pack_network_fake,
    "network": _network_fake,
    "network_layers": _network_layers_fake,
    "pack_stem_block": _pack_stem_block_fake,
}


# --- autograd and autocast ---


def _refuse_backward(op: str) -> Callable[..., None]:
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(
            f"mnv2::{op} has no backward, it is for inference: call FusedMobileNetV2 or "
            f"FusedInvertedResidual, whose backward runs their layers, or the functions of "
            f"mnv2_kernels.reference"
        )

    return backward


def _autocast(op: torch._ops.OpOverload, device: str) -> Callable[..., Tensor]:
    """x in autocast's dtype, as a convolution gets it, but weights at full precision, as computed with."""

    def kernel(x: Tensor, *others: Tensor | Sequence[Tensor] | None, **options: Any) -> Tensor:
        if x.is_floating_point() and x.dtype != torch.float64:
            x = x.to(torch.get_autocast_dtype(device))
        widened = [other.float() if _is_half(other) else other for other in others]
        with torch.autocast(device, enabled=False):
            return op(x, *widened, **options)

    return kernel


def _is_half(argument: Tensor | Sequence[Tensor] | None) -> bool:
    return isinstance(argument, Tensor) and argument.dtype in (torch.float16, torch.bfloat16)


def _register() -> Library:
    """Registers everything above; the returned library owns the autocast kernels and has to stay alive."""
    library = Library("mnv2", "IMPL")
    for name, fake in _FAKES.items():
        op = getattr(torch.ops.mnv2, name).default
        register_fake(op, _on_one_device(op, fake))
        register_autograd(op, _refuse_backward(name))
        if name != "pack_network":
            register_vmap(op, batching.rule(op, folds_first_input=not name.startswith("pack_")))
    for name in (*UNPACKED_OPS, *PACKED_OPS, "network", "network_layers"):
        op = getattr(torch.ops.mnv2, name).default
        for device in AUTOCAST_DEVICES:
            library.impl(name, _autocast(op, device), f"Autocast{device.upper()}")
    gpu.register(library, (*UNPACKED_OPS, *PACKED_OPS, *PACKERS))
    flops.register_on_import()
    compile_cache.add_tag()
    return library


_load_library()
_LIBRARY = _register()
