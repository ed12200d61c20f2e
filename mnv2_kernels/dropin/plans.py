"""What runs in place of a module: operators, and the modules between them that no operator computes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..fusion.fused_layer import Fusion
from ..layer import is_chain
from ..matching.parts import Part
from ..matching.read import Run, read
from ..matching.recording import Options, hooks_are_changing
from ..matching.replay import function_of
from ..matching.served import layer_of_part, reasons_of, weights_of
from ..packing.cache import Packed, PackedCache
from ..packing.packed_layers import outside_inference_mode, pack_layers
from ..packing.snapshot import Snapshot
from .owners import Users, owner_of, users_of
from .watch import Watch


class Plan:
    """Operators and modules, in turn."""

    def __init__(self, steps: Sequence[Packed | nn.Module], like: Tensor) -> None:
        self.steps = tuple(steps)
        self._dtype, self._device = like.dtype, like.device

    def takes(self, x: Tensor) -> bool:
        """Whether the layers would take x: they say themselves what is wrong with another."""
        if x.dim() != 4 or x.device != self._device or x.numel() == 0 or x.layout is not torch.strided:
            return False
        return x.dtype == self._dtype or (x.is_floating_point() and torch.is_autocast_enabled(x.device.type))

    def run(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step.run(x) if isinstance(step, Packed) else step(x)
        return x


class PlanCache(PackedCache):
    """A module's plan for calls with certain options, made anew when anything in the module has changed."""

    def __init__(self) -> None:
        super().__init__(_no_packer)

    def _snapshot(self, module: nn.Module) -> Snapshot:
        with hooks_are_changing:
            return Watch(module)

    def _pack(self, module: nn.Module, *attributes: Any) -> Plan | None:
        (options,) = attributes
        with outside_inference_mode():
            return plan_of(module, options)

    def __deepcopy__(self, memo: dict[int, Any]) -> PlanCache:
        return PlanCache()


def _no_packer(module: nn.Module) -> None:
    raise NotImplementedError


def plan_of(module: nn.Module, options: Options) -> Plan | None:
    """None where no operator computes a part of it."""
    runs = served_runs(module, read(module, options))
    steps = [step for served, group in runs for step in (_packed(group) if served else _modules(group))]
    like = next((step.layers.tensors[0] for step in steps if isinstance(step, Packed)), None)
    return None if like is None else Plan(steps, like)


def served_runs(
    module: nn.Module, runs: Sequence[Run], fused: Collection[nn.Module] = ()
) -> list[tuple[bool, list[Run]]]:
    """Runs of a fused module in groups: whether operators compute them, or their modules are called.

    ``fused``: modules that are to be fused beside those that are.
    """
    users = users_of(module)
    groups: list[tuple[bool, list[Run]]] = []
    for run in runs:
        served = not run_obstacle(run) and all(_is_picked(part, module, users, fused) for part in run.parts)
        if groups and groups[-1][0] == served:
            groups[-1][1].append(run)
        else:
            groups.append((served, [run]))
    return groups


def run_obstacle(run: Run) -> str:
    """Why no operators compute a run; "" where they do."""
    return run.obstacle or reasons_of(run.parts)


def _is_picked(part: Part, module: nn.Module, users: Users, fused: Collection[nn.Module]) -> bool:
    """Whether the module that holds a stem or a block was fused, too; others follow their neighbours."""
    if part.kind not in ("stem", "block"):
        return True
    owner = module.get_submodule(owner_of(part, module, users))
    return owner in fused or hasattr(type(owner), "_eager_class")


def _packed(runs: Sequence[Run]) -> Iterator[Packed]:
    parts = [part for run in runs for part in run.parts]
    layers = [layer_of_part(part) for part in parts]
    start = 0
    for stop in range(1, len(parts) + 1):
        if stop < len(parts) and is_chain(layers[start : stop + 1]):
            continue
        chain = parts[start:stop]
        fusions = [
            Fusion(layer, partial(weights_of, part), function_of([part]))
            for layer, part in zip(layers[start:stop], chain, strict=True)
        ]
        yield Packed(pack_layers(fusions), function_of(chain), fusions)
        start = stop


def _modules(runs: Sequence[Run]) -> list[nn.Module]:
    return [leaf.module for run in runs for leaf in run.leaves]
