"""``fusion_report``: which blocks of a model run fused, and why the others do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import nn

from ..matching.parts import Part
from ..matching.read import is_depthwise
from ..matching.replay import weights_behind
from .candidates import candidates
from .fused import is_fused
from .owners import users_of
from .plans import run_obstacle, served_runs
from .survey import Reading, check_model, survey

NOT_FUSED = "it is not fused: left out by the filter, or fuse was not called"
NO_MODULE = "no module that runs nothing else holds it with its projection"


@dataclass(frozen=True)
class FusionReport:
    """Printed, it is a table.

    ``fused``: the names of the modules that hold the blocks that run fused in eval mode; of the depthwise
    convolution where one holds several blocks. ``eager``: the others, and depthwise convolutions that are
    part of no block, each with the reason. ``others``: stems, heads and linear layers that run fused.
    """

    fused: tuple[str, ...]
    eager: dict[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.fused and not self.eager:
            return "no inverted residual was found"
        rows = [(name, "fused") for name in self.fused] + [*self.eager.items()]
        width = max(len(name) for name, _ in rows)
        head = f"{len(self.fused)} of {len(rows)} blocks run fused"
        also = f", and {', '.join(self.others)}" if self.others else ""
        return "\n".join([head + also, *(f"{name:{width}}  {words}" for name, words in rows)])


def fusion_report(model: nn.Module) -> FusionReport:
    """Which blocks of a model run fused in eval mode, as it is now. Its modules are called as by ``fuse``."""
    check_model("fusion_report", model)
    readings = survey(model)
    names = _names(model, readings)
    served = {key: part for part in _served_parts(readings) for key in _depthwise(part)}
    reasons = _reasons(model, readings)
    fused, eager = [], {}
    stems = _stems(readings)
    for key, depthwise in _depthwise_of(model).items():
        if key in stems:
            continue
        name = names.get(key, depthwise)
        if key in served:
            fused.append(name)
        else:
            eager[name] = reasons.get(key) or _reason_around(depthwise, readings)
    return FusionReport(tuple(dict.fromkeys(fused)), eager, _others(model, readings))


def _depthwise(part: Part) -> list[int]:
    return [id(weight) for layer in part.depthwise for weight in weights_behind(layer)]


def _depthwise_of(model: nn.Module) -> dict[int, str]:
    """The depthwise convolutions by their weights' ids: the names of their modules."""
    users = users_of(model)
    return {id(each): min(users[id(each)]) for each in model.parameters() if is_depthwise(each)}


def _stems(readings: Sequence[Reading]) -> set[int]:
    """Stems' weights: of an image of one channel they look like a depthwise convolution's."""
    parts = [
        part for reading in readings for run in reading.runs for part in run.parts if part.kind == "stem"
    ]
    return {id(weight) for part in parts for layer in part.layers for weight in weights_behind(layer)}


def _names(model: nn.Module, readings: Sequence[Reading]) -> dict[int, str]:
    """What a block is called, by its depthwise convolution."""
    owners = {key: each.owner for each in candidates(model, readings) for key in _depthwise(each.part)}
    blocks = Counter(owners.values())
    return {key: owner for key, owner in owners.items() if blocks[owner] == 1 and owner}


def _served_parts(readings: Sequence[Reading]) -> Iterator[Part]:
    for reading in readings:
        if is_fused(reading.module):
            for served, runs in served_runs(reading.module, reading.runs):
                yield from (part for run in runs if served for part in run.parts)


def _reasons(model: nn.Module, readings: Sequence[Reading]) -> dict[int, str]:
    """Why a block is not served, by its depthwise convolution; the innermost reading has the last word."""
    found: dict[int, str] = {}
    for each in candidates(model, readings):
        found.update(dict.fromkeys(_depthwise(each.part), each.obstacle))
    for reading in reversed(readings):
        for run in reading.runs:
            obstacle = run_obstacle(run)
            for key in (key for part in run.parts if part.kind == "block" for key in _depthwise(part)):
                found[key] = found.get(key) or obstacle
    return {key: obstacle or NOT_FUSED for key, obstacle in found.items()}


def _reason_around(name: str, readings: Sequence[Reading]) -> str:
    """Why the smallest module around a depthwise convolution is no chain of layers."""
    around = [each for each in readings if not each.name or f"{name}.".startswith(f"{each.name}.")]
    for reading in reversed(around):
        for run in reading.runs:
            names = [f"{reading.name}.{leaf.name}".strip(".") for leaf in run.leaves]
            if any(not each or f"{name}.".startswith(f"{each}.") for each in names) and run_obstacle(run):
                return run_obstacle(run)
    return NO_MODULE


def _others(model: nn.Module, readings: Sequence[Reading]) -> tuple[str, ...]:
    users = users_of(model)
    found: dict[str, None] = {}
    for part in _served_parts(readings):
        if part.kind != "block":
            names = [name for weight in weights_behind(part.layers[0]) for name in users.get(id(weight), ())]
            found[min(names, default=part.kind)] = None
    return tuple(found)
