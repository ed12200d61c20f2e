"""Every module of a model that may hold a part, read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..matching.parts import MOST_STEM_CHANNELS
from ..matching.read import Run, is_depthwise, is_kernel, read
from ..packing.packed_layers import outside_inference_mode
from ..shapes import KERNEL_SIZE


@dataclass
class Reading:
    """A module, its name and its runs."""

    name: str
    module: nn.Module
    runs: list[Run]


def check_model(caller: str, model: object) -> None:
    """Raises TypeError for what is no module."""
    if not isinstance(model, nn.Module):
        found = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"{caller}: expected a model, a torch.nn.Module, got {found}")


def survey(model: nn.Module) -> list[Reading]:
    """Every module of a model that may hold a part, from the outside in. Each is called, in eval mode.

    Raises ValueError where a lazy module has no weights yet.
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ValueError(f"{name} belongs to a lazy module and has no shape yet: call the model once")
    # Inference mode takes composite operators apart below the level at which they are read.
    with outside_inference_mode(), _all_in_eval(model):
        return list(_readings("", model, set()))


def _readings(name: str, module: nn.Module, seen: set[nn.Module]) -> Iterator[Reading]:
    kernels = [each for each in module.parameters() if is_kernel(each)]
    if module in seen or not any(map(_may_begin_a_part, kernels)):
        return
    seen.add(module)
    if not isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.Conv2d)):
        yield Reading(name, module, read(module))
    for child_name, child in module.named_children():
        yield from _readings(f"{name}.{child_name}".lstrip("."), child, seen)


def _may_begin_a_part(kernel: Tensor) -> bool:
    is_stem = kernel.shape[1] <= MOST_STEM_CHANNELS and kernel.shape[2] >= KERNEL_SIZE
    return is_stem or is_depthwise(kernel)


@contextmanager
def _all_in_eval(model: nn.Module) -> Iterator[None]:
    modes = [(each, each.training) for each in model.modules()]
    try:
        for each, _ in modes:
            each.training = False
        yield
    finally:
        for each, mode in modes:
            each.training = mode
