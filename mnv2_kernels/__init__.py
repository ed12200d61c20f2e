"""MobileNetV2's inverted residual as one kernel: ``torch.ops.mnv2`` and a drop-in ``FusedMobileNetV2``."""

from . import ops as ops
from ._native import build_info
from .modules import FusedInvertedResidual, FusedMobileNetV2
from .shapes import BlockShape

__version__: str = build_info()["version"]

__all__ = ["BlockShape", "FusedInvertedResidual", "FusedMobileNetV2", "__version__"]
