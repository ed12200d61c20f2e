"""What this installation is: versions, build, the ISA and why, threads, GPUs, and who computes each op."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from dataclasses import asdict, dataclass
from typing import Any

import torch

from .. import __version__, _native
from ..dtypes import DTYPE_NAMES
from ..ops import gpu
from ..ops.cuda_selection import CudaBlock, cuda_blocks, this_gpu
from ..processor import FORCE_ISA_VARIABLE, processor

NAMESPACE = "mnv2::"
# Not operators of their own: what Triton's call first, and what fakes ask of CUDA's.
HELPERS = (f"{NAMESPACE}check_", f"{NAMESPACE}cuda_")


@dataclass(frozen=True)
class Isa:
    """One instruction set: whether this build has kernels for it and whether this processor runs them."""

    name: str
    compiled: bool
    supported: bool


@dataclass(frozen=True)
class OpBackends:
    """Who computes one operator on each kind of device; None where nobody does."""

    op: str
    cpu: str | None
    gpu: str | None


@dataclass(frozen=True)
class Info:
    """Everything `mnv2 info` shows."""

    versions: dict[str, str]
    build: dict[str, object]
    processor: str
    isas: tuple[Isa, ...]
    selected_isa: str  # for float32 weights
    selected_isas: dict[str, str]  # for weights of each dtype, and int8
    selection_reason: str
    threads: int
    logical_cpus: int
    cuda: str
    triton: str
    ops: tuple[OpBackends, ...]
    cuda_gpu: str  # that the CUDA kernels are selected for
    cuda_blocks: tuple[CudaBlock, ...]

    def as_json(self) -> dict[str, object]:
        """A dictionary that json can write."""
        return asdict(self)


def gather_info() -> Info:
    """Looks around. RuntimeError where MNV2_FORCE_ISA or MNV2_GPU_BACKEND names what cannot run here."""
    isa = _native.selected_isa()
    cuda_gpu, figures = this_gpu()
    build = _native.build_info()
    ops = tuple(_op_backends(name, isa) for name in _registered_ops())
    return Info(
        versions={
            "mnv2_kernels": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        build=build,
        processor=processor(),
        isas=tuple(Isa(**entry) for entry in every_isa().values()),
        selected_isa=isa,
        selected_isas={
            **{dtype: _native.selected_isa(dtype) for dtype in DTYPE_NAMES},
            "int8": _native.selected_int8_isa(),
        },
        selection_reason=_selection_reason(),
        threads=torch.get_num_threads(),
        logical_cpus=os.cpu_count() or 1,
        cuda=_cuda_state(),
        triton=_triton_state(),
        ops=ops,
        cuda_gpu=cuda_gpu,
        cuda_blocks=cuda_blocks(figures),
    )


def every_isa() -> dict[str, dict[str, Any]]:
    """What ``_native`` says of instruction sets, by name: those of float kernels, then int8's own."""
    return {isa["name"]: isa for isa in (*_native.isas(), *_native.int8_isas())}


def _selection_reason() -> str:
    if os.environ.get(FORCE_ISA_VARIABLE):
        return f"forced by {FORCE_ISA_VARIABLE}"
    return "the fastest for float32 that this build has and this processor runs"


def _cuda_state() -> str:
    library = f"library {'built' if gpu.CUDA_LIBRARY.exists() else 'not built'}"
    if gpu.has_cuda_kernels():
        library += f", tensors on GPUs go to {gpu.backend()} ({gpu.BACKEND_VARIABLE})"
    if torch.version.cuda is None:
        return f"{library}; this torch has no CUDA"
    if not torch.cuda.is_available():
        return f"{library}; torch has CUDA {torch.version.cuda}, but sees no GPU"
    return f"{library}; torch has CUDA {torch.version.cuda} on {torch.cuda.get_device_name()}"


def _triton_state() -> str:
    return f"{importlib.metadata.version('triton')} installed" if _has_triton() else "not installed"


def _registered_ops() -> list[str]:
    names = torch._C._dispatch_get_all_op_names()
    return sorted(name for name in names if name.startswith(NAMESPACE) and not name.startswith(HELPERS))


def _op_backends(name: str, isa: str) -> OpBackends:
    def registered(dispatch_key: str) -> bool:
        return torch._C._dispatch_has_kernel_for_dispatch_key(name, dispatch_key)

    operator, backend = name.removeprefix(NAMESPACE), gpu.backend()
    serves = _has_triton() if backend == "triton" else True
    on_gpu = serves and registered("CUDA") and operator not in gpu.CPU_ONLY
    return OpBackends(name, isa if registered("CPU") else None, backend if on_gpu else None)


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
