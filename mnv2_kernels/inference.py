"""The boundary between kernels without a backward and autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch as functorch
from torch.autograd import forward_ad

NO_BACKWARD = (
    "a module of FusedMobileNetV2 ran its inference kernel, as it does in eval mode; there is no backward "
    "through it, and its parameters or something before it require a gradient. To train call train(); for "
    "gradients in eval mode give the input one (x.requires_grad_()); or freeze what shall not train with "
    "requires_grad_(False)"
)


class _NoBackward(torch.autograd.Function):
    """Passes a kernel's result on and refuses the way back."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, source: Tensor) -> Tensor:
        ctx.mark_dirty(y)  # the same tensor, not a view of it: the next layer may work in place
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> None:
        raise RuntimeError(NO_BACKWARD)


class TrainableLinear(torch.autograd.Function):
    """A kernel's linear layer with torch's way back: a classifier on fused features may train."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, kernel: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        return kernel(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # Under autocast the result has another dtype than the arguments; autograd casts back.
        x, weight = (saved.to(gradient.dtype) for saved in ctx.saved_tensors)
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        return (
            gradient @ weight if wants_x else None,
            gradient.T @ x if wants_weight else None,
            gradient.sum(0) if wants_bias else None,
            None,
        )


_NODE = f"{_NoBackward.__name__}Backward"


def wants_gradient(x: Tensor) -> bool:
    """Whether a derivative may be asked for that leads through x: reverse, forward mode or torch.func."""
    if torch.compiler.is_compiling():
        return x.requires_grad and torch.is_grad_enabled()
    if forward_ad._current_level >= 0 or _is_differentiated_function(x):
        return True
    # Through a kernel there is no way back, whatever runs behind it.
    return x.requires_grad and torch.is_grad_enabled() and not _comes_from_kernel(x)


def is_traced() -> bool:
    """Whether this call is recorded, to be repeated later with other inputs and parameters."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_transformed(x: Tensor) -> bool:
    """Whether x is the argument of a function that torch.func transforms."""
    return functorch.is_functorch_wrapped_tensor(x)


def run_without_backward(
    operator: Callable[[Tensor], Tensor], x: Tensor, parameters: Iterable[Tensor]
) -> Tensor:
    """operator(x), through which a backward to one of ``parameters``, or further back than x, is an error."""
    if not torch.is_grad_enabled():
        return operator(x)
    source = x if x.requires_grad else next((each for each in parameters if each.requires_grad), None)
    return operator(x) if source is None else _NoBackward.apply(operator(x.detach()), source)


def check_is_tensor(x: object, shape: str) -> None:
    """Raises TypeError for an input that is no tensor; ``shape`` says which was expected."""
    # What is traced or wrapped by others may be no Tensor, but torch's functions take it.
    if not isinstance(x, Tensor) and not hasattr(type(x), "__torch_function__"):
        kind = type(x)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        raise TypeError(f"expected a Tensor {shape}, got {module}{kind.__qualname__}")


def _comes_from_kernel(x: Tensor) -> bool:
    return x.grad_fn is not None and x.grad_fn.name() == _NODE


def _is_differentiated_function(x: Tensor) -> bool:
    """Whether x is the argument of a function that torch.func transforms by more than a vmap."""
    wrapped = functorch.is_functorch_wrapped_tensor(x)
    if wrapped and torch.is_grad_enabled():
        return True
    while wrapped:
        if functorch.is_gradtrackingtensor(x):
            return True
        x = functorch.get_unwrapped(x)
        wrapped = functorch.is_functorch_wrapped_tensor(x)
    return False
