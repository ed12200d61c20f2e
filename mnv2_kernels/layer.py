"""One layer of a network: what it computes, whatever its image, its weights' format and its device.

``str(layer)`` is the text that crosses to the operators; ``csrc/core/layer.h`` has the same fields, names and
text, and the checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final, Literal, get_args

from . import _native
from .shapes import (
    KERNEL_SIZE,
    SYMMETRIC_PADDING,
    BlockShape,
    ClassifierShape,
    HeadShape,
    LayerShape,
    Padding,
    StemShape,
    same_padding_2d,
)

LayerKind = Literal["stem", "block", "head_pool", "linear"]
KINDS: tuple[LayerKind, ...] = get_args(LayerKind)
# Tensors that mnv2::pack takes for a layer: weight, scale and bias of each convolution; a linear layer and
# the two of a gate have no scale. A stem that reads bytes has a table behind them.
# Those of int8 arithmetic: csrc/torch/int8/ops.h.
_TENSORS: dict[LayerKind, int] = {"stem": 3, "block": 9, "head_pool": 3, "linear": 2}
_GATE_TENSORS = 4
_TABLE_TENSORS = 1

# The operators of one layer, each with the function of reference.py that computes the same.
LAYER_OPS: dict[str, LayerKind] = {
    "fused_block": "block",
    "stem": "stem",
    "head_pool": "head_pool",
    "linear": "linear",
}

SAME: Final = "same"  # a padding
OF_KIND: Final = ""  # an activation: the kind's default
SEPARATOR = "; "


@dataclass(frozen=True)
class Layer:
    """Fields that a kind does not have keep their defaults.

    ``expanded_channels`` is 0 but in blocks; without ``expand`` it equals ``in_channels``. ``kernel`` is of
    the depthwise convolution or the stem: 3, 5 or 7. ``padding`` is (top, left, bottom, right), each up to
    half of it, or "same": TensorFlow's SAME, which depends on the image. ``activation`` is by default "none"
    of a linear layer, else "relu6"; ``depthwise_activation`` is None where it is ``activation``, too.
    ``squeezed_channels`` is 0 without a gate. ``arithmetic`` is "float" (of the tensors' dtype) or "int8". A
    stem whose ``bytes_as`` is "float32", "float16" or "bfloat16" reads uint8 and takes from a table what each
    byte stands for, in that dtype, which is the result's.
    """

    kind: LayerKind
    in_channels: int
    out_channels: int
    expanded_channels: int = 0
    kernel: int = KERNEL_SIZE
    stride: int = 1
    padding: Padding | Literal["same"] = SYMMETRIC_PADDING
    activation: str = OF_KIND
    depthwise_activation: str | None = None
    project_activation: str = "none"
    expand: bool = True
    squeezed_channels: int = 0
    squeeze_activation: str = "relu"
    excite_activation: str = "sigmoid"
    residual: bool = False
    arithmetic: str = "float"
    bytes_as: str | None = None

    def __post_init__(self) -> None:
        """Gives equal layers equal fields."""
        if self.activation == OF_KIND:
            object.__setattr__(self, "activation", _default_activation(self.kind))
        if self.depthwise_activation == self.activation:
            object.__setattr__(self, "depthwise_activation", None)

    @property
    def tensors(self) -> int:
        """How many mnv2::pack takes for this layer of floats."""
        gate = _GATE_TENSORS if self.squeezed_channels else 0
        table = _TABLE_TENSORS if self.bytes_as else 0
        return _TENSORS[self.kind] + gate + table

    def __str__(self) -> str:
        return " ".join([self.kind, *(f"{name}={_text(value)}" for name, value in self._options())])

    def _options(self) -> Iterator[tuple[str, Any]]:
        """What the text says: the channels, and what differs from its default, in the order of the text."""
        yield "in_channels", self.in_channels
        if self.kind == "block":
            yield "expanded_channels", self.expanded_channels
        yield "out_channels", self.out_channels
        for name, default in _OPTIONS.items():
            value = getattr(self, name)
            if value != (_default_activation(self.kind) if name == "activation" else default):
                yield name, value

    @classmethod
    def parse(cls, text: str) -> Layer:
        """The layer of a text, as the C++ library reads it. Raises ValueError that names what is wrong."""
        layers = parse_layers(text)
        if len(layers) != 1:
            raise ValueError(f"layers: expected one layer, got {len(layers)}")
        return layers[0]

    def shape(self, batch: int, height: int, width: int) -> LayerShape:
        """The layer on images of height x width."""
        image = (batch, height, width)
        if self.kind == "linear":
            return ClassifierShape(batch, self.in_channels, self.out_channels, self.activation)
        if self.kind == "head_pool":
            return HeadShape(*image, self.in_channels, self.out_channels, self.activation)
        window = (self.stride, self.padding_for(height, width), self.activation)
        if self.kind == "stem":
            return StemShape(*image, self.in_channels, self.out_channels, *window, self.kernel, self.bytes_as)
        channels = (self.in_channels, self.expanded_channels, self.out_channels)
        options = {name: getattr(self, name) for name in _BLOCK_OPTIONS}
        return BlockShape(*image, *channels, *window, **options)

    def padding_for(self, height: int, width: int) -> Padding:
        """(top, left, bottom, right) of the window on images of height x width."""
        if self.padding != SAME:
            return self.padding
        return same_padding_2d(height, width, self.stride, self.kernel)


def _default_activation(kind: LayerKind) -> str:
    return "none" if kind == "linear" else "relu6"


# What is no channel count, with its default. Made here, as torch.compile traces no dataclasses.fields.
_OPTIONS = {field.name: field.default for field in fields(Layer)[4:]}
_GATE_OPTIONS = ("squeezed_channels", "squeeze_activation", "excite_activation")
_BLOCK_OPTIONS = (
    "project_activation",
    "residual",
    "expand",
    "kernel",
    "depthwise_activation",
    *_GATE_OPTIONS,
)


def layer_of(shape: LayerShape) -> Layer:
    """The layer of a shape, without its image."""
    if isinstance(shape, ClassifierShape):
        return Layer("linear", shape.in_features, shape.out_features, activation=shape.activation)
    kinds: dict[type, LayerKind] = {StemShape: "stem", BlockShape: "block", HeadShape: "head_pool"}
    names = ("in_channels", "out_channels", "expanded_channels", *_OPTIONS)
    return Layer(kinds[type(shape)], **{name: getattr(shape, name) for name in names if hasattr(shape, name)})


def layer_of_call(
    op: str, weights: Sequence[Sequence[int] | None], in_channels: int | None = None, **options: Any
) -> Layer:
    """The layer that torch.ops.mnv2's ``op`` computes with weights of these shapes; unchecked.

    ``options`` are the operator's. ``in_channels`` of the image, by default what the weights take.
    """
    weights, gate = weights[:9], weights[9:]
    first, project = weights[0], weights[::3][-1]
    if op == "stem":
        options = {"stride": 2, **options}
    if in_channels is None:
        in_channels = _size(weights[3], 0) if first is None else _size(first, 1)
    if op == "fused_block":
        options["expand"] = first is not None
        options["expanded_channels"] = in_channels if first is None else _size(weights[3], 0)
        options["squeezed_channels"] = _size(gate[0], 0) if gate else 0
    window = weights[3] if op == "fused_block" else first
    if op in ("fused_block", "stem") and window is not None and len(window) == 4:
        options["kernel"] = window[3]
    if "padding" in options:
        options["padding"] = tuple(options["padding"])
    return Layer(LAYER_OPS[op], in_channels, _size(project, 0), **options)


def _size(shape: Sequence[int] | None, dim: int) -> int:
    return shape[dim] if shape is not None and len(shape) > dim else 0


def block_arguments(shape: BlockShape) -> dict[str, Any]:
    """What ``_native`` takes for a block: its layer and image."""
    image = {"batch": shape.batch, "height": shape.height, "width": shape.width}
    return {"layer": str(layer_of(shape)), **image}


def is_chain(layers: Sequence[Layer]) -> bool:
    """Whether kernels compute these layers in one call: a stem, blocks, a head, a linear layer, or a part."""
    return len(layers) > 0 and all(map(_may_follow, layers, layers[1:]))


def _may_follow(before: Layer, layer: Layer) -> bool:
    behind = {
        "stem": (),
        "block": ("stem", "block"),
        "head_pool": ("stem", "block"),
        "linear": ("head_pool", "linear"),
    }
    fits = before.out_channels == layer.in_channels and before.arithmetic == layer.arithmetic
    return before.kind in behind[layer.kind] and fits


def join_layers(layers: Iterable[Layer]) -> str:
    """The text of a network's layers, first to last."""
    return SEPARATOR.join(map(str, layers))


@lru_cache(maxsize=64)
def parse_layers(text: str) -> tuple[Layer, ...]:
    """The layers of a text, as the C++ library reads it. Raises ValueError that names what is wrong."""
    canonical = _native.canonical_layers(text)
    return tuple(map(_read, canonical.split(SEPARATOR))) if canonical else ()


def _read(canonical: str) -> Layer:
    kind, *options = canonical.split()
    fields: dict[str, Any] = {name: _value(value) for name, value in (each.split("=") for each in options)}
    return Layer(**{"kind": kind, **fields})


def layer_shapes(layers: Sequence[Layer], batch: int, height: int, width: int) -> Iterator[LayerShape]:
    """Layers one after the other, for images of height x width.

    Raises ValueError where an image does not fill the window of every layer.
    """
    for layer in layers:
        if height < 1 or width < 1:
            raise ValueError("expected an image that fills the window of every layer")
        shape = layer.shape(batch, height, width)
        yield shape
        if not isinstance(shape, ClassifierShape):
            height, width = shape.out_height, shape.out_width


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return ",".join(str(int(each)) for each in value) if isinstance(value, Sequence) else str(int(value))


def _value(text: str) -> Any:
    if "," in text:
        return tuple(map(int, text.split(",")))
    return int(text) if text.isdecimal() else text
