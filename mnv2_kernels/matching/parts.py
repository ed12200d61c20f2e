"""Layers in their order as parts that one operator could compute: stems, blocks, heads and linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .recording import Value
from .steps import Convolution, Item, Joined, Step

PartKind = Literal["stem", "block", "head_pool", "linear", "other"]

# A stem takes an image, not features: other libraries' dense convolutions of many channels are faster.
MOST_STEM_CHANNELS = 4

_BLOCKS = tuple(
    pattern.split()
    for pattern in (
        "pointwise depthwise gate pointwise",
        "pointwise depthwise pointwise",
        "depthwise gate pointwise",
        "depthwise pointwise",
    )
)
_GATE = ("pool", "pointwise", "pointwise")


@dataclass(eq=False)
class Gate:
    """Squeeze-and-excite: two layers on the means of a depthwise result's channels."""

    squeeze: Convolution
    excite: Convolution


@dataclass(eq=False)
class Part:
    """Layers that one operator might compute, from the value ``start`` to the value ``end``.

    ``before``: a depthwise convolution before the expand. ``first`` and ``last`` are where it begins and ends
    among what was found. ``obstacle``: why it is none of the kinds, or not the block that it resembles.
    """

    kind: PartKind
    layers: list[Convolution]
    start: Value
    end: Value
    first: int
    last: int
    before: Convolution | None = None
    gate: Gate | None = None
    residual: bool = False
    obstacle: str = ""
    convolutions: list[Convolution] = field(default_factory=list)  # all, with those of a gate

    @property
    def depthwise(self) -> list[Convolution]:
        return [each for each in self.convolutions if each.kind == "depthwise"]


def parts_of(items: Sequence[Joined], most_stem_channels: int = MOST_STEM_CHANNELS) -> list[Part]:
    parts: list[Part] = []
    while items:
        count = 0
        for read in (_double_depthwise, _block, _head, _linear):
            if found := read([each.item for each in items]):
                part, count = found
                break
        else:
            part, count = _single(items[0].item, most_stem_channels), 1
        taken = items[:count]
        part.start, part.end = taken[0].before, taken[-1].behind
        part.first, part.last = taken[0].first, taken[-1].last
        parts.append(part)
        items = items[count:]
    return parts


NOWHERE = Value("nowhere")


def _part(kind: PartKind, items: Sequence[Item], obstacle: str = "") -> Part:
    layers = [each for each in items if isinstance(each, Convolution)]
    part = Part(kind, layers, NOWHERE, NOWHERE, 0, 0, obstacle=obstacle)
    gates = [each.detail for each in items if isinstance(each, Step) and each.kind == "gate"]
    part.convolutions = layers + [each for gate in gates for each in gate if isinstance(each, Convolution)]
    return part


def _double_depthwise(items: list[Item]) -> tuple[Part, int] | None:
    """MobileNetV4's block: a depthwise convolution before the expand, without an activation."""
    linear_ends = [each.activation for each in items[:4:3] if isinstance(each, Convolution)]
    if _kinds(items, 4) != ["depthwise", "pointwise"] * 2 or linear_ends != ["none", "none"]:
        return None
    part, added = _part("block", items[:4]), _adds_its_input(items, 4)
    part.before, part.layers, part.residual = part.layers[0], part.layers[1:], added
    return part, 4 + added


def _block(items: list[Item]) -> tuple[Part, int] | None:
    for pattern in _BLOCKS:
        count = len(pattern)
        if _kinds(items, count) != pattern:
            continue
        part, added = _part("block", items[:count]), _adds_its_input(items, count)
        part.residual = added
        for item in items[:count]:
            if isinstance(item, Step):
                part.gate = _gate_of(item)
                part.obstacle = "" if part.gate else "a gate of another form"
        return part, count + added
    return None


def _gate_of(step: Step) -> Gate | None:
    steps = [each for each in step.detail if not (isinstance(each, Step) and each.kind == "reshape")]
    if len(steps) != 3 or not isinstance(steps[0], Step) or steps[0].kind != "pool":
        return None
    squeeze, excite = steps[1:]
    for layer in (squeeze, excite):
        if not isinstance(layer, Convolution) or layer.kind not in ("pointwise", "linear"):
            return None
    return None if squeeze.scale is not None or excite.scale is not None else Gate(squeeze, excite)


def _head(items: list[Item]) -> tuple[Part, int] | None:
    """A 1x1 convolution and a pool, whose result is (N, C) or (N, C, 1, 1) and then taken as (N, C)."""
    if _kinds(items, 2) != ["pointwise", "pool"]:
        return None
    pool = items[1]
    assert isinstance(pool, Step)
    if not pool.detail:
        return _part("head_pool", items[:1]), 2
    if _kinds(items[2:], 1) == ["reshape"]:
        return _part("head_pool", items[:1]), 3
    return None


def _linear(items: list[Item]) -> tuple[Part, int] | None:
    return (_part("linear", items[:1]), 1) if _kinds(items, 1) == ["linear"] else None


def _single(item: Item, most_stem_channels: int) -> Part:
    """What is no part of a block: a stem, or nothing that an operator computes."""
    if isinstance(item, Convolution):
        if item.kind == "dense" and item.groups == 1 and item.weight.shape[1] <= most_stem_channels:
            return _part("stem", [item])
        words = {
            "depthwise": "no 1x1 convolution follows its depthwise one",
            "pointwise": "a 1x1 convolution by itself",
            "grouped": "a grouped convolution",
        }
        return _part("other", [item], words.get(item.kind, "a dense convolution"))
    return _part("other", [item], _WORDS.get(item.kind, item.kind) + _activation_name(item))


_WORDS = {
    "activation": "an activation behind something else than a convolution: ",
    "add": "an addition of something else than a block's input",
    "affine": "a scale or shift behind something else than a convolution",
    "gate": "a gate outside a block",
    "pool": "a pool by itself",
    "reshape": "a change of dimensions",
}


def _activation_name(step: Step) -> str:
    return str(step.detail) if step.kind == "activation" else ""


def _adds_its_input(items: list[Item], count: int) -> bool:
    add = items[count] if len(items) > count else None
    return isinstance(add, Step) and add.kind == "add" and add.detail == count


def _kinds(items: Sequence[Item], count: int) -> list[str]:
    return [each.kind for each in items[:count]]
