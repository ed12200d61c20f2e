"""Which kernels serve tensors on GPUs: Triton's, imported at the first call.

``MNV2_GPU_BACKEND`` names the backend; ``triton`` is the only one whose operators this package has.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.library import Library

BACKEND_VARIABLE = "MNV2_GPU_BACKEND"
BACKENDS = ("triton",)

# Of torch; AMD's GPUs are "cuda", too.
DEVICES = ("cuda", "xpu")

# An operator of the CPU alone: its packed layers are read on the host, and its gain is in calls.
CPU_ONLY = ("pack_network", "network", "network_seconds")


def register(library: Library, operators: tuple[str, ...]) -> None:
    """Registers the kernels of ``operators`` for GPUs, and the refusals of those that have none."""
    for device in DEVICES:
        for name in operators:
            library.impl(name, _kernel(name), device.upper())
        for name in CPU_ONLY:
            library.impl(name, _refusal(name), device.upper())


def backend() -> str:
    """The selected backend. Raises RuntimeError where MNV2_GPU_BACKEND names none."""
    name = os.environ.get(BACKEND_VARIABLE) or BACKENDS[0]
    if name not in BACKENDS:
        raise RuntimeError(f"{BACKEND_VARIABLE}={name}: expected one of {', '.join(BACKENDS)}")
    return name


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
    in_channels: int, expanded: int, out_channels: int, expand: bool, activation: str, dtype: str
) -> int:
    from .triton.packing import block_packing

    return block_packing(
        in_channels, expanded, out_channels, expand, activation, getattr(torch, dtype)
    ).nbytes


def packed_convolution_bytes(depth: int, out_channels: int, activation: str, dtype: str) -> int:
    from .triton.packing import convolution_packing

    return convolution_packing(depth, out_channels, activation, getattr(torch, dtype)).nbytes


def packed_linear_bytes(in_features: int, out_features: int, dtype: str) -> int:
    from .triton.packing import linear_packing

    return linear_packing(in_features, out_features, getattr(torch, dtype)).nbytes


# --- kernels ---


def _kernel(name: str) -> Callable[..., Tensor]:
    def kernel(*arguments: Any, **options: Any) -> Tensor:
        backend()
        run = getattr(triton_operators(name), name)
        device = next(argument.device for argument in arguments if isinstance(argument, Tensor))
        # Launches go to the current device and its current stream.
        with torch.accelerator.device_index(device.index):
            return run(*arguments, **options)

    return kernel


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise RuntimeError(
            f"mnv2::{name}: runs on cpu alone; on a GPU FusedMobileNetV2 and what its deploy() returns "
            "run an operator a layer, which a CUDA graph can capture"
        )

    return refuse
