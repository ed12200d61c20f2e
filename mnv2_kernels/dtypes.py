"""The floating-point types of the kernels: of images, and of packed weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

DtypeName = Literal["float32", "float16", "bfloat16"]
DTYPE_NAMES: tuple[DtypeName, ...] = get_args(DtypeName)
# In the order of packed_types in csrc/torch/checks.h, whose positions check_pack and check_run return.
DTYPES = tuple(getattr(torch, name) for name in DTYPE_NAMES)


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` of torch.float32, as ``_native`` takes it."""
    return str(dtype).removeprefix("torch.")


def weights_dtype(weights: Sequence[Tensor | None]) -> str:
    """The name of the dtype that the weights among these tensors have in common, else float32.

    Weights have more than one dimension; scales and biases, of any dtype, have one.
    """
    dtypes = {weight.dtype for weight in weights if weight is not None and weight.dim() > 1}
    common = dtypes.pop() if len(dtypes) == 1 else torch.float32
    return dtype_name(common if common in DTYPES else torch.float32)
