"""The boundary between kernels without a backward and autograd."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch as functorch
from torch.autograd import forward_ad

INFERENCE_TENSOR = (
    "a backward through a module of FusedMobileNetV2 runs its layers on the input and parameters of the "
    "forward, of which one was made in inference mode and cannot be saved: make it outside, or clone it there"
)

_thread = threading.local()


class _Recomputed(torch.autograd.Function):
    """A kernel's result, whose backward runs torch's layers and goes back through them.

    Tensors are saved, so that a change in place before the backward is the error that torch makes of it.
    """

    @staticmethod
    def forward(
        ctx: Any, kernel: Callable[[Tensor], Tensor], layers: Callable[..., Tensor], *sources: Tensor
    ) -> Tensor:
        ctx.layers = layers
        ctx.autocast = _autocast_as_now(sources[0].device.type)
        ctx.is_saved = not any(map(Tensor.is_inference, sources))
        if ctx.is_saved:
            ctx.save_for_backward(*sources)
        return _below_autograd(kernel, sources[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.is_saved:
            raise RuntimeError(INFERENCE_TENSOR)
        sources = ctx.saved_tensors  # may be asked for only once under torch.utils.checkpoint
        wanted = [
            wants and source.requires_grad
            for wants, source in zip(ctx.needs_input_grad[2:], sources, strict=True)
        ]
        is_differentiated = torch.is_grad_enabled()
        with torch.enable_grad(), ctx.autocast():
            # Views are where the way back ends: a source may itself depend on another one. With create_graph
            # the gradients stay functions of the sources.
            x, *tensors = (
                source.view_as(source) if wants else source.detach()
                for source, wants in zip(sources, wanted, strict=True)
            )
            y = ctx.layers(_in_dtype_of(tensors[0], x), *tensors).to(gradient.dtype)
        ends = [end for end, wants in zip((x, *tensors), wanted, strict=True) if wants]
        gradients = iter(torch.autograd.grad(y, ends, gradient, create_graph=is_differentiated))
        return None, None, *(next(gradients) if wants else None for wants in wanted)


def _in_dtype_of(weight: Tensor, x: Tensor) -> Tensor:
    """Kernels take float16 and bfloat16 images beside float32 weights, torch's layers do not."""
    return x.to(weight.dtype)


def _autocast_as_now(device: str) -> Callable[[], AbstractContextManager[None]]:
    """Makes a context in which autocast is as it is now."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext
    return partial(
        torch.autocast,
        device,
        dtype=torch.get_autocast_dtype(device),
        enabled=torch.is_autocast_enabled(device),
    )


@contextmanager
def eager_only() -> Iterator[None]:
    """Modules that run operators run torch's layers instead, in this thread."""
    before, _thread.eager = is_eager_only(), True
    try:
        yield
    finally:
        _thread.eager = before


def is_eager_only() -> bool:
    return getattr(_thread, "eager", False)


def needs_layers(x: Tensor) -> bool:
    """Whether torch's own layers are asked for, or only they have the derivative that may be asked for.

    It is one along x in a graph that is being made, in forward mode, or by torch.func.
    """
    if torch.compiler.is_compiling():
        return x.requires_grad and torch.is_grad_enabled()
    return is_eager_only() or forward_ad._current_level >= 0 or _is_differentiated_function(x)


def wants_gradient(x: Tensor) -> bool:
    """Whether a derivative may be asked for that leads through x: reverse, forward mode or torch.func."""
    return (x.requires_grad and torch.is_grad_enabled()) or needs_layers(x)


def is_traced() -> bool:
    """Whether this call is recorded, to be repeated later with other inputs and parameters."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_transformed(x: Tensor) -> bool:
    """Whether x is the argument of a function that torch.func transforms."""
    return functorch.is_functorch_wrapped_tensor(x)


def run_with_backward(
    kernel: Callable[[Tensor], Tensor], layers: Callable[..., Tensor], x: Tensor, tensors: Sequence[Tensor]
) -> Tensor:
    """kernel(x), with the gradients of layers(x, *tensors) where a backward may ask for one."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *tensors)):
        return _Recomputed.apply(kernel, layers, x, *tensors)
    return _below_autograd(kernel, x)


def _below_autograd(kernel: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    # The operator's autograd rule, which runs in Python, has nothing to add here and takes 8 to 15 us.
    with torch._C._AutoDispatchBelowAutograd():
        return kernel(x)


def check_is_tensor(x: object, shape: str) -> None:
    """Raises TypeError for an input that is no tensor; ``shape`` says which was expected."""
    # What is traced or wrapped by others may be no Tensor, but torch's functions take it.
    if not isinstance(x, Tensor) and not hasattr(type(x), "__torch_function__"):
        kind = type(x)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        raise TypeError(f"expected a Tensor {shape}, got {module}{kind.__qualname__}")


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
