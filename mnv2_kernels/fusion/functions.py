"""What a kernel computes, as a function in torch: a backward through the kernel runs it.

A function is fixed when weights are packed. What happens to its modules afterwards (a mode, a stride, a hook)
does not reach it, and it updates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from .eager_layers import EagerLayer, SamePaddedConv2d, global_average_pool, pad_same


class LayerFunction(NamedTuple):
    """``function(x, *tensors)``, where ``tensors`` are all parameters and buffers of the layers."""

    function: Callable[..., Tensor]
    tensors: tuple[Tensor, ...]


def layer_function(layer: EagerLayer) -> LayerFunction:
    """Convolution, norm in eval mode and activation."""
    conv, norm = layer.conv, layer.norm
    tensors: dict[str, Tensor | None] = {"weight": conv.weight, "bias": conv.bias}
    eps = None
    if type(norm) is not nn.Identity:
        eps = norm.eps
        tensors |= {"mean": norm.running_mean, "variance": norm.running_var}
        tensors |= {"gamma": norm.weight, "beta": norm.bias}
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    window = (conv.kernel_size, conv.stride, conv.dilation) if isinstance(conv, SamePaddedConv2d) else None
    function = partial(
        _layer,
        names=tuple(given),
        same_window=window,
        padding=conv.padding if window is None else (0, 0),
        stride=conv.stride,
        dilation=conv.dilation,
        groups=conv.groups,
        eps=eps,
        activate=_ACTIVATIONS[layer.activation_name],
    )
    return LayerFunction(function, tuple(given.values()))


def block_function(layers: Sequence[EagerLayer], residual: bool) -> LayerFunction:
    """Layers one after another, and the shortcut around them."""
    body = chained([layer_function(layer) for layer in layers])
    return LayerFunction(partial(_add_shortcut, body.function), body.tensors) if residual else body


def head_function(layer: EagerLayer) -> LayerFunction:
    """A layer and the mean of its pixels."""
    return chained([layer_function(layer), LayerFunction(global_average_pool, ())])


def linear_function(linear: nn.Linear) -> LayerFunction:
    tensors = (linear.weight,) if linear.bias is None else (linear.weight, linear.bias)
    return LayerFunction(F.linear, tensors)


def chained(parts: Sequence[LayerFunction]) -> LayerFunction:
    """One after another."""
    steps = [(part.function, len(part.tensors)) for part in parts]
    return LayerFunction(partial(_chain, steps), tuple(tensor for part in parts for tensor in part.tensors))


def _layer(
    x: Tensor,
    *tensors: Tensor,
    names: tuple[str, ...],
    same_window: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None,
    padding: str | tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    eps: float | None,
    activate: Callable[[Tensor], Tensor],
) -> Tensor:
    given = dict(zip(names, tensors, strict=True))
    if same_window is not None:
        x = pad_same(x, *same_window)
    y = F.conv2d(x, given["weight"], given.get("bias"), stride, padding, dilation, groups)
    if eps is not None:
        y = F.batch_norm(y, given["mean"], given["variance"], given.get("gamma"), given.get("beta"), eps=eps)
    return activate(y)


# In place, as torchvision's: neither a convolution nor a norm in eval mode needs its result in its backward.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": partial(F.relu, inplace=True),
    "relu6": partial(F.relu6, inplace=True),
}


def _add_shortcut(body: Callable[..., Tensor], x: Tensor, *tensors: Tensor) -> Tensor:
    return x + body(x, *tensors)


def _chain(steps: Sequence[tuple[Callable[..., Tensor], int]], x: Tensor, *tensors: Tensor) -> Tensor:
    start = 0
    for function, count in steps:
        x = function(x, *tensors[start : start + count])
        start += count
    return x
