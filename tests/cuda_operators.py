"""The operators of libmnv2_cuda: torch.ops.mnv2 on a GPU where there is one, else in the emulator.

In the emulator they are ``torch.ops.mnv2_emulated``, for tensors on the CPU.
"""

from __future__ import annotations

import pytest
import torch
from conftest import RELEASE
from torch import Tensor

from mnv2_kernels.ops import gpu

EMULATED = RELEASE / "libmnv2_emulated.so"
ON_GPU = torch.cuda.is_available() and gpu.SELECTED == "cuda" and gpu.has_cuda_kernels()
DEVICE = "cuda" if ON_GPU else "cpu"

if ON_GPU:
    OPS = torch.ops.mnv2
elif EMULATED.exists():
    torch.ops.load_library(EMULATED)
    OPS = torch.ops.mnv2_emulated
else:
    pytest.skip(
        "needs a GPU, or a build with MNV2_BUILD_TESTS=ON where CUDA's headers are", allow_module_level=True
    )

needs_gpu = pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
needs_cuda_library = pytest.mark.skipif(
    gpu.SELECTED != "cuda" or not gpu.has_cuda_kernels(), reason="this build has no CUDA kernels"
)


def to_device(tensors: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    return [None if tensor is None else tensor.to(DEVICE) for tensor in tensors]
