"""From a graph with rounding in it to a network's state: which convolutions make a layer, of which integers.

The graph is followed backwards, from the logits to the image. Integers of weights, scales and zero points are
taken as they are. What is rounded twice there and once here: a project's result in front of its shortcut, a
convolution's in front of its activation, the logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ...layer import SAME, Layer, join_layers, parse_layers
from ...shapes import KERNEL_SIZE, Padding
from ..reference_int8 import NO_PADDING
from ..rounding import RELU6, Grid, RoundedWeights
from ..state import STATE_LAYERS, STEM_NAME, convolution_shapes, layer_names, layers_tensor
from .graph import Add, Clamp, Convolve, Dequantize, Image, Node, Pad, Pool, Quantize, Steps, refused

POINT, WINDOW = (1, 1), (KERNEL_SIZE, KERNEL_SIZE)

KINDS = {
    Image: "the image",
    Steps: "the image",
    Quantize: "rounding to integers",
    Dequantize: "stored integers",
    Convolve: "a convolution",
    Clamp: "an activation",
    Add: "a sum",
    Pool: "a mean",
    Pad: "a padding",
}


@dataclass(frozen=True)
class Read:
    """Stored bytes as a layer reads them, with zeros around them; ``stored`` is None for images of bytes."""

    name: str
    stored: Quantize | None
    grid: Grid
    padding: Padding

    @property
    def writer(self) -> Quantize:
        if self.stored is None:
            raise refused(self.name, "it reads the image, where results of a layer are expected")
        return self.stored


@dataclass(frozen=True)
class Step:
    """A convolution between what it reads and what it stores, None for logits."""

    conv: Convolve
    read: Read
    stored: Quantize | None = None


@dataclass(frozen=True)
class Part:
    """A layer with its convolutions, first to last."""

    layer: Layer
    steps: Sequence[Step]
    shortcut: Read | None = None
    pool: Step | None = None


def assemble(output: Node, declared: Sequence[Layer] = ()) -> dict[str, Tensor]:
    """The state of the network whose logits are ``output``.

    ``declared`` are the layers as the file describes them. Their paddings and activations count: a graph for
    images of one size does not show SAME padding.

    Raises ValueError, naming the node, for what is no MobileNetV2 or has no equal in our integers.
    """
    parts = _parts(output)
    if declared:
        parts = _described(parts, declared)
    layers = parse_layers(join_layers(part.layer for part in parts))
    image = _image_grid(parts[0])
    state = {STATE_LAYERS: layers_tensor(layers)}
    for name, part in zip(layer_names(layers), parts, strict=True):
        state |= {f"{name}.{field}": value for field, value in _tensors(part).items()}
    stem = {"image_scale": image.scale, "image_zero_point": image.zero_point}
    stem["pad"] = _surroundings(parts[0].steps[0].read, image)
    return state | {f"{STEM_NAME}.{field}": value for field, value in stem.items()}


def _surroundings(read: Read, image: Grid) -> Tensor:
    """The bytes around an image: its own zeros if zeros were there before it became bytes."""
    in_steps = read.stored is not None and isinstance(read.stored.source, Steps)
    return image.pad if in_steps else _expanded(read.grid, len(image.scale)).pad


def _described(parts: Sequence[Part], declared: Sequence[Layer]) -> list[Part]:
    described = []
    for part, layer in zip(parts, declared, strict=False):
        found = replace(part.layer, padding=layer.padding, activation=layer.activation)
        if found != layer:
            raise ValueError(f"the file describes a layer {layer}, but its graph has {found}")
        described.append(replace(part, layer=layer))
    if len(parts) != len(declared):
        raise ValueError(f"the file describes {len(declared)} layers, but its graph has {len(parts)}")
    return described


# --- the layers, last to first ---


def _parts(output: Node) -> list[Part]:
    linear = _before_rounding(output)
    if not (isinstance(linear, Convolve) and linear.weight.dim() == 2):
        raise refused(linear.name, f"expected the linear layer that gives the logits, found {_kind(linear)}")
    pooled = _read(linear.source)
    parts = [Part(Layer("linear", *_channels(linear)), [Step(linear, pooled)])]
    pool = _before_rounding(pooled.writer.source)
    if not isinstance(pool, Pool):
        raise refused(pool.name, f"expected the mean over all pixels, found {_kind(pool)}")
    read = _read(pool.source)
    head = _step(read.writer)
    _check(head, head.conv.is_pointwise, "the head's 1x1 convolution")
    layer = Layer("head_pool", *_channels(head.conv), activation=_activation(head))
    # The pool's own step has the head's convolution, for its name.
    parts.append(Part(layer, [head], pool=Step(head.conv, read, pooled.writer)))
    while not _is_stem(stored := parts[-1].steps[0].read.writer):
        parts.append(_block(stored))
    return [_stem(stored), *parts[::-1]]


def _stem(stored: Quantize) -> Part:
    step = _step(stored)
    conv = step.conv
    layer = Layer(
        "stem", *_channels(conv), stride=conv.stride, padding=_padding(step), activation=_activation(step)
    )
    return Part(layer, [step])


def _block(stored: Quantize) -> Part:
    last = _before_rounding(stored.source)
    if not isinstance(last, Add):
        return _bottleneck(stored, last)
    for branch, other in ((last.left, last.right), (last.right, last.left)):
        project = _before_rounding(branch)
        if not (isinstance(other, Dequantize) and isinstance(project, Convolve) and _ends_block(project)):
            continue
        part, shortcut = _bottleneck(stored, project), _read(other)
        if part.steps[0].read.stored is shortcut.stored:
            return replace(part, layer=replace(part.layer, residual=True), shortcut=shortcut)
    raise refused(last.name, "expected the sum of a block's project and of what the block reads")


def _ends_block(project: Convolve) -> bool:
    stored = _read(project.source).stored
    conv = None if stored is None else _convolution(stored)
    return conv is not None and conv.is_depthwise


def _bottleneck(stored: Quantize, last: Node) -> Part:
    if isinstance(last, Clamp):
        raise refused(last.name, "a block's project has an activation, here it has none")
    if not isinstance(last, Convolve):
        raise refused(last.name, f"expected a block's project, found {_kind(last)}")
    project = Step(last, _read(last.source), stored)
    _check(project, last.is_pointwise, "a block's project, a 1x1 convolution,")
    depthwise = _step(project.read.writer)
    conv = depthwise.conv
    _check(depthwise, conv.is_depthwise and conv.weight.shape[2:] == WINDOW, "a 3x3 depthwise convolution")
    expand = _expand(depthwise.read.writer)
    steps = [depthwise, project] if expand is None else [expand, depthwise, project]
    # By saturation both clamp the same; ReLU6 is the one that says more.
    activation = max(_activation(step) for step in steps[:-1])
    layer = Layer(
        "block",
        conv.weight.shape[0] if expand is None else expand.conv.weight.shape[1],
        last.weight.shape[0],
        conv.weight.shape[0],
        stride=conv.stride,
        padding=_padding(depthwise),
        activation=activation,
        expand=expand is not None,
    )
    return Part(layer, steps)


def _expand(stored: Quantize) -> Step | None:
    """What stored the bytes that a depthwise convolution reads, if that is an expand: 1x1 and activated."""
    source, _ = _unclamped(stored)
    if not isinstance(source, Convolve):
        return None
    clamped = source is not _before_rounding(stored.source) or not stored.grid.zero_point.any()
    return _step(stored) if source.is_pointwise and clamped else None


def _is_stem(stored: Quantize) -> bool:
    conv = _convolution(stored)
    return conv is not None and conv.groups == 1 and conv.weight.shape[2:] == WINDOW


# --- nodes ---


def _before_rounding(node: Node) -> Node:
    """The node whose result is stored and read again, or itself."""
    while isinstance(node, Dequantize) and isinstance(node.source, Quantize):
        node = node.source.source
    return node


def _unclamped(stored: Quantize) -> tuple[Node, Clamp | None]:
    """What was stored, without its activation, and that."""
    node = _before_rounding(stored.source)
    return (_before_rounding(node.source), node) if isinstance(node, Clamp) else (node, None)


def _convolution(stored: Quantize) -> Convolve | None:
    node, _ = _unclamped(stored)
    return node if isinstance(node, Convolve) else None


def _step(stored: Quantize) -> Step:
    conv, _ = _unclamped(stored)
    if not isinstance(conv, Convolve):
        raise refused(conv.name, f"expected a convolution and its activation, found {_kind(conv)}")
    return Step(conv, _read(conv.source), stored)


def _read(node: Node) -> Read:
    """Bytes that are only padded, or rounded to the grid that they are on, are the same bytes."""
    name, grid, padding = node.name, None, NO_PADDING
    while True:
        if isinstance(node, Pad):
            padding, node = _added(padding, node.padding), node.source
            continue
        if not isinstance(node, Dequantize):
            raise refused(node.name, f"expected stored integers, found {_kind(node)} that is in float")
        grid = node.grid if grid is None else grid
        stored = node.source
        if isinstance(stored, Image):
            return Read(name, None, grid, padding)
        if not isinstance(stored, Quantize):
            raise refused(name, f"expected stored integers, found {_kind(stored)} that is in float")
        source = stored.source
        inner = source.source if isinstance(source, Pad) else source
        if not (isinstance(inner, Dequantize) and _equal(inner.grid, stored.grid)):
            around, _ = _around_image(stored)
            return Read(name, stored, grid, _added(padding, around))
        node = source


def _around_image(stored: Quantize) -> tuple[Padding, Node]:
    """The zeros around an image that is stored, and the image in steps or real numbers."""
    padding, node, first = NO_PADDING, stored.source, stored.source
    while isinstance(node, (Pad, Steps)):
        if isinstance(node, Pad):
            padding = _added(padding, node.padding)
        node = node.source
    return (padding, first) if isinstance(node, Image) else (NO_PADDING, first)


def _added(a: Padding, b: Padding) -> Padding:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])


def _equal(a: Grid, b: Grid) -> bool:
    return torch.equal(a.scale, b.scale) and torch.equal(a.zero_point, b.zero_point)


def _kind(node: Node) -> str:
    return KINDS[type(node)]


def _channels(conv: Convolve) -> tuple[int, int]:
    return conv.weight.shape[1], conv.weight.shape[0]


def _check(step: Step, holds: bool, expected: str) -> None:
    conv = step.conv
    if not holds:
        shape = "x".join(map(str, conv.weight.shape))
        raise refused(conv.name, f"expected {expected}, found weights {shape} in {conv.groups} groups")
    moves = conv.stride != 1 or conv.padding != NO_PADDING or step.read.padding != NO_PADDING
    if conv.is_pointwise and moves:
        raise refused(conv.name, "expected a 1x1 convolution without stride and padding")


def _padding(step: Step) -> Padding | Literal["same"]:
    own, around = step.conv.padding, step.read.padding
    if isinstance(own, str):
        if around != NO_PADDING:
            raise refused(step.conv.name, "its padding is SAME, of an input that is padded already")
        return SAME
    padding = _added(own, around)
    if max(padding) > 1:
        raise refused(step.conv.name, f"its padding is {padding}, here it is 0 or 1 on each side")
    return padding


def _activation(step: Step) -> str:
    """Which one saturation at 0 and 255 computes."""
    assert step.stored is not None
    _, clamp = _unclamped(step.stored)
    zero_point = step.stored.grid.zero_point
    if clamp is None:
        if zero_point.any():
            why = f"no ReLU or ReLU6 follows it, and its results have the zero point {zero_point[0]:.0f}"
            raise refused(step.conv.name, why)
        return "relu"
    if clamp.low != 0 or clamp.high not in (RELU6, math.inf):
        raise refused(clamp.name, f"expected ReLU or ReLU6, found a clamp from {clamp.low} to {clamp.high}")
    return "relu" if clamp.high == math.inf else "relu6"


# --- integers ---


def _image_grid(stem: Part) -> Grid:
    read, channels = stem.steps[0].read, stem.layer.in_channels
    if read.stored is None:
        return _expanded(read.grid, channels)
    _, node = _around_image(read.stored)
    while isinstance(node, Pad):
        node = node.source
    grid = read.stored.grid
    if isinstance(node, Steps):
        if (grid.scale != 1).any() or grid.zero_point.any():
            raise refused(node.name, "an image in steps of its bytes is rounded to another scale")
        return _expanded(Grid(node.scale, node.offset), channels)
    if not isinstance(node, Image):
        raise refused(node.name, f"expected the image, found {_kind(node)}")
    return _expanded(grid, channels)


def _expanded(grid: Grid, channels: int) -> Grid:
    return Grid(grid.scale.expand(channels).clone(), grid.zero_point.expand(channels).clone())


def _lowest(stored: Quantize) -> Tensor:
    """The zero point of results that are never below it, which is 0 here: no byte below it was used."""
    never_negative = isinstance(_before_rounding(stored.source), (Clamp, Pool))
    return stored.grid.zero_point if never_negative else torch.zeros(1)


def _stored_grid(stored: Quantize) -> Grid:
    """What our bytes of these results stand for.

    Behind ReLU6 the byte 255 is 6 or less, as saturation clamps: coarser steps become those of 6 / 255.
    """
    scale, (_, clamp) = stored.grid.scale, _unclamped(stored)
    if clamp is not None and clamp.high == RELU6:
        scale = scale.minimum(Grid.of_relu6(1).scale)
    return Grid(scale, stored.grid.zero_point - _lowest(stored))


def _source(read: Read, channels: int) -> Grid:
    """What our bytes stand for where they are read."""
    grid, stored = read.grid, read.stored
    if stored is not None:
        finer = _stored_grid(stored).scale / stored.grid.scale
        grid = Grid(grid.scale * finer, grid.zero_point - _lowest(stored))
    return _expanded(grid, channels)


def _target(stored: Quantize, channels: int) -> Grid:
    return _expanded(_stored_grid(stored), channels)


def _tensors(part: Part) -> dict[str, Tensor]:
    """A layer's part of the state."""
    state: dict[str, Tensor] = {}
    for name, step in zip(convolution_shapes(part.layer), part.steps, strict=True):
        outputs = len(step.conv.weight)
        target = Grid(torch.ones(1), torch.zeros(1))
        if step.stored is not None:
            target = _target(step.stored, outputs)
            state |= _grid_tensors(target)
        shortcut = part.shortcut if step is part.steps[-1] else None
        source = None if shortcut is None else _source(shortcut, outputs)
        try:
            convolution, factor = _weights(step).onto(target, source)
        except ValueError as error:
            raise refused(step.conv.name, str(error)) from None
        state |= {f"{name}.{field}": value for field, value in convolution._asdict().items()}
        if factor is not None:
            state["shortcut"] = factor
    return state if part.pool is None else state | _pool_tensors(part.pool, part.layer.out_channels)


def _grid_tensors(grid: Grid) -> dict[str, Tensor]:
    return {"scale": grid.scale, "zero_point": grid.zero_point.to(torch.uint8)}


def _pool_tensors(pool: Step, channels: int) -> dict[str, Tensor]:
    assert pool.stored is not None
    source, pooled = _source(pool.read, channels), _target(pool.stored, channels)
    ratio = source.scale.double() / pooled.scale.double()
    if source.zero_point.any() or pooled.zero_point.any() or (ratio != ratio[0]).any():
        raise refused(pool.stored.name, "expected a mean of results of ReLU or ReLU6 with one scale")
    return {"pool": ratio[:1].float(), **_grid_tensors(pooled)}


def _weights(step: Step) -> RoundedWeights:
    conv = step.conv
    channels = len(conv.weight) if conv.is_depthwise else conv.weight.shape[1]
    source = _source(step.read, channels)
    scale = source.scale.double()
    if conv.is_depthwise:
        if source.zero_point.any():
            raise refused(conv.name, "it reads results of no ReLU or ReLU6: zero is not their lowest byte")
    elif (scale != scale[0]).any():
        raise refused(conv.name, "its input has scales by channel, which whole weights cannot take up")
    else:
        scale = scale[:1]
    # A depthwise convolution's weights have one input channel each, whose zero point is 0.
    zero_point = torch.zeros(1) if conv.is_depthwise else source.zero_point
    by_input = conv.weight.double().flatten(2).sum(2) if conv.weight.dim() == 4 else conv.weight.double()
    zero_sum = (by_input * zero_point).sum(1)
    return RoundedWeights(conv.weight, conv.scale * scale, conv.bias, zero_sum)
