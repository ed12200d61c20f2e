"""What the operators do under autograd, which they refuse, and under autocast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .batching import Argument


class _Refused(torch.autograd.Function):
    """A result whose backward is an error."""

    @staticmethod
    def forward(ctx: Any, op: str, kernel: Callable[[], Tensor], *tensors: Tensor) -> Tensor:
        ctx.op = op
        return kernel()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        raise _no_derivative(ctx.op, "backward")


def refuse_derivatives(op: torch._ops.OpOverload) -> Callable[..., Tensor]:
    """The kernel of ``op`` for the dispatch key Autograd: below it runs what has no derivative.

    torch.library's register_autograd would let forward mode pass, and give zero.
    """
    name = op._schema.name

    def kernel(keyset: torch._C.DispatchKeySet, *args: Argument, **options: Any) -> Tensor:
        def below() -> Tensor:
            with torch._C._AutoDispatchBelowAutograd():
                return op.redispatch(keyset & torch._C._after_autograd_keyset, *args, **options)

        if forward_ad._current_level >= 0 and any(map(_has_tangent, tensors_of(args))):
            raise _no_derivative(name, "forward-mode derivative")
        if not (torch.is_grad_enabled() and torch._C._any_requires_grad(*args)):
            return below()
        if torch._C._are_functorch_transforms_active():
            raise _no_derivative(name, "derivative")
        return _Refused.apply(name, below, *tensors_of(args))

    return kernel


def tensors_of(arguments: Iterable[Any]) -> Iterable[Tensor]:
    """Those among arguments of an operator and in its lists."""
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, (list, tuple)):
            yield from tensors_of(argument)


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None


def _no_derivative(op: str, kind: str) -> RuntimeError:
    return RuntimeError(
        f"{op} has no {kind}, it is for inference: call FusedMobileNetV2 or FusedInvertedResidual, whose "
        "derivatives are their layers', or the functions of mnv2_kernels.reference"
    )


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
