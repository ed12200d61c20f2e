"""Loads the operators of ``torch.ops.mnv2`` and tells torch what it has to know besides their kernels.

Schemas and kernels are C++ (``csrc/torch``). What is registered here is a file each: the results' shapes
(``fakes.py``), autograd and autocast (``autograd.py``), vmap (``batching.py``), FLOPs (``flops.py``), GPUs
(``gpu.py``), and what graphs on disk depend on (``compile_cache.py``).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.library import Library, register_fake, register_vmap

from ..layer import LAYER_OPS
from . import batching, compile_cache, flops, gpu
from .autograd import autocast, refuse_derivatives
from .fakes import FAKES, on_one_device

LIBRARY = Path(__file__).parent.with_name("libmnv2_ops.so")

# A chain of layers on packed weights; run_seconds is for profiles alone.
OPERATORS = (*LAYER_OPS, "pack", "run")

AUTOCAST_DEVICES = ("cpu", "cuda")


def _load_library() -> None:
    try:
        torch.ops.load_library(LIBRARY)
    except OSError as error:
        raise ImportError(
            f"{LIBRARY.name} does not load; build it for this torch with: pip install --no-build-isolation ."
        ) from error


def _register() -> Library:
    """Registers everything; the returned library owns these kernels and has to stay alive."""
    library = Library("mnv2", "IMPL")
    for name, fake in FAKES.items():
        op = getattr(torch.ops.mnv2, name).default
        register_fake(op, on_one_device(op, fake))
        library.impl(name, refuse_derivatives(op), "Autograd", with_keyset=True)
        register_vmap(op, batching.rule(op, folds_first_input=name != "pack"))
    for name in (*LAYER_OPS, "run"):
        op = getattr(torch.ops.mnv2, name).default
        for device in AUTOCAST_DEVICES:
            library.impl(name, autocast(op, device), f"Autocast{device.upper()}")
    gpu.register(library, OPERATORS)
    flops.register_on_import()
    compile_cache.add_tag()
    return library


_load_library()
_LIBRARY = _register()
