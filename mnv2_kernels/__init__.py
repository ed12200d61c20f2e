"""MobileNetV2's inverted residual as one kernel: ``torch.ops.mnv2`` and a drop-in ``FusedMobileNetV2``."""

from .machine import wrong_machine

try:
    from . import ops as ops
    from ._native import build_info
except ImportError:
    if reason := wrong_machine():
        raise ImportError(reason) from None
    raise
from .nn.inverted_residual import FusedInvertedResidual
from .nn.mobilenet_v2 import FusedMobileNetV2
from .quantization.quantize import quantize
from .shapes import BlockShape

__version__: str = build_info()["version"]

__all__ = ["BlockShape", "FusedInvertedResidual", "FusedMobileNetV2", "__version__", "quantize"]
