"""From the values of a call back to its layers: convolutions with what belongs to them, and steps between."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..fusion.eager_layers import clamp_name
from ..fusion.own_code import NotFusable
from .recording import Value

Sides = tuple[int, int, int, int]  # top, left, bottom, right


@dataclass(eq=False)
class Convolution:
    """A convolution or linear layer, what scales and shifts its channels, and an activation.

    ``value`` is its own result, without the rest. ``same``: its padding depends on the size of the image
    as TensorFlow's SAME does. ``scale`` and ``shift`` are float64.
    """

    value: Value
    weight: Tensor
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    padding: Sides = (0, 0, 0, 0)
    size: tuple[int, ...] = ()  # of the image before it, unpadded
    scale: Tensor | None = None
    shift: Tensor | None = None
    activation: str = "none"
    same: bool = False

    @property
    def kind(self) -> str:
        """pointwise, depthwise, grouped, dense or linear."""
        out_channels, in_channels, *kernel = self.weight.shape
        if not kernel:
            return "linear"
        if self.groups != 1:
            return "depthwise" if self.groups == out_channels and in_channels == 1 else "grouped"
        return "pointwise" if [*kernel, *self.stride] == [1] * 4 and not any(self.padding) else "dense"

    def affine(self, scale: Tensor | None, shift: Tensor | None) -> None:
        if scale is not None:
            self.scale = scale if self.scale is None else self.scale * scale
            self.shift = None if self.shift is None else self.shift * scale
        if shift is not None:
            self.shift = shift if self.shift is None else self.shift + shift

    @property
    def vectors(self) -> tuple[Tensor | None, Tensor | None]:
        """Scale and shift as the operators take them: the weight stays as it is, without another rounding."""
        scale, shift = (None if each is None else each.float() for each in (self.scale, self.shift))
        return scale, shift


@dataclass(eq=False)
class Step:
    """Something else: an affine, activation, pad, add, gate, pool or change of dimensions.

    ``detail`` is a scale and a shift, a name, sides, the other summand, the steps from the mean to the
    factor, or whether the pool keeps its dimensions. After ``join`` an add says how many items back its
    summand is.
    """

    kind: str
    detail: Any = None


Item = Convolution | Step


@dataclass(frozen=True)
class Found:
    """An item, and the values before and behind it."""

    before: Value
    behind: Value
    item: Item


# A value's reader says which other value it was made of, and by what; by nothing, where it is the same.
Made = tuple[Value, Item | None]
Reader = Callable[[Value], Made | None]
_READERS: dict[str, Reader] = {}

_WITHOUT_EFFECT = {"memory_format", "layout", "device", "pin_memory", "non_blocking"}


def found_between(x: Value, y: Value) -> list[Found]:
    """The items from x to y. Raises NotFusable where it is no chain of known ones.

    It reads backwards: so it meets every use of a value, and each has to be accounted for.
    """
    found: list[Found] = []
    value = y
    while value is not x:
        known = not {*value.keywords} - _WITHOUT_EFFECT
        made = _READERS.get(_operator(value), lambda _: None)(value) if known else None
        if made is None or not made[0].varies:
            raise NotFusable(f"it uses {_operator(value)}")
        before, item = made
        if item is not None:
            found.append(Found(before, value, item))
        value = before
    return found[::-1]


def _operator(value: Value) -> str:
    return value.args[0].op if value.op == "item" else value.op


def _reads(*operators: str) -> Callable[[Reader], Reader]:
    def register(reader: Reader) -> Reader:
        _READERS.update(dict.fromkeys(operators, reader))
        return reader

    return register


@_reads("convolution")
def _convolution(value: Value) -> Made | None:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = value.args
    if transposed or len(x.shape) != 4:
        return None
    (top, left), stride, dilation = (tuple(each) * (3 - len(each)) for each in (padding, stride, dilation))
    kernel = weight.constant().to(weight.tensor.dtype)
    layer = Convolution(value, kernel, stride, dilation, groups, (top, left, top, left), x.shape[2:])
    layer.affine(None, None if bias is None else bias.constant().double())
    return x, layer


@_reads("addmm", "mm")
def _linear(value: Value) -> Made | None:
    *bias, x, transposed = value.args
    if transposed.varies or not x.varies:
        return None
    weight = transposed.constant().to(transposed.tensor.dtype)
    layer = Convolution(value, weight.t())
    layer.affine(None, bias[0].constant().double() if bias else None)
    return x, layer


@_reads("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")
def _batch_norm(value: Value) -> Made | None:
    made, index = value.args
    if index:
        return None
    x, *vectors, in_training, _, eps = made.args[:8]
    weight, bias, mean, variance = (None if each is None else each.constant() for each in vectors)
    if in_training or mean is None or variance is None:
        raise NotFusable("a norm uses the batch's statistics")
    return x, Step("affine", norm_affine(weight, bias, mean, variance, eps))


def norm_affine(
    weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """The scale and the shift, float64 of (C,), that a norm of these vectors is in eval mode."""
    scale = (1.0 if weight is None else weight.double()) / (variance.double() + eps).sqrt()
    return scale, (0.0 if bias is None else bias.double()) - mean.double() * scale


_ACTIVATIONS = (
    "relu relu6 hardswish silu gelu mish elu celu selu leaky_relu hardsigmoid sigmoid tanh softplus"
)


@_reads(*_ACTIVATIONS.split())
def _activation(value: Value) -> Made:
    plain = all(not isinstance(each, Value) for each in value.args[1:])
    name = value.op if plain else f"{value.op} with parameters"
    return value.args[0], Step("activation", name)


@_reads("_prelu_kernel")
def _prelu(value: Value) -> Made:
    return value.args[0], Step("activation", "prelu")


@_reads("hardtanh", "clamp", "clamp_min")
def _clamp(value: Value) -> Made | None:
    x, *limits = value.args
    if any(isinstance(each, Value) for each in limits):
        return None
    low, high = (*(limits or (-1, 1)), None)[:2]
    return x, Step("activation", clamp_name(low, high))


@_reads("constant_pad_nd")
def _pad(value: Value) -> Made | None:
    x, sides, *filling = value.args
    left, right, top, bottom, *more = [*sides, 0, 0, 0, 0][: max(4, len(sides))]
    return None if any(more) or any(filling) else (x, Step("pad", (top, left, bottom, right)))


@_reads("view", "_unsafe_view", "squeeze", "unsqueeze", "alias", "clone", "_to_copy", "contiguous")
def _same_or_flatter(value: Value) -> Made | None:
    x = value.args[0]
    if value.shape == x.shape:
        return x, None
    return (
        (x, Step("reshape")) if (*value.shape, 1, 1) == x.shape or (*x.shape, 1, 1) == value.shape else None
    )


@_reads("expand")
def _expand(value: Value) -> Made | None:
    """A factor of a channel for every pixel, as a product takes it without being told."""
    x = value.args[0]
    return (x, None) if (*value.shape[:2], 1, 1) == x.shape else None


@_reads("as_strided")
def _single_pixel(value: Value) -> Made | None:
    """How the mean of a channels_last image stays channels_last."""
    x, sizes, strides, *_ = value.args
    return (x, None) if tuple(sizes) == x.shape and sizes[2:] == [1, 1] and strides[1] == 1 else None


@_reads("mean", "_adaptive_avg_pool2d", "avg_pool2d")
def _pool(value: Value) -> Made | None:
    image = _pooled(value)
    return None if image is None else (image, Step("pool", len(value.shape) == 4))


def _pooled(value: Value) -> Value | None:
    """The value whose mean over all pixels this is."""
    if value.op not in ("mean", "_adaptive_avg_pool2d", "avg_pool2d") or len(value.args) < 2:
        return None
    x, window = value.args[0], [*value.args[1]]
    if value.op == "mean":
        if x.op == "mean" and (window, [*x.args[1]], len(x.shape)) == ([2], [3], 3):
            return x.args[0]
        return x if len(x.shape) == 4 and sorted(dim % 4 for dim in window) == [2, 3] else None
    return x if window == ([1, 1] if value.op == "_adaptive_avg_pool2d" else [*x.shape[2:]]) else None


@_reads("add")
def _add(value: Value) -> Made | None:
    varying = [each for each in value.args if isinstance(each, Value) and each.varies]
    if len(varying) == 1:
        return _channelwise(value, *varying)
    earlier, later = sorted(varying, key=lambda each: each.order)
    return later, Step("add", earlier)


@_reads("mul", "div")
def _product(value: Value) -> Made | None:
    varying = [each for each in value.args if isinstance(each, Value) and each.varies]
    if len(varying) == 1:
        return _sixth_of(value) or _channelwise(value, *varying)
    if value.op == "div":
        return None
    base, factor = sorted(varying, key=lambda each: each.order)
    if factor.op in ("sigmoid", "hardsigmoid") and factor.args[0] is base:
        return base, Step("activation", {"sigmoid": "silu", "hardsigmoid": "hardswish"}[factor.op])
    if _is_relu6_of_3_more(_sixth(factor), base):
        return base, Step("activation", "hardswish")
    return _gate(base, factor) or _gate(factor, base)


def _sixth_of(value: Value) -> Made | None:
    """x * relu6(x + 3) / 6 and relu6(x + 3) / 6."""
    whole = _sixth(value)
    if whole is None:
        return None
    pairs = (whole.args, whole.args[::-1]) if whole.op == "mul" else ()
    for base, factor in pairs:
        if _is_relu6_of_3_more(factor, base):
            return base, Step("activation", "hardswish")
    three_more = whole.args[0] if whole.args else None
    base = three_more.args[0] if isinstance(three_more, Value) and three_more.args else None
    if not isinstance(base, Value) or not _is_relu6_of_3_more(whole, base):
        return None
    return base, Step("activation", "hardsigmoid")


def _sixth(value: Value) -> Value | None:
    """The value of which this is a sixth."""
    if value.op not in ("mul", "div") or not isinstance(value.args[1], (int, float)):
        return None
    factor = value.args[1] if value.op == "mul" else 1 / (value.args[1] or math.inf)
    return value.args[0] if math.isclose(factor, 1 / 6, rel_tol=1e-6) else None


def _is_relu6_of_3_more(value: Any, base: Any) -> bool:
    if not isinstance(value, Value) or value.op not in ("hardtanh", "clamp") or value.args[1:] != (0, 6):
        return False
    return value.args[0].op == "add" and value.args[0].args[:2] == (base, 3)


def _channelwise(value: Value, x: Value) -> Made | None:
    """x * constant or x + constant, as norms of frozen statistics and scales of a layer are spelled."""
    if len(x.shape) not in (2, 4) or len(value.args) != 2:
        return None
    other = value.args[1] if value.args[0] is x else value.args[0]
    channels = x.shape[1]
    if value.op == "div" and value.args[0] is not x:
        return None
    if not isinstance(other, Value):
        vector = torch.full((channels,), other, dtype=torch.float64)
    else:
        vector = other.constant().double()
        trailing = len(x.shape) - 2
        if vector.numel() == 1:
            vector = vector.reshape(1).expand(channels)
        elif (
            vector.numel() != channels or vector.dim() <= trailing or vector.shape[-1 - trailing] != channels
        ):
            return None
    vector = vector.reshape(-1) if value.op != "div" else 1 / vector.reshape(-1)
    return x, Step("affine", (None, vector) if value.op == "add" else (vector, None))


def _gate(base: Value, factor: Value) -> Made | None:
    """base times a factor of its channels' means, that is what squeeze-and-excite does."""
    if len(factor.shape) != 4 or (factor.shape[2:] != (1, 1) and factor.op != "expand"):
        return None
    try:
        return base, Step("gate", join(found_between(base, factor)))
    except NotFusable:
        return None


def join(found: list[Found]) -> list[Item]:
    """Convolutions with what belongs to them. What joins an item is left out of the list."""
    return [each.item for each in joined(found)]


@dataclass
class Joined:
    """An item with all that belongs to it: the values around it, and its first and last of ``found``."""

    before: Value
    behind: Value
    item: Item
    first: int
    last: int


def joined(found: list[Found]) -> list[Joined]:
    items: list[Joined] = []
    padded: tuple[Value, Sides, int] | None = None
    for index, each in enumerate(found):
        item, last = each.item, items[-1].item if items else None
        is_open = isinstance(last, Convolution) and last.activation == "none" and padded is None
        if isinstance(item, Step) and item.kind == "pad":
            sides = item.detail if padded is None else _sum(padded[1], item.detail)
            padded = (each.before, sides, index) if padded is None else (padded[0], sides, padded[2])
        elif isinstance(item, Step) and item.kind in ("affine", "activation") and is_open:
            assert isinstance(last, Convolution)
            if item.kind == "affine":
                last.affine(*item.detail)
            else:
                last.activation = item.detail
            items[-1].behind, items[-1].last = each.behind, index
        else:
            before, first = each.before, index
            if padded is not None:
                if not isinstance(item, Convolution):
                    raise NotFusable("it pads before something else than a convolution")
                before, sides, first = padded
                item.padding, item.size = _sum(item.padding, sides), before.shape[2:]
                padded = None
            if isinstance(item, Step) and item.kind == "add":
                item = Step("add", _steps_back(items, item.detail))
            items.append(Joined(before, each.behind, item, first, index))
    if padded is not None:
        raise NotFusable("it pads what it returns")
    return items


def _sum(a: Sides, b: Sides) -> Sides:
    top, left, bottom, right = (x + y for x, y in zip(a, b, strict=True))
    return top, left, bottom, right


def _steps_back(items: list[Joined], summand: Value) -> int | None:
    return next((len(items) - index for index, each in enumerate(items) if each.before is summand), None)


def form(items: list[Item]) -> list[object]:
    """What has to be the same for every size of an image."""
    return [
        (each.kind, each.stride, each.dilation, each.activation, each.weight.shape)
        if isinstance(each, Convolution)
        else (each.kind, form(each.detail) if each.kind == "gate" else _size_free(each))
        for each in items
    ]


def _size_free(step: Step) -> object:
    if step.kind == "affine":
        return [None if each is None else each.tolist() for each in step.detail]
    return None if step.kind == "pad" else step.detail
