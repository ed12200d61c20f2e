"""Shapes and strides of the operators' results, for torch.compile and torch.export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..dtypes import DTYPES, dtype_name, weights_dtype
from ..layer import LAYER_OPS, SAME, Layer, is_chain, layer_of_call, parse_layers
from ..shapes import Padding, output_size, same_output_size
from . import gpu
from .batching import Argument

INT8 = "int8"  # an arithmetic
TABLE = 3  # the position of a first stem's table among the weights
INT8_DTYPES = ((torch.uint8,), (torch.uint8, torch.float32))  # of any layer's input, and of a stem's
FLOAT_EXPECTED = "arithmetic=float (bytes have kernels on CPUs, by pack and run)"


def _check(op: str, argument: str, holds: bool, expected: str, got: Callable[[], object]) -> None:
    torch._check(holds, lambda: f"mnv2::{op}: {argument}: expected {expected}, got {got()}")


def _check_input(op: str, x: Tensor, layer: Layer, *shape: int | str) -> None:
    """Refuses what the kernels would: a graph may be recorded far from where it runs.

    ``shape`` names the sizes that may be any.
    """
    if layer.arithmetic == INT8:
        dtypes = INT8_DTYPES[layer.kind == "stem"]
        expected = f"dtype {' or '.join(map(dtype_name, dtypes))} (of layers with arithmetic=int8)"
        _check(op, "x", x.dtype in dtypes, expected, lambda: dtype_name(x.dtype))
    elif layer.bytes_as:
        expected = "dtype uint8 (of a stem with bytes_as)"
        _check(op, "x", x.dtype == torch.uint8, expected, lambda: dtype_name(x.dtype))
    else:
        expected = "dtype float32, float16 or bfloat16"
        _check(op, "x", x.dtype in DTYPES, expected, lambda: dtype_name(x.dtype))
    _check(op, "x", x.dim() == len(shape), f"{len(shape)} dimensions", lambda: f"shape {tuple(x.shape)}")
    fits = all(size == wanted for size, wanted in zip(x.shape, shape, strict=True) if type(wanted) is not str)
    _check(op, "x", fits, f"shape ({', '.join(map(str, shape))})", lambda: tuple(x.shape))


def _check_pixels(op: str, x: Tensor) -> None:
    filled = x.shape[2] > 0 and x.shape[3] > 0
    _check(op, "x", filled, "at least one pixel", lambda: f"shape {tuple(x.shape)}")


def _tensors(names: Sequence[str], args: Sequence[Argument]) -> Iterator[tuple[str, Tensor]]:
    for name, arg in zip(names, args, strict=False):
        for tensor in arg if isinstance(arg, Sequence) else [arg]:
            if tensor is not None:
                yield name, tensor


def on_one_device(op: torch._ops.OpOverload, fake: Callable[..., Tensor]) -> Callable[..., Tensor]:
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


def _window_size(
    op: str, x: Tensor, height: int, width: int, layer: Layer, padding: Padding
) -> tuple[int, int]:
    """Height and width of what slides the layer's window over an image that x became."""
    top, left, bottom, right = padding
    out_height = output_size(height, top, bottom, layer.stride, layer.kernel)
    out_width = output_size(width, left, right, layer.stride, layer.kernel)
    _check(
        op,
        "x",
        out_height > 0 and out_width > 0,
        f"a height and width of at least {layer.kernel} with padding {padding}",
        lambda: f"shape {tuple(x.shape)}",
    )
    return out_height, out_width


def _chain(op: str, text: str) -> tuple[Layer, ...]:
    try:
        chain = parse_layers(text)
    except ValueError as error:
        raise RuntimeError(f"mnv2::{op}: {error}") from None
    expected = "any run of a stem, blocks, a head and linear layers, each with the channels of the one before"
    _check(op, "layers", is_chain(chain), expected, lambda: text)
    return chain


def _pack_fake(weights: Sequence[Tensor | None], *, layers: str, portable: bool = False) -> Tensor:
    chain = _chain("pack", layers)
    _check(
        "pack", "portable", not portable, "False in a graph, which keeps what was packed before", lambda: True
    )
    first = next(weight for weight in weights if weight is not None)
    device = first.device.type
    on_gpu = device in gpu.DEVICES
    # The packed size is no formula but the C++ library's answer.
    if chain[0].arithmetic == INT8:
        _check("pack", "layers", not on_gpu, FLOAT_EXPECTED, lambda: INT8)
        return first.new_empty(_native.packed_bytes(layers), dtype=torch.uint8)
    convolutions = [*weights[:TABLE], *weights[TABLE + 1 :]] if chain[0].bytes_as else weights
    dtype = weights_dtype(convolutions)
    size = gpu.packed_bytes(device, layers, dtype) if on_gpu else _native.packed_bytes(layers, dtype)
    return first.new_empty(size, dtype=torch.uint8)


def _run_fake(x: Tensor, packed: Tensor, *, layers: str) -> Tensor:
    return _result("run", x, _chain("run", layers))


def _result(op: str, x: Tensor, chain: Sequence[Layer]) -> Tensor:
    in_channels, out_channels = chain[0].in_channels, chain[-1].out_channels
    dtype = x.dtype
    if chain[0].arithmetic == INT8:
        dtype = torch.float32 if chain[-1].kind == "linear" else torch.uint8
    elif chain[0].bytes_as:
        dtype = getattr(torch, chain[0].bytes_as)
    if chain[0].kind == "linear":
        _check_input(op, x, chain[0], "N", in_channels)
        return x.new_empty((x.shape[0], out_channels), dtype=dtype)
    _check_input(op, x, chain[0], "N", in_channels, "H", "W")
    _check_pixels(op, x)
    height, width = x.shape[2:]
    for layer in chain:
        if layer.kind not in ("stem", "block"):
            return x.new_empty((x.shape[0], out_channels), dtype=dtype)
        if layer.padding == SAME:  # by its own formula: torch.export cannot see that a window always fits
            height, width = same_output_size(height, layer.stride), same_output_size(width, layer.stride)
        else:
            height, width = _window_size(op, x, height, width, layer, layer.padding)
    size = (x.shape[0], out_channels, height, width)
    return torch.empty(size, dtype=dtype, device=x.device, memory_format=torch.channels_last)


def _layer_fake(op: str) -> Callable[..., Tensor]:
    def fake(x: Tensor, *weights: Tensor | None, **options: Any) -> Tensor:
        shapes = [None if weight is None else weight.shape for weight in weights]
        return _result(op, x, _chain(op, str(layer_of_call(op, shapes, **options))))

    return fake


FAKES: dict[str, Callable[..., Tensor]] = {
    **{op: _layer_fake(op) for op in LAYER_OPS},
    "pack": _pack_fake,
    "run": _run_fake,
}
