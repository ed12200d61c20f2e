"""Tells whether a module of any class still computes what it did, by all attributes inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

from ..packing.snapshot import Snapshot

# What decides by itself, and not by what it holds.
_WITHOUT_ATTRIBUTES = (type, FunctionType, MethodType, ModuleType, Tensor, nn.Module)


class Watch(Snapshot):
    """Every attribute may decide what a module computes, and so may those of an object that it holds.

    Where the classes are known, Snapshot's few attributes are enough, and others may change without a new
    packing.

    Those are compared by identity, at one level: what happens inside a list, a dictionary, or an object that
    such an object holds is not seen. Nor is which tensor an attribute is: no operator computes with one that
    is neither parameter nor buffer, and hooks that keep their output in a module would cost a reading a call.
    """

    def __init__(self, root: nn.Module) -> None:
        super().__init__(root)
        attributes = tuple(part for each in _attributes(root) for part in each)
        self._state = self._state._replace(attributes=self._state.attributes + attributes)


def _attributes(root: nn.Module) -> Iterator[tuple[Mapping[str, Any], str, Any]]:
    seen: set[int] = set()
    for module in root.modules():
        for name, value in vars(module).items():
            if name.startswith("_") or isinstance(value, Tensor):
                continue
            yield vars(module), name, value
            if (
                not isinstance(value, _WITHOUT_ATTRIBUTES)
                and hasattr(value, "__dict__")
                and id(value) not in seen
            ):
                seen.add(id(value))
                yield from (
                    (vars(value), inner, held)
                    for inner, held in vars(value).items()
                    if not isinstance(held, Tensor)
                )
