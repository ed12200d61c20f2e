"""Packed weights that follow the parameters they were packed from."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .fusion import PackedLayers, PackedOperator
from .inference import run_without_backward
from .snapshot import Snapshot, can_watch, floating_tensors

# Packs a module's weights for the operator that computes it; None where there is none.
Packer = Callable[[Any], PackedOperator | PackedLayers | None]


class Packed(NamedTuple):
    """An operator in place of a module (None: there is none), and the tensors that its weights come from."""

    operator: PackedOperator | PackedLayers | None
    sources: tuple[Tensor, ...]

    def run(self, x: Tensor) -> Tensor:
        """The operator's result; a backward through it to the sources is an error."""
        return run_without_backward(self._run, x, self.sources)

    def _run(self, x: Tensor) -> Tensor:
        # The operator's autograd rule, which runs in Python, has nothing to add here and takes 8 to 15 us.
        with torch._C._AutoDispatchBelowAutograd():
            return self.operator.forward(x)


class _Entry(NamedTuple):
    """``snapshot`` sees changes of ``module`` alone; a replica of it has the same cache."""

    module: weakref.ref[nn.Module]
    snapshot: Snapshot
    attributes: tuple[Any, ...]
    packed: Packed

    def serves(self, module: nn.Module, attributes: tuple[Any, ...]) -> bool:
        return self.module() is module and self.attributes == attributes and self.snapshot.holds()


class PackedCache:
    """What a packer made, made anew when the module it was made of has changed. A copy is empty."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self._entry: _Entry | None = None

    def lookup(self, module: nn.Module, *attributes: Any) -> Packed:
        """``attributes``: what decides the result beside the modules and tensors inside ``module``."""
        entry = self._entry
        if entry is not None and entry.serves(module, attributes):
            return entry.packed
        self._entry = None
        if not all(map(can_watch, floating_tensors(module.modules()))):
            return Packed(None, ())
        # Before packing: what changes meanwhile is noticed next time.
        snapshot = Snapshot(module)
        packed = Packed(self._packer(module), snapshot.tensors)
        self._entry = _Entry(weakref.ref(module), snapshot, attributes, packed)
        return packed

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedCache:
        return PackedCache(self._packer)

    def __reduce__(self) -> tuple[type[PackedCache], tuple[Packer]]:
        return PackedCache, (self._packer,)
