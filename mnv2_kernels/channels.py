"""A MobileNetV2 by its channels, which are all that a file of weights tells of a network's structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .layer_names import LayerNames
from .shapes import PUBLISHED_WIDTHS, mobilenet_v2

STANDARD = mobilenet_v2()
# A file does not tell strides; these are everybody's.
STEM_STRIDE = STANDARD.stem.stride
STRIDES = tuple(block.stride for block in STANDARD.blocks)

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class BlockChannels:
    """Channels of an inverted residual; ``expanded`` is None where it has no expand."""

    expanded: int | None
    out: int


@dataclass(frozen=True)
class Channels:
    """Channels of a network of 17 blocks with the usual strides."""

    image: int
    stem: int
    blocks: tuple[BlockChannels, ...]
    head: int
    classes: int


def of_width(width_mult: float, classes: int) -> Channels:
    """The channels of a published width."""
    shape = mobilenet_v2(width_mult, num_classes=classes)
    blocks = (
        BlockChannels(block.expanded_channels if block.expand else None, block.out_channels)
        for block in shape.blocks
    )
    return Channels(
        shape.stem.in_channels, shape.stem.out_channels, tuple(blocks), shape.head.out_channels, classes
    )


def of_kernels(shapes: Shapes, layers: Sequence[LayerNames], classes: int) -> Channels:
    """The channels that a file's convolutions have, whatever width multiplier and rounding gave them.

    Args:
        shapes: of the file's weights by name, each convolution's (output, input, height, width).
        layers: the file's names of the network's layers, first to last.
        classes: the classifier's outputs.

    Where a convolution is missing, or is none or empty, the channels are those of the published width that
    has the head's input channels: good for saying what differs.
    """
    kernels = [shapes.get(f"{layer.conv}.weight", ()) for layer in layers]
    if any(len(kernel) != 4 or 0 in kernel for kernel in kernels):
        return of_width(_width(kernels[-1]), classes)
    stem, *inner, head = (kernel[0] for kernel in kernels)
    blocks = []
    for parts in _blocks(inner, has_expand=len(inner) % 3 == 0):
        blocks.append(BlockChannels(parts[0] if len(parts) == 3 else None, parts[-1]))
    return Channels(kernels[0][1], stem, tuple(blocks), head, classes)


def _blocks(channels: list[int], has_expand: bool) -> list[list[int]]:
    """Output channels by block: three each, or two in the first block, which usually has no expand."""
    first = 3 if has_expand else 2
    rest = channels[first:]
    return [channels[:first], *(rest[index : index + 3] for index in range(0, len(rest), 3))]


def _width(head: tuple[int, ...]) -> float:
    """The published multiplier that gives the head's input channels; 1 where none does."""
    fitting = (width for width in PUBLISHED_WIDTHS if (mobilenet_v2(width).head.in_channels,) == head[1:2])
    return next(fitting, PUBLISHED_WIDTHS[0])
