"""Which kernels serve tensors on GPUs: libmnv2_cuda's on NVIDIA's, Triton's elsewhere.

``MNV2_GPU_BACKEND``, read at import, names the backend of tensors on "cuda": ``cuda`` (the default where this
build has the library and torch is built for CUDA) or ``triton``, which is imported at the first call.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.library import Library

from .autograd import tensors_of

BACKEND_VARIABLE = "MNV2_GPU_BACKEND"
BACKENDS = ("cuda", "triton")

CUDA_LIBRARY = Path(__file__).parent.with_name("libmnv2_cuda.so")

# Device types as torch names them; AMD's GPUs are "cuda", too.
DEVICES = ("cuda", "xpu")

# Operators of the CPU alone.
CPU_ONLY = ("run_seconds",)


def register(library: Library, operators: tuple[str, ...]) -> None:
    """Registers the kernels of ``operators`` for GPUs, and the refusals of those that have none."""
    for device in DEVICES:
        if device == "cuda" and SELECTED == "cuda" and has_cuda_kernels():
            _load_cuda_library()
        else:
            for name in operators:
                library.impl(name, _kernel(name, device), device.upper())
        for name in CPU_ONLY:
            library.impl(name, _refusal(name), device.upper())


def has_cuda_kernels() -> bool:
    """Whether this build has CUDA kernels that this torch can call."""
    return torch.version.cuda is not None and CUDA_LIBRARY.exists()


# For tensors on "cuda", as the environment had it at import; checked where it is used.
SELECTED = os.environ.get(BACKEND_VARIABLE) or ("cuda" if has_cuda_kernels() else "triton")


def backend(device: str = "cuda") -> str:
    """The backend of tensors on ``device``. Raises RuntimeError where MNV2_GPU_BACKEND names none to use."""
    if device != "cuda":
        return "triton"
    if SELECTED not in BACKENDS:
        raise RuntimeError(f"{BACKEND_VARIABLE}={SELECTED}: expected one of {', '.join(BACKENDS)}")
    if SELECTED == "cuda" and not has_cuda_kernels():
        lack = f"no {CUDA_LIBRARY.name}" if torch.version.cuda else "a torch without CUDA"
        raise RuntimeError(f"{BACKEND_VARIABLE}=cuda: this build has {lack}")
    return SELECTED


def _load_cuda_library() -> None:
    try:
        torch.ops.load_library(CUDA_LIBRARY)
    except OSError as error:
        raise ImportError(
            f"{CUDA_LIBRARY.name} does not load; build it for this torch with: "
            f"pip install --no-build-isolation . , or set {BACKEND_VARIABLE}=triton"
        ) from error


def triton_operators(op: str) -> Any:
    """The module with the kernels. Raises RuntimeError that says what to install where Triton is missing."""
    try:
        importlib.import_module("triton")
    except ImportError as error:
        raise RuntimeError(
            f"mnv2::{op}: kernels for GPUs need Triton, which is not installed: pip install triton"
        ) from error
    return importlib.import_module("..triton.operators", __package__)


def packed_bytes(device: str, layers: str, dtype: str) -> int:
    """Bytes of what mnv2::pack packs on a device for weights of a dtype, by its name; for the fake."""
    if backend(device) == "cuda":
        return torch.ops.mnv2.cuda_packed_bytes(layers, dtype=dtype)
    from ..layer import parse_layers
    from ..triton.packing import chain_packing

    return chain_packing(parse_layers(layers), getattr(torch, dtype)).nbytes


# --- kernels ---


def _kernel(name: str, device_type: str) -> Callable[..., Tensor]:
    def kernel(*arguments: Any, **options: Any) -> Tensor:
        backend(device_type)
        run = getattr(triton_operators(name), name)
        device = next(tensor.device for tensor in tensors_of(arguments))
        # Launches go to the current device and its current stream.
        with torch.accelerator.device_index(device.index):
            return run(*arguments, **options)

    return kernel


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise RuntimeError(f"mnv2::{name}: runs on cpu alone")

    return refuse
