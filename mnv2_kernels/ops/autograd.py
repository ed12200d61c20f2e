"""What the operators do under autograd, which they refuse, and under autocast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor


def refuse_backward(op: str) -> Callable[..., None]:
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(
            f"mnv2::{op} has no backward, it is for inference: call FusedMobileNetV2 or "
            f"FusedInvertedResidual, whose backward runs their layers, or the functions of "
            f"mnv2_kernels.reference"
        )

    return backward


def autocast(op: torch._ops.OpOverload, device: str) -> Callable[..., Tensor]:
    """x in autocast's dtype, as a convolution gets it, but weights at full precision, as computed with."""

    def kernel(x: Tensor, *others: Tensor | Sequence[Tensor] | None, **options: Any) -> Tensor:
        if x.is_floating_point() and x.dtype != torch.float64:
            x = x.to(torch.get_autocast_dtype(device))
        widened = [other.float() if _is_half(other) else other for other in others]
        with torch.autocast(device, enabled=False):
            return op(x, *widened, **options)

    return kernel


def _is_half(argument: Tensor | Sequence[Tensor] | None) -> TypeGuard[Tensor]:
    return isinstance(argument, Tensor) and argument.dtype in (torch.float16, torch.bfloat16)
