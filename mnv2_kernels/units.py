"""Eager modules that one operator replaces in eval mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .fusion import Fusion, PackedOperator, head_fusion, stem_fusion
from .inference import run_without_backward, wants_gradient
from .layers import ConvNormActivation, NotFusable, layer_of
from .snapshot import Snapshot, can_watch, floating_tensors


class FusedUnit(nn.Module):
    """Base of the modules that run one operator in eval mode, or their layers where that would be wrong."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._cache = _PackedCache()

    def fusion(self) -> Fusion:
        """The operator for the layers as they are; raises NotFusable where there is none."""
        raise NotImplementedError

    def fusion_obstacle(self) -> str | None:
        """Why this module runs eagerly in eval mode; None if it does not."""
        try:
            self.fusion()
        except NotFusable as obstacle:
            return str(obstacle)
        return None

    def _infer(self, x: Tensor, eager: Callable[[Tensor], Tensor]) -> Tensor:
        # torch.fx traces with proxies and wants the layers.
        if self.training or isinstance(x, fx.Proxy) or wants_gradient(x):
            return eager(x)
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return self._traced(x, eager)
        packed = self._cache.lookup(self)
        if packed.operator is None:
            return eager(x)
        return run_without_backward(packed.operator.forward, x, packed.sources)

    def _traced(self, x: Tensor, eager: Callable[[Tensor], Tensor]) -> Tensor:
        """The same in a graph, which takes the parameters as they will be and cannot refuse a backward."""
        for_inference = torch.compiler.is_exporting() or torch.jit.is_tracing() or not torch.is_grad_enabled()
        if not for_inference and any(parameter.requires_grad for parameter in self.parameters()):
            return eager(x)
        try:
            fusion = self.fusion()
        except NotFusable:
            return eager(x)
        return fusion(x)


class FusedStem(FusedUnit, ConvNormActivation):
    """The first convolution: mnv2::stem in eval mode."""

    def fusion(self) -> Fusion:
        return stem_fusion(layer_of("0", list(self.children())))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        return self._infer(x, super().forward)


class FusedHead(FusedUnit, ConvNormActivation):
    """The last convolution: eager when called as a module, fused with the pool behind it by ``pooled``."""

    def fusion(self) -> Fusion:
        return head_fusion(layer_of("0", list(self.children())))

    def pooled(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels), means of the pixels: mnv2::head_pool in eval mode."""
        return self._infer(x, self._eager_pooled)

    def _eager_pooled(self, x: Tensor) -> Tensor:
        return global_average_pool(self.forward(x))


def global_average_pool(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C)."""
    return torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1)


class _Packed(NamedTuple):
    operator: PackedOperator | None
    sources: tuple[Tensor, ...]


class _PackedCache:
    """A unit's packed operator, made anew when what it was made of has changed; a copy starts empty."""

    def __init__(self) -> None:
        self._entry: tuple[Snapshot, _Packed] | None = None

    def lookup(self, unit: FusedUnit) -> _Packed:
        entry = self._entry
        if entry is not None and entry[0].holds():
            return entry[1]
        self._entry = None
        if not all(map(can_watch, floating_tensors(unit.modules()))):
            return _Packed(None, ())
        # Before packing: what changes meanwhile is noticed next time.
        snapshot = Snapshot(unit)
        packed = _Packed(_pack(unit), snapshot.tensors)
        self._entry = snapshot, packed
        return packed

    def __deepcopy__(self, memo: dict[int, Any]) -> _PackedCache:
        return _PackedCache()

    def __reduce__(self) -> tuple[type[_PackedCache], tuple[()]]:
        return _PackedCache, ()


def _pack(unit: FusedUnit) -> PackedOperator | None:
    try:
        fusion = unit.fusion()
    except NotFusable:
        return None
    return fusion.operator()
