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

from .shapes import KERNEL_TAPS

BACKEND_VARIABLE = "MNV2_GPU_BACKEND"
BACKENDS = ("cuda", "triton")

CUDA_LIBRARY = Path(__file__).with_name("libmnv2_cuda.so")

# Of torch; AMD's GPUs are "cuda", too.
DEVICES = ("cuda", "xpu")

# Operators of the CPU alone, whose packed layers are read on the host,
CPU_ONLY = ("pack_network", "network", "network_seconds")
# and of libmnv2_cuda alone, which does the same from a description; elsewhere it would gain little.
CUDA_ONLY = ("network_layers", "pack_stem_block")


def register(library: Library, operators: tuple[str, ...]) -> None:
    """Registers the kernels of ``operators`` for GPUs, and the refusals of those that have none."""
    for device in DEVICES:
        if device == "cuda" and SELECTED == "cuda" and has_cuda_kernels():
            _load_cuda_library()
        else:
            for name in operators:
                library.impl(name, _kernel(name, device), device.upper())
            for name in CUDA_ONLY:
                library.impl(name, _refusal(name), device.upper())
        for name in CPU_ONLY:
            library.impl(name, _refusal(name), device.upper())
    for name in CUDA_ONLY:
        library.impl(name, _refusal(name), "CPU")


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
    return importlib.import_module(".triton.operators", __package__)


# --- lengths of packed weights, for the fakes; dtypes by name ---


def packed_block_bytes(
    device: str, channels: tuple[int, int, int], expand: bool, dtype: str, activation: str, **options: Any
) -> int:
    """``channels``: in, expanded, out. ``options`` are those of pack_block."""
    if backend(device) == "cuda":
        return torch.ops.mnv2.cuda_block_bytes(
            *channels, expand, activation=activation, dtype=dtype, **options
        )
    from .triton.packing import block_packing

    return block_packing(*channels, expand, activation, getattr(torch, dtype)).nbytes


def packed_stem_bytes(
    device: str, in_channels: int, out_channels: int, dtype: str, activation: str, **options: Any
) -> int:
    if backend(device) == "cuda":
        return torch.ops.mnv2.cuda_stem_bytes(
            in_channels, out_channels, activation=activation, dtype=dtype, **options
        )
    return _triton_convolution_bytes(in_channels * KERNEL_TAPS, out_channels, dtype, activation)


def packed_head_pool_bytes(
    device: str, in_channels: int, out_channels: int, dtype: str, activation: str
) -> int:
    if backend(device) == "cuda":
        return torch.ops.mnv2.cuda_head_pool_bytes(
            in_channels, out_channels, activation=activation, dtype=dtype
        )
    return _triton_convolution_bytes(in_channels, out_channels, dtype, activation)


def packed_linear_bytes(device: str, in_features: int, out_features: int, dtype: str) -> int:
    if backend(device) == "cuda":
        return torch.ops.mnv2.cuda_linear_bytes(in_features, out_features, dtype=dtype)
    from .triton.packing import linear_packing

    return linear_packing(in_features, out_features, getattr(torch, dtype)).nbytes


def _triton_convolution_bytes(depth: int, out_channels: int, dtype: str, activation: str) -> int:
    from .triton.packing import convolution_packing

    return convolution_packing(depth, out_channels, activation, getattr(torch, dtype)).nbytes


# --- kernels ---


def _kernel(name: str, device_type: str) -> Callable[..., Tensor]:
    def kernel(*arguments: Any, **options: Any) -> Tensor:
        backend(device_type)
        run = getattr(triton_operators(name), name)
        device = next(argument.device for argument in arguments if isinstance(argument, Tensor))
        # Launches go to the current device and its current stream.
        with torch.accelerator.device_index(device.index):
            return run(*arguments, **options)

    return kernel


def _refusal(name: str) -> Callable[..., NoReturn]:
    where = "on cpu" if name in CPU_ONLY else "by CUDA kernels on NVIDIA's GPUs"

    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise RuntimeError(
            f"mnv2::{name}: runs {where} alone; FusedMobileNetV2 and what its deploy() returns call "
            "mnv2::network on cpu, mnv2::network_layers where CUDA kernels serve, else an operator a layer, "
            "which a CUDA graph can capture"
        )

    return refuse
