"""Eager modules that one operator replaces in eval mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..fusion.eager_layers import ConvNormActivation, global_average_pool, layer_of
from ..fusion.fused_layer import Fusion
from ..fusion.inference import check_is_tensor, is_traced
from ..fusion.own_code import NotFusable, check_own_code, class_name, runs_layers
from ..matching.known import head_fusion, linear_fusion, stem_fusion
from ..packing.cache import Packed, PackedCache
from ..packing.packed_layers import pack_layers
from .eager import HasEager


class FusedUnit(HasEager):
    """Base of the modules that run one operator in eval mode, or their layers where that would be wrong."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._cache = PackedCache(_pack)

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

    def packed(self) -> Packed | None:
        """The operator, with weights packed from the parameters as they are now; None where there is none."""
        return self._cache.lookup(self)

    def _infer(self, x: Tensor, eager: Callable[[Tensor], Tensor]) -> Tensor:
        check_is_tensor(x, "(N, C, H, W)")
        if self.training or runs_layers(x):
            return eager(x)
        if is_traced():
            return self._traced(x, eager)
        packed = self.packed()
        return eager(x) if packed is None else packed.run(x)

    def _traced(self, x: Tensor, eager: Callable[[Tensor], Tensor]) -> Tensor:
        """The same in a graph, which takes the parameters as they will be and has no backward of ours."""
        if torch.onnx.is_in_onnx_export() or torch.jit.is_tracing():
            return eager(x)
        for_inference = torch.compiler.is_exporting() or not torch.is_grad_enabled()
        if not for_inference and any(parameter.requires_grad for parameter in self.parameters()):
            return eager(x)
        try:
            fusion = self.fusion()
        except NotFusable:
            return eager(x)
        return fusion(x)


class FusedStem(FusedUnit, ConvNormActivation):
    """The first convolution: mnv2::stem in eval mode."""

    _eager_class = ConvNormActivation

    def fusion(self) -> Fusion:
        return stem_fusion(layer_of("0", list(self)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        return self._infer(x, super().forward)


class FusedHead(FusedUnit, ConvNormActivation):
    """The last convolution: eager when called as a module, fused with the pool behind it by ``pooled``."""

    _eager_class = ConvNormActivation

    def fusion(self) -> Fusion:
        return head_fusion(layer_of("0", list(self)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        check_is_tensor(x, "(N, C, H, W)")
        return super().forward(x)

    def pooled(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels), means of the pixels: mnv2::head_pool in eval mode."""
        return self._infer(x, self._eager_pooled)

    def _eager_pooled(self, x: Tensor) -> Tensor:
        return global_average_pool(self.forward(x))


class FusedClassifier(FusedUnit, nn.Sequential):
    """Dropout and the linear layer behind the pool: mnv2::linear in eval mode."""

    _eager_class = nn.Sequential

    def fusion(self) -> Fusion:
        if not len(self):
            raise NotFusable("there is no Linear")
        *dropouts, linear = self
        if type(linear) is not nn.Linear:
            raise NotFusable(f"{len(dropouts)} is {class_name(linear)} instead of Linear")
        for index, dropout in enumerate(dropouts):
            if type(dropout) is not nn.Dropout:
                raise NotFusable(f"{index} is {class_name(dropout)} instead of Dropout")
            if dropout.training:
                raise NotFusable(f"{index}: Dropout is in training mode")
        for index, module in enumerate(self):
            check_own_code(str(index), module, type(module))
        return linear_fusion(str(len(dropouts)), linear)

    def may_train(self) -> bool:
        """Whether a backward to its parameters can follow: a classifier on fused features may be trained."""
        return torch.is_grad_enabled() and any(each.requires_grad for each in self.parameters())

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) to (N, out_features); other shapes as nn.Linear takes them."""
        check_is_tensor(x, "(N, in_features)")
        if isinstance(x, fx.Proxy) or x.dim() != 2:
            return super().forward(x)
        return self._infer(x, super().forward)


def _pack(unit: FusedUnit) -> Packed | None:
    try:
        fusion = unit.fusion()
    except NotFusable:
        return None
    return Packed(pack_layers([fusion]), fusion.function, [fusion])
