"""What a kernel computes, as a function in torch: a backward through the kernel runs it.

A function is fixed when weights are packed. What happens to its modules afterwards (a mode, a stride, a hook)
does not reach it, and it updates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

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
    held: dict[str, Tensor | None] = {"weight": conv.weight, "bias": conv.bias}
    eps = None
    if type(norm) is not nn.Identity:
        eps = norm.eps
        held |= {"mean": norm.running_mean, "variance": norm.running_var}
        held |= {"gamma": norm.weight, "beta": norm.bias}
    given = {name: tensor for name, tensor in held.items() if tensor is not None}
    names = tuple(given)
    same = (conv.kernel_size, conv.stride, conv.dilation) if isinstance(conv, SamePaddedConv2d) else None
    window: Any = (conv.stride, conv.padding if same is None else (0, 0), conv.dilation, conv.groups)
    activate = _ACTIVATIONS[layer.activation_name]

    def function(x: Tensor, *tensors: Tensor) -> Tensor:
        named = dict(zip(names, tensors, strict=True))
        if same is not None:
            x = pad_same(x, *same)
        y = F.conv2d(x, named["weight"], named.get("bias"), *window)
        if eps is not None:
            y = F.batch_norm(
                y, named["mean"], named["variance"], named.get("gamma"), named.get("beta"), eps=eps
            )
        return activate(y)

    return LayerFunction(function, tuple(given.values()))


# In place, as torchvision's, where the backward can do with the result: neither a convolution nor a norm in
# eval mode needs its own.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": partial(F.relu, inplace=True),
    "relu6": partial(F.relu6, inplace=True),
    "hardswish": F.hardswish,
    "silu": F.silu,
}


def block_function(layers: Sequence[EagerLayer], residual: bool) -> LayerFunction:
    """Layers one after another, and the shortcut around them."""
    body = chained([layer_function(layer) for layer in layers])
    if not residual:
        return body
    return LayerFunction(lambda x, *tensors: x + body.function(x, *tensors), body.tensors)


def head_function(layer: EagerLayer) -> LayerFunction:
    """A layer and the mean of its pixels."""
    return chained([layer_function(layer), LayerFunction(global_average_pool, ())])


def linear_function(linear: nn.Linear) -> LayerFunction:
    tensors = (linear.weight,) if linear.bias is None else (linear.weight, linear.bias)
    return LayerFunction(F.linear, tensors)


def chained(parts: Sequence[LayerFunction]) -> LayerFunction:
    """One after another."""
    steps = [(part.function, len(part.tensors)) for part in parts]

    def function(x: Tensor, *tensors: Tensor) -> Tensor:
        left = iter(tensors)
        for step, count in steps:
            x = step(x, *islice(left, count))
        return x

    return LayerFunction(function, tuple(tensor for part in parts for tensor in part.tensors))
