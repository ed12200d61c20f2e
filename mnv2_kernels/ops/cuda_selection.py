"""Which CUDA kernel serves the blocks of MobileNetV2 1.0, and why; needs no GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import torch

from .. import _native
from ..layer import block_arguments
from ..shapes import BlockShape, describe, mobilenet_v2

BATCHES = (256, 1)


class Gpu(TypedDict):
    """What decides the choice; ``capability`` is ten times the major number and the minor one."""

    multiprocessors: int
    capability: int
    shared_bytes: int


H100: Gpu = {"multiprocessors": 132, "capability": 90, "shared_bytes": 227 << 10}


@dataclass(frozen=True)
class CudaBlock:
    """The kernel of one stage of the network in float16."""

    stage: str
    batch: int
    kernel: str
    reason: str


def select_block(block: BlockShape, dtype: str, gpu: Gpu) -> dict[str, Any]:
    """Kernel, reason and packed_bytes of a block on a GPU with figures as H100 has them.

    Raises RuntimeError where the GPU has too little shared memory.
    """
    return _native.select_cuda_block(**block_arguments(block), dtype=dtype, **gpu)


def this_gpu() -> tuple[str, Gpu]:
    """Name and figures of this machine's NVIDIA GPU, an H100's where there is none."""
    if torch.version.cuda is None or not torch.cuda.is_available():
        return "an H100", H100
    properties: Any = torch.cuda.get_device_properties(torch.cuda.current_device())
    return properties.name, {
        "multiprocessors": properties.multi_processor_count,
        "capability": 10 * properties.major + properties.minor,
        "shared_bytes": properties.shared_memory_per_block_optin,
    }


def cuda_blocks(gpu: Gpu) -> tuple[CudaBlock, ...]:
    """Every distinct block of the network, once for each kernel that serves it at these batches."""
    rows = []
    for blocks in zip(*(mobilenet_v2(batch=batch).blocks for batch in BATCHES), strict=True):
        kernels: set[str] = set()
        for block in blocks:
            choice = _choice(block, gpu)
            if choice["kernel"] not in kernels:
                rows.append(CudaBlock(describe(block), block.batch, choice["kernel"], choice["reason"]))
            kernels.add(choice["kernel"])
    return tuple(dict.fromkeys(rows))


def _choice(block: BlockShape, gpu: Gpu) -> dict[str, Any]:
    try:
        return select_block(block, "float16", gpu)
    except RuntimeError as error:
        return {"kernel": "-", "reason": str(error)}
