"""A fused model against the eager one and float64: every fused block, and every result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ... import _native
from ...accuracy import EAGER_FACTOR, MINIMUM_INPUTS
from ...bench.setting import random_images
from ...dropin.fused import is_fused
from ...dropin.report import FusionReport
from ...dtypes import DtypeName
from ...weights.models import Model, results
from ..verify import Part, PartResult, Verification, compare_part

# What a block was called with and gave, a call each.
Seen = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ModelVerification(Verification):
    """Everything `mnv2 verify --model` shows."""

    report: FusionReport


@torch.no_grad()
def verify_model(
    model: Model,
    photos: Sequence[Path],
    sizes: Sequence[int] = (),
    dtype: DtypeName = "float32",
    batch: int = 1,
) -> ModelVerification:
    """Compares every fused block, on what the eager model feeds it, and every result of the model.

    ``sizes``: height and width of images, the model's own where empty. Random images make up for fewer than
    eight photographs, and fill the last batch. Raises PhotoError where a photograph cannot be read.
    """
    eager = deepcopy(model.eager).to(memory_format=torch.channels_last).to(getattr(torch, dtype))
    fused, exact = deepcopy(model.fused).to(getattr(torch, dtype)), deepcopy(eager).double()
    parts: list[PartResult] = []
    for size in sizes or (model.size,):
        images = _images(model, photos, size, batch).to(getattr(torch, dtype))
        parts += _compared(model.report.fused, fused, eager, exact, images.split(batch))
    return ModelVerification(
        weights=model.name,
        dtype=dtype,
        batch=batch,
        inputs=len(images),
        photos=len(photos),
        isa=_native.selected_isa(dtype),
        threads=torch.get_num_threads(),
        eager_factor=EAGER_FACTOR,
        parts=tuple(parts),
        report=model.report,
    )


def _images(model: Model, photos: Sequence[Path], size: int, batch: int) -> Tensor:
    inputs = -(-max(len(photos), MINIMUM_INPUTS) // batch) * batch
    noise = random_images(inputs - len(photos), size)
    return torch.cat([model.images(photos, size), noise]) if photos else noise


def _compared(
    names: Sequence[str], fused: nn.Module, eager: nn.Module, exact: nn.Module, batches: Sequence[Tensor]
) -> Iterator[PartResult]:
    # A name may be that of a convolution, where one module holds several blocks: its results show them.
    blocks = [name for name in names if is_fused(fused.get_submodule(name))]
    seen: dict[str, Seen] = {name: [] for name in blocks}
    hooks = [
        eager.get_submodule(name).register_forward_hook(partial(_note, calls)) for name, calls in seen.items()
    ]
    eager_results = [results(eager, x) for x in batches]
    for hook in hooks:
        hook.remove()
    for name, calls in seen.items():
        if calls:
            inputs, outputs = zip(*calls, strict=True)
            functions = (each.get_submodule(name) for each in (fused, eager, exact))
            yield compare_part(Part(name, _shape(inputs[0], outputs[0]), *functions), inputs, outputs)
    for index, first in enumerate(eager_results[0]):
        name = "model" if len(eager_results[0]) == 1 else f"result {index}"
        part = Part(
            name, _shape(batches[0], first), *(_result(each, index) for each in (fused, eager, exact))
        )
        yield compare_part(part, batches, [each[index] for each in eager_results])


def _note(calls: Seen, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    if len(args) == 1 and isinstance(args[0], Tensor) and isinstance(output, Tensor):
        calls.append((args[0], output))


def _result(model: nn.Module, index: int) -> Callable[[Tensor], Tensor]:
    return lambda x: results(model, x)[index]


def _shape(x: Tensor, y: Tensor) -> str:
    return " to ".join("x".join(map(str, each.shape[1:])) for each in (x, y))
