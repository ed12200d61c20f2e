"""The layers of a network in words: what mnv2::network_layers is told beside their packed weights.

``stem in_channels=3 out_channels=32 stride=2 padding=same activation=relu6; block in_channels=32 ...``: each
by its kind and the options of its packed operator. csrc/torch/layer_description.h reads them, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .shapes import BlockShape, ClassifierShape, HeadShape, LayerShape, StemShape, same_padding_2d

SHAPES: dict[str, type[LayerShape]] = {
    "stem": StemShape,
    "block": BlockShape,
    "head_pool": HeadShape,
    "linear": ClassifierShape,
}
SAME = "same"  # of a padding
SEPARATOR = "; "


def describe_layer(
    kind: str, channels: Mapping[str, Any], options: Mapping[str, Any], joined: bool = False
) -> str:
    """A layer by its kind, one of SHAPES, and the arguments of its packed operator.

    A convolution without a padding has SAME. ``joined``, of a stem: computed by one kernel with the block
    behind it, and packed with it.
    """
    values = {**channels, **options}
    if "stride" in values:
        values.setdefault("padding", SAME)
    if joined:
        values["joined"] = True
    return " ".join([kind, *(f"{name}={_text(value)}" for name, value in values.items())])


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return ",".join(str(int(each)) for each in value) if isinstance(value, Sequence) else str(int(value))


def read_layer(words: str) -> tuple[str, dict[str, Any]]:
    """Kind and arguments of a layer; flags are integers."""
    kind, *options = words.split()
    return kind, {name: _value(text) for name, text in (option.split("=") for option in options)}


def _value(text: str) -> Any:
    if "," in text:
        return tuple(map(int, text.split(",")))
    return int(text) if text.isdecimal() else text


def result_channels(layers: str) -> int:
    """Channels of a network's result."""
    _, options = read_layer(layers.split(SEPARATOR)[-1])
    return options["out_features" if "out_features" in options else "out_channels"]


def layer_shapes(layers: str, x: Sequence[int]) -> Iterator[LayerShape]:
    """The shapes of a network's layers for images of shape (N, C, H, W)."""
    batch, _, height, width = x
    for words in layers.split(SEPARATOR):
        kind, options = read_layer(words)
        options.pop("joined", None)
        if options.get("padding") == SAME:
            options["padding"] = same_padding_2d(height, width, options["stride"])
        if kind == "linear":
            yield ClassifierShape(batch, **options)
            continue
        shape = SHAPES[kind](batch, height, width, **options)
        yield shape
        height, width = shape.out_height, shape.out_width
