"""What a module computes in eval mode, as runs of parts between its children."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..fusion.own_code import NotFusable, has_hooks
from ..shapes import same_padding
from .parts import Part, parts_of
from .recording import NO_OPTIONS, CallFails, Options, Recording, Value, record
from .steps import Convolution, Found, Step, form, found_between, joined

# Images of trial calls; the others where a call asks for a size: all residues modulo 4 in either dimension,
# and none is square.
SIZES = ((32, 32), (33, 35), (38, 45), (63, 66))
BATCH = 2  # with one image, a shape that is written out would pass for one that follows the batch
IMAGE_CHANNELS = 3


@dataclass
class Leaf:
    """A module that is read as one, by its name in the module around it; "" is that module itself."""

    name: str
    module: nn.Module
    obstacle: str = ""
    is_uncallable: bool = (
        False  # even for what comes behind it, as a norm in train mode changes its statistics
    )
    found: list[Found] = field(default_factory=list)


@dataclass
class Run:
    """Consecutive leaves and their parts. Without parts it has an obstacle, or nothing that computes."""

    leaves: list[Leaf]
    parts: list[Part] = field(default_factory=list)
    obstacle: str = ""


def is_kernel(weight: Tensor) -> bool:
    return weight.dim() == 4


def is_depthwise(weight: Tensor) -> bool:
    """Whether a parameter is a depthwise convolution's, by its shape: a window for each channel."""
    return is_kernel(weight) and weight.shape[1] == 1 < weight.shape[0] and tuple(weight.shape[2:]) != (1, 1)


def leaves_of(module: nn.Module) -> list[Leaf]:
    """The modules that a Sequential runs one after another, also in Sequentials inside; else the module."""
    if not _runs_children(module):
        return [Leaf("", module)]
    return list(_children("", module))


def _children(prefix: str, module: nn.Module) -> Iterator[Leaf]:
    for name, child in module._modules.items():
        path = f"{prefix}.{name}".lstrip(".")
        if child is None:
            continue
        if _runs_children(child) and not _call_obstacle(child):
            yield from _children(path, child)
        else:
            yield Leaf(path, child)


def _runs_children(module: nn.Module) -> bool:
    """Whether its forward is Sequential's, maybe below the class that fuse gave it."""
    eager = getattr(type(module), "_eager_class", type(module))
    return eager.forward is nn.Sequential.forward and "forward" not in vars(module)


def _call_obstacle(module: nn.Module) -> str:
    """Why a call of a module may do something else than its forward; "" where it does not."""
    if has_hooks(module, backward=True):
        return "it has hooks"
    kind = type(module)
    own = (kind.__call__, kind._call_impl) != (nn.Module.__call__, nn.Module._call_impl)
    return "it has a call of its own" if own else ""


def read(module: nn.Module, options: Options = NO_OPTIONS) -> list[Run]:
    """The runs of a module in eval mode, in order. What cannot be read has an obstacle instead of parts."""
    leaves = leaves_of(module)
    for leaf in leaves:
        _look(leaf, module)
    calls = _calls(leaves, module, options, SIZES[0])
    if any(call is not None and call.asks_size for call in calls):
        more = [_calls(leaves, module, options, size) for size in SIZES[1:]]
        for index, leaf in enumerate(leaves):
            _settle_sizes(leaf, [each[index] for each in (calls, *more)])
    else:
        for leaf, call in zip(leaves, calls, strict=True):
            _find(leaf, call)
    return _runs(leaves)


def _look(leaf: Leaf, root: nn.Module) -> None:
    """Sets why a leaf's own code has to run, if it has."""
    for name, each in leaf.module.named_modules():
        where = f"{name}: " if name else ""
        if each is not root and (why := _call_obstacle(each)):
            leaf.obstacle = leaf.obstacle or where + why
        if each.training:
            leaf.obstacle, leaf.is_uncallable = f"{where}it is in train mode", True


def _calls(
    leaves: Sequence[Leaf], root: nn.Module, options: Options, size: tuple[int, int]
) -> list[Recording | None]:
    """A call of each leaf with the result of the one before, as far as one comes."""
    calls: list[Recording | None] = []
    like = next((each for each in root.parameters() if each.is_floating_point()), torch.empty(0))
    image = torch.zeros(BATCH, _image_channels(root), *size, dtype=like.dtype, device=like.device)
    x: Tensor | None = image
    value = _input_of(image)
    # A module may change in place what the one before it made.
    kept = [image, *root.parameters(), *root.buffers()]
    for leaf in leaves:
        recording = None
        if x is not None and not leaf.is_uncallable:
            try:
                recording = _call(leaf, x, value, options, None if leaf is leaves[0] else kept)
            except NotFusable as why:
                leaf.obstacle = leaf.obstacle or str(why)
        calls.append(None if leaf.obstacle else recording)
        if recording is None:
            x = None  # whatever it may do, it is not called to no purpose
        else:
            x, value = recording.result, recording.output
    return calls


def _input_of(x: Tensor) -> Value:
    return Value("input", shape=tuple(x.shape))


def _call(leaf: Leaf, x: Tensor, value: Value, options: Options, kept: list[Tensor] | None) -> Recording:
    """Where ``kept`` is None, of the first module, maybe again with the channels that its layer wanted."""
    try:
        return record(leaf.module, x, value, options, kept)
    except CallFails as failure:
        if kept is not None or failure.wanted in (None, x.shape[1]):
            raise
        other = x.new_zeros(x.shape[0], failure.wanted, *x.shape[2:])
        return record(leaf.module, other, _input_of(other), options)


def _image_channels(module: nn.Module) -> int:
    """What the first convolution in the order of names takes, which is usually the first that runs."""
    for each in module.modules():
        weight = getattr(each, "weight", None)
        if isinstance(weight, Tensor) and is_kernel(weight):
            return weight.shape[1] * getattr(each, "groups", 1)
    return IMAGE_CHANNELS


def _find(leaf: Leaf, call: Recording | None) -> None:
    """Sets what a leaf computes."""
    if call is None:
        leaf.obstacle = leaf.obstacle or "the module before it gives no image"
        return
    try:
        leaf.found = found_between(call.input, call.output)
    except NotFusable as why:
        leaf.obstacle = str(why)


def _settle_sizes(leaf: Leaf, calls: Sequence[Recording | None]) -> None:
    """Sets what a leaf computes where that is the same for all sizes but for a padding of TensorFlow's."""
    _find(leaf, calls[0])
    if leaf.obstacle:
        return
    try:
        found = [
            leaf.found,
            *(found_between(each.input, each.output) for each in calls[1:] if each is not None),
        ]
        if len(found) < len(calls):
            raise NotFusable("what it computes depends on the size of its input")
        _settle(found)
    except NotFusable as why:
        leaf.obstacle = str(why)


def _settle(found: Sequence[list[Found]]) -> None:
    forms = [list(_forms([each for each in one if each.item.kind != "pad"])) for one in found]
    if any(each != forms[0] for each in forms):
        raise NotFusable("what it computes depends on the size of its input")
    paddings = [list(_windows(each)) for each in found]
    for variants in zip(*paddings, strict=True):
        layer = variants[0][0]
        if any(padding != variants[0][1] for _, padding, _ in variants):
            layer.same = all(_is_same(layer, padding, size) for _, padding, size in variants)
            if not layer.same:
                raise NotFusable("its padding depends on the size of its input, and is not TensorFlow's")


def _forms(found: Sequence[Found]) -> Iterator[object]:
    for each in found:
        if each.item.kind == "add":
            assert isinstance(each.item, Step)
            yield "add", next((i for i, other in enumerate(found) if other.before is each.item.detail), None)
        else:
            yield form([each.item])


def _windows(found: Sequence[Found]) -> Iterator[tuple[Convolution, tuple[int, ...], tuple[int, ...]]]:
    """Each convolution with its whole padding, and the size of the image before that."""
    pads: tuple[int, ...] = (0, 0, 0, 0)
    size: tuple[int, ...] | None = None
    for each in found:
        if each.item.kind == "pad":
            size = size or each.before.shape[2:]
            pads = tuple(map(sum, zip(pads, each.item.detail, strict=True)))  # type: ignore[union-attr]
        elif isinstance(each.item, Convolution):
            padding = tuple(map(sum, zip(pads, each.item.padding, strict=True)))
            yield each.item, padding, size or each.item.size
            pads, size = (0, 0, 0, 0), None


def _is_same(layer: Convolution, padding: tuple[int, ...], size: tuple[int, ...]) -> bool:
    if layer.weight.dim() != 4 or layer.dilation != (1, 1):
        return False
    (top, bottom), (left, right) = (
        same_padding(each, stride, kernel)
        for each, stride, kernel in zip(size, layer.stride, layer.weight.shape[2:], strict=True)
    )
    return padding == (top, left, bottom, right)


def _runs(leaves: Sequence[Leaf]) -> list[Run]:
    """Readable leaves by the parts that lie between them, each run as few leaves as possible."""
    runs: list[Run] = []
    readable: list[Leaf] = []
    for leaf in leaves:
        if leaf.obstacle:
            runs += _split(readable)
            runs.append(Run([leaf], obstacle=leaf.obstacle))
            readable = []
        else:
            readable.append(leaf)
    return runs + _split(readable)


def _split(leaves: list[Leaf]) -> list[Run]:
    found = [each for leaf in leaves for each in leaf.found]
    owners = [index for index, leaf in enumerate(leaves) for _ in leaf.found]
    try:
        parts = parts_of(joined(found))
    except NotFusable as why:
        return [Run([leaf], obstacle=str(why)) for leaf in leaves]
    runs: list[tuple[int, list[Part]]] = []  # the last leaf, and parts
    for part in parts:
        first, last = owners[part.first], owners[part.last]
        if runs and first <= runs[-1][0]:
            runs[-1] = (last, [*runs[-1][1], part])
        else:
            runs.append((last, [part]))
    # A leaf that computes nothing, as dropout, goes with what comes before it.
    starts = [0] + [owners[each[0].first] for _, each in runs[1:]] + [len(leaves)]
    if not runs:
        return [Run(leaves)] if leaves else []
    return [
        Run(leaves[start:stop], each) for (start, stop), (_, each) in zip(pairwise(starts), runs, strict=True)
    ]
