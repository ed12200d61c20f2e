"""A model repository of NVIDIA's Triton Inference Server, whose PyTorch backend runs programs of AOTInductor.

The layout, the names of tensors and the limits are those of the backend's documentation, for servers from
26.05 on: https://github.com/triton-inference-server/pytorch_backend. It batches no requests of such programs,
so that a request brings a batch itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

TYPES = {
    torch.uint8: "TYPE_UINT8",
    torch.float32: "TYPE_FP32",
    torch.float16: "TYPE_FP16",
    torch.bfloat16: "TYPE_BF16",
}

# By their order, which needs no names of the model's.
INPUT, OUTPUT = "INPUT__0", "OUTPUT__0"
VERSION, PROGRAM, CONFIG = "1", "model.pt2", "config.pbtxt"
ANY = -1

CONFIG_TEXT = """\
name: "{name}"
backend: "pytorch"
platform: "torch_aoti"
max_batch_size: 0
input [ {{ name: "{input}" data_type: {input_type} dims: [ {input_dims} ] }} ]
output [ {{ name: "{output}" data_type: {output_type} dims: [ {output_dims} ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
"""


def program_path(repository: Path, name: str) -> Path:
    """Where the server looks for a model's program."""
    return repository / name / VERSION / PROGRAM


def write_config(
    repository: Path, name: str, images: Tensor, result: Tensor, free: Sequence[int] = (0,)
) -> Path:
    """Writes a model's configuration: ``images`` and ``result`` are examples.

    ``free`` are the dimensions of the images that may have any size.
    """
    path = repository / name / CONFIG
    path.write_text(
        CONFIG_TEXT.format(
            name=name,
            input=INPUT,
            input_type=TYPES[images.dtype],
            input_dims=_dims(images, free),
            output=OUTPUT,
            output_type=TYPES[result.dtype],
            output_dims=_dims(result, (0,)),
        )
    )
    return path


def _dims(tensor: Tensor, free: Sequence[int]) -> str:
    return ", ".join(str(ANY if dim in free else size) for dim, size in enumerate(tensor.shape))
