"""The ``onnx`` package, which is optional, and what our files say beside their graph."""

from __future__ import annotations

from types import ModuleType

# Keys of a file's metadata: the text of the layers, and what their bytes stand for.
LAYERS_KEY, GRIDS_KEY = "mnv2_kernels.layers", "mnv2_kernels.grids"
IMAGES, LOGITS = "images", "logits"


def import_onnx(what: str) -> ModuleType:
    """The package. Raises ImportError, which says how to install it, where it is missing."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f"{what} needs the package onnx: pip install 'mnv2-kernels[onnx]'") from error
    return onnx
