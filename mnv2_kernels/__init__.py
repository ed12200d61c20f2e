"""MobileNetV2's inverted residual as one kernel: ``torch.ops.mnv2`` and a drop-in ``FusedMobileNetV2``."""

from typing import TYPE_CHECKING, Any

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
from .shapes import BlockShape

if TYPE_CHECKING:
    from .quantization.quantize import quantize as quantize

__version__: str = build_info()["version"]

__all__ = ["BlockShape", "FusedInvertedResidual", "FusedMobileNetV2", "__version__", "quantize"]


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: those who do not quantise need not wait for it.
    if name == "quantize":
        from .quantization.quantize import quantize

        return quantize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
