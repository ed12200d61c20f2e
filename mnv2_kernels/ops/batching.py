"""vmap rules: a batch of inputs is a larger batch, a batch of weights a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# An argument of an operator, and the dimension over which each of its tensors is mapped.
Argument = Tensor | Sequence[Tensor] | None
Dim = int | Sequence[int | None] | None


def rule(op: Callable[..., Tensor], folds_first_input: bool) -> Callable[..., tuple[Tensor, int]]:
    """The vmap rule of ``op`` in the form of torch.library.register_vmap.

    ``folds_first_input`` says that op's first argument is (N, C, H, W) and the result's first dimension is N.
    """

    def batched(info: Any, in_dims: tuple[Any, ...], *args: Any, **options: Any) -> tuple[Tensor, int]:
        others_are_shared = all(map(_is_shared, in_dims[1:]))
        if folds_first_input and others_are_shared:
            return _fold(op, in_dims[0], *args, **options), 0
        results = [op(*_select(args, in_dims, index), **options) for index in range(info.batch_size)]
        return torch.stack(results), 0

    return batched


def _fold(op: Callable[..., Tensor], dim: int, x: Tensor, *others: Argument, **options: Any) -> Tensor:
    x = x.movedim(dim, 0)
    return op(x.flatten(0, 1), *others, **options).unflatten(0, x.shape[:2])


def _is_shared(dim: Dim) -> bool:
    return all(map(_is_shared, dim)) if isinstance(dim, Sequence) else dim is None


def _select(args: Sequence[Any], in_dims: Sequence[Dim], index: int) -> list[Any]:
    return [_at(arg, dim, index) for arg, dim in zip(args, in_dims, strict=True)]


def _at(arg: Any, dim: Dim, index: int) -> Any:
    if isinstance(dim, Sequence):
        return _select(arg, dim, index)
    if dim is None:
        return arg
    selected = arg.select(dim, index)
    return selected.contiguous() if selected.dim() == 1 else selected  # packed weights are read as bytes
