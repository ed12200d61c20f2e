"""MobileNetV2's inverted residual as one kernel: ``torch.ops.mnv2`` and a drop-in ``FusedMobileNetV2``."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .machine import wrong_machine

try:
    from . import ops as ops
    from ._native import build_info
except ImportError:
    if reason := wrong_machine():
        raise ImportError(reason) from None
    raise
from .dropin.fuse import fuse, unfuse
from .dropin.report import FusionReport, fusion_report
from .nn.deploying import deploy
from .nn.inverted_residual import FusedInvertedResidual
from .nn.mobilenet_v2 import FusedMobileNetV2
from .shapes import BlockShape

if TYPE_CHECKING:
    from .deployment.export import export as export
    from .quantization.network import QuantizedMobileNetV2 as QuantizedMobileNetV2
    from .quantization.quantize import quantize as quantize
    from .quantization.report import quantization_report as quantization_report

__version__: str = build_info()["version"]

__all__ = [
    "BlockShape",
    "FusedInvertedResidual",
    "FusedMobileNetV2",
    "FusionReport",
    "QuantizedMobileNetV2",
    "__version__",
    "deploy",
    "export",
    "fuse",
    "fusion_report",
    "quantization_report",
    "quantize",
    "unfuse",
]

# Imported when they are asked for: those who do not quantise or export need not wait for them.
_LATER = {
    "export": ".deployment.export",
    "QuantizedMobileNetV2": ".quantization.network",
    "quantization_report": ".quantization.report",
    "quantize": ".quantization.quantize",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
