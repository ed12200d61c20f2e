"""What was recorded as a function in torch, with gradients: a backward through an operator runs it.

It repeats the operators of the recording, in place ones out of place, for images of any size. What happens to
the modules afterwards (a mode, a stride, a hook) does not reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ..fusion.eager_layers import pad_same
from ..fusion.functions import LayerFunction
from .parts import Part
from .recording import Value
from .steps import Convolution, Sides


def function_of(parts: Sequence[Part]) -> LayerFunction:
    """Parts, one after another. Its tensors are all parameters and buffers that they are computed from."""
    start, end = parts[0].start, parts[-1].end
    windows = {layer.value: layer for part in parts for layer in part.convolutions}
    values = _between(start, end)
    leaves = [value for value in values if value.op == "constant"]
    tensors = tuple(value.tensor for value in leaves if value.tensor is not None)

    def function(x: Tensor, *given: Tensor) -> Tensor:
        results: dict[Value, Any] = {start: x, **dict(zip(leaves, given, strict=True))}
        for value in values:
            if value not in results:
                results[value] = _repeat(value, results, windows)
        return results[end]

    return LayerFunction(function, tensors)


def tensors_of(part: Part) -> tuple[Tensor, ...]:
    """The parameters and buffers that a part is computed from."""
    return _constants(_between(part.start, part.end))


def weights_behind(layer: Convolution) -> tuple[Tensor, ...]:
    """The parameters and buffers that a layer's weight is computed from, or itself."""
    at = 2 if layer.value.op == "addmm" else 1
    return _constants(_between(_NOTHING, layer.value.args[at]))


_NOTHING = Value("nothing")


def _constants(values: Sequence[Value]) -> tuple[Tensor, ...]:
    return tuple(value.tensor for value in values if value.op == "constant" and value.tensor is not None)


def _between(start: Value, end: Value) -> list[Value]:
    """All values that ``end`` is computed from beside ``start``, each behind those it needs."""
    found: dict[Value, None] = {}
    waiting = [end]
    while waiting:
        value = waiting[-1]
        needed = [] if value is start else _sources(value)
        missing = [each for each in needed if each not in found and each is not start]
        if missing:
            waiting += missing
        else:
            waiting.pop()
            if value is not start:
                found[value] = None
    return list(found)


def _sources(value: Value) -> list[Value]:
    return [each for each in tree_leaves((value.args, value.keywords)) if isinstance(each, Value)]


def _repeat(value: Value, results: dict[Value, Any], windows: dict[Value, Convolution]) -> Any:
    args = tree_map(lambda each: results[each] if isinstance(each, Value) else each, value.args)
    if value.op == "item":
        return args[0][args[1]]
    if value.varies and value.op in _OF_ANY_SIZE:
        return _OF_ANY_SIZE[value.op](value, args)
    if value in windows and value.op == "convolution":
        return _convolve(windows[value], *args)
    keywords = {
        name: results[each] if isinstance(each, Value) else each for name, each in value.keywords.items()
    }
    return getattr(torch.ops.aten, value.op)(*args, **keywords)


def _convolve(layer: Convolution, x: Tensor, weight: Tensor, bias: Tensor | None, *_: Any) -> Tensor:
    """With all the padding that belongs to it, which came partly from operators of its own."""
    if layer.same:
        height, width = weight.shape[2:]
        x = pad_same(x, (height, width), layer.stride, layer.dilation)
        padding = (0, 0)
    else:
        x, padding = _padded(x, layer.padding)
    return F.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)


def _padded(x: Tensor, sides: Sides) -> tuple[Tensor, tuple[int, int]]:
    top, left, bottom, right = sides
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, [left, right, top, bottom]), (0, 0)


def _as_it_is(value: Value, args: Any) -> Tensor:
    return args[0]


def _reshape(value: Value, args: Any) -> Tensor:
    """The same image, or vectors for an image of one pixel and the reverse."""
    dimensions, x = len(value.shape), args[0]
    if x.dim() == dimensions:
        return x
    return x[:, :, None, None] if dimensions > x.dim() else x.flatten(1)


def _pool(value: Value, args: Any) -> Tensor:
    return args[0].mean((2, 3), keepdim=True)


# Operators whose arguments, or the operators themselves, are of one size of image or batch.
_OF_ANY_SIZE: dict[str, Callable[[Value, Any], Tensor]] = {
    **dict.fromkeys(("constant_pad_nd", "as_strided", "alias", "clone", "_to_copy", "expand"), _as_it_is),
    **dict.fromkeys(("view", "_unsafe_view", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("avg_pool2d", "_adaptive_avg_pool2d"), _pool),
}
