"""The same module with other classes: without kernels, or without what ``fuse`` did."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy

import torch
from torch import nn

from ..packing.cache import PackedCache

# A class by a module and its name; None where the module serves as it is, with all inside.
ClassOf = Callable[[nn.Module, str], type[nn.Module] | None]


def twin_of(module: nn.Module, class_of: ClassOf) -> nn.Module:
    """A module of the same tensors and hooks, whose modes, attributes and submodules are its own."""
    return _twin(module, "", class_of, {})


def _twin(module: nn.Module, name: str, class_of: ClassOf, made: dict[nn.Module, nn.Module]) -> nn.Module:
    if module in made:
        return made[module]
    kind = None if isinstance(module, torch.jit.ScriptModule) else class_of(module, name)
    if kind is None:
        return module
    twin = made[module] = kind.__new__(kind)
    for attribute, value in vars(module).items():
        if not isinstance(value, PackedCache):
            vars(twin)[attribute] = copy(value) if isinstance(value, (dict, set)) else value
        elif kind is type(module):
            vars(twin)[attribute] = deepcopy(value)
    for child_name, child in module._modules.items():
        if child is not None:
            path = f"{name}.{child_name}".lstrip(".")
            twin._modules[child_name] = _twin(child, path, class_of, made)
    return twin
