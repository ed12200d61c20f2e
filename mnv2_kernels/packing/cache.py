"""Packed weights that follow the parameters they were packed from."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..fusion.functions import LayerFunction
from ..fusion.fused_layer import Fusion
from ..fusion.inference import run_with_backward
from .packed_layers import PackedLayers
from .snapshot import Snapshot, can_watch, watched_tensors


class Packed(NamedTuple):
    """An operator in place of a module, what it computes in torch's functions, and what was packed."""

    operator: PackedLayers
    layers: LayerFunction
    fusions: Sequence[Fusion]

    def run(self, x: Tensor) -> Tensor:
        """The operator's result; a backward through it runs the layers."""
        return run_with_backward(self.operator.forward, self.layers.function, x, self.layers.tensors)


# Packs a module's weights, as ``Packed`` or otherwise, for what computes it; None where nothing does.
Packer = Callable[[Any], Any]


class _Entry(NamedTuple):
    """``snapshot`` sees changes of ``module`` alone; a replica of it has the same cache.

    ``backward_hooks`` are where the modules inside it keep theirs, which a backward through one operator for
    all of them would not call.
    """

    module: weakref.ref[nn.Module]
    snapshot: Snapshot
    attributes: tuple[Any, ...]
    packed: Any
    backward_hooks: tuple[Mapping[int, Any], ...]

    def serves(self, module: nn.Module, attributes: tuple[Any, ...]) -> bool:
        return self.module() is module and self.attributes == attributes and self.snapshot.holds()

    def usable(self) -> Any:
        """What it packed, where somebody may not wait for a backward through the modules inside."""
        watched = torch.is_grad_enabled() and any(self.backward_hooks)
        return None if watched else self.packed


class PackedCache:
    """What a packer made, made anew when the module it was made of has changed. A copy is empty."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self._entry: _Entry | None = None

    def lookup(self, module: nn.Module, *attributes: Any) -> Any:
        """``attributes``: what decides the result beside the modules and tensors inside ``module``."""
        entry = self._entry
        if entry is not None and entry.serves(module, attributes):
            return entry.usable()
        self._entry = None
        if not all(map(can_watch, watched_tensors(module.modules()))):
            return None
        # Before packing: what changes meanwhile is noticed next time.
        snapshot = self._snapshot(module)
        packed = self._pack(module, *attributes)
        entry = _Entry(weakref.ref(module), snapshot, attributes, packed, _backward_hooks(module))
        self._entry = entry
        return entry.usable()

    def _snapshot(self, module: nn.Module) -> Snapshot:
        return Snapshot(module)

    def _pack(self, module: nn.Module, *attributes: Any) -> Any:
        return self._packer(module)

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedCache:
        return PackedCache(self._packer)

    def __reduce__(self) -> tuple[type[PackedCache], tuple[Packer]]:
        return PackedCache, (self._packer,)


def _backward_hooks(module: nn.Module) -> tuple[Mapping[int, Any], ...]:
    _, *inner = module.modules()
    return tuple(held for each in inner for held in (each._backward_hooks, each._backward_pre_hooks))
