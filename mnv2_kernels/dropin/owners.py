"""Which module holds a part: the largest one with its parameters and no others, if that is no list of one."""

from __future__ import annotations

import itertools
from collections import defaultdict

from torch import nn

from ..matching.parts import Part
from ..matching.replay import tensors_of

# A single layer of torch, which is no block however it is called.
_SINGLE_LAYERS = (nn.Conv2d, nn.Linear, nn.modules.batchnorm._NormBase)


# The names of all modules that register a tensor, by its id.
Users = dict[int, set[str]]


def users_of(module: nn.Module) -> Users:
    found: defaultdict[int, set[str]] = defaultdict(set)
    for name, each in module.named_modules():
        for tensors in (each._parameters, each._buffers):
            for tensor in tensors.values():
                if tensor is not None:
                    found[id(tensor)].add(name)
    return found


def outside_user(part: Part, owner: str, users: Users) -> str | None:
    """A module outside ``owner`` that registers a tensor of the part, too; None where there is none."""
    names = {name for tensor in tensors_of(part) for name in users.get(id(tensor), ())}
    outside = [name for name in names if owner and name != owner and not name.startswith(f"{owner}.")]
    return min(outside, default=None)


def owner_of(part: Part, module: nn.Module, users: Users) -> str:
    """The name of the module that holds ``part`` of ``module``."""
    named = [users[id(tensor)] for tensor in tensors_of(part) if id(tensor) in users]
    # A tensor that another module has as well does not say which of them this is.
    own = [names for names in named if len(names) == 1] or named
    path = _common([min(names).split(".") for names in own])
    while path and isinstance(module.get_submodule(".".join(path)), _SINGLE_LAYERS):
        path = path[:-1]
    tensors = set(map(id, tensors_of(part)))
    while path and _holds_no_more(module.get_submodule(".".join(path[:-1])), tensors):
        path = path[:-1]
    return ".".join(path)


def _common(paths: list[list[str]]) -> list[str]:
    """The names with which all paths begin."""
    levels = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return [names[0] for names in levels]


def _holds_no_more(module: nn.Module, own: set[int]) -> bool:
    is_list = isinstance(module, (nn.Sequential, nn.ModuleList))
    return not is_list and all(id(each) in own for each in module.parameters())
