"""torchvision's block with one kernel in eval mode."""

from __future__ import annotations

from torch import Tensor, nn

from ..fusion.eager_layers import read_block
from ..fusion.fused_layer import Fusion
from ..matching.known import block_fusion
from ..packing.cache import Packed
from .building import NormLayer, PaddingRule, block_layers
from .eager import EagerInvertedResidual
from .units import FusedUnit


class FusedInvertedResidual(FusedUnit):
    """An inverted residual block: torchvision's in train mode, one kernel in eval mode.

    Args:
        inp, oup: input and output channels.
        stride: 1 or 2, of the depthwise convolution. With 1 and inp == oup there is a shortcut.
        expand_ratio: the depthwise convolution has round(inp * expand_ratio) channels; 1 means no expand.
        norm_layer: makes a BatchNorm2d for a number of channels.
        padding: "torch" (1 on every side) or "same" (TensorFlow's).

    Raises ValueError for what is none of these.
    """

    _eager_class = EagerInvertedResidual
    own_methods = ("forward", "_eager")

    def __init__(
        self,
        inp: int,
        oup: int,
        stride: int,
        expand_ratio: float,
        norm_layer: NormLayer | None = None,
        padding: PaddingRule = "torch",
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride should be 1 or 2 instead of {stride}")
        norm_layer = nn.BatchNorm2d if norm_layer is None else norm_layer
        hidden = None if expand_ratio == 1 else round(inp * expand_ratio)
        conv = block_layers(inp, hidden, oup, stride, norm_layer, padding)
        self._hold(conv, stride, use_res_connect=stride == 1 and inp == oup)

    @classmethod
    def assemble(cls, conv: nn.Sequential, stride: int, use_res_connect: bool) -> FusedInvertedResidual:
        """The block of existing layers."""
        block = cls.__new__(cls)
        FusedUnit.__init__(block)
        block._hold(conv, stride, use_res_connect)
        return block

    def _hold(self, conv: nn.Sequential, stride: int, use_res_connect: bool) -> None:
        self.conv = conv
        self.stride = stride
        self.use_res_connect = use_res_connect
        self.out_channels = conv[-2].out_channels
        self._is_cn = stride > 1  # by which torchvision's detection models find the stages of a backbone

    def packed(self) -> Packed | None:
        return self._cache.lookup(self, self.use_res_connect)

    def fusion(self) -> Fusion:
        return block_fusion(read_block("conv", self.conv), bool(self.use_res_connect))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inp, H, W) to (N, oup, H', W'), channels_last where it runs fused."""
        return self._infer(x, self._eager)

    def _eager(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)
