"""Tells whether a module still is what it was, without reading all of its weights.

Packed weights are a copy, and nothing announces a change of the original: a parameter may be edited in place,
given other data or replaced, a convolution may get another stride, a layer may be swapped. A snapshot records
the objects and numbers that all of these leave traces in; ``_native.unchanged`` compares them.

A write through ``.data`` or NumPy leaves no trace but the new values: torch does not count it. BatchNorm's
vectors are therefore compared by a digest of all their bytes, weights by torch's version and a sample of
their bytes: a write over a whole weight is seen, one of single elements that goes past torch's version may
not be.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._C import _functorch as functorch

from . import _native

# What decides, beside tensors and children, what a module computes.
CONVOLUTION_ATTRIBUTES = ("stride", "padding", "dilation", "groups", "padding_mode")
OTHER_ATTRIBUTES = ("eps", "min_val", "max_val", "use_res_connect")

WORD_BYTES = 8
SAMPLES = 16

# Of a cache line, and about of torch's tensor.
LINE_BYTES = 64
TENSOR_BYTES = 256


class State(NamedTuple):
    """What ``_native.unchanged`` compares, in its order."""

    dicts: tuple[Mapping[str, Any], ...]
    contents: tuple[tuple[Any, ...], ...]
    modules: tuple[Mapping[str, Any], ...]  # their attributes
    module_sizes: bytes  # how many; numbers are native uint64
    attributes: tuple[Any, ...]  # flattened (dict, name, object)
    empty_dicts: tuple[Mapping[str, Any], ...]
    data_ptr: Callable[[Tensor], int]
    tensors: tuple[Tensor, ...]
    addresses: bytes  # what data_ptr gives for each
    numel: Callable[[Tensor], int]
    weights: tuple[Tensor, ...]  # those whose bytes are not all in the digest
    sizes: bytes  # what numel gives for each
    versions: bytes
    regions: bytes  # (address, bytes, step in bytes)
    digest: bytes
    lines: bytes  # addresses of the tensors' own memory, to be fetched together


class Snapshot:
    """State of the modules inside ``root``, their hooks and all tensors, but not of root's attributes."""

    def __init__(self, root: nn.Module) -> None:
        modules = list(root.modules())
        self._inner = tuple(modules[1:])
        self._classes = tuple(map(type, self._inner))
        self._forwards = _forwards(self._classes)
        self.tensors = tuple(floating_tensors(modules))
        # While it is held, memory that a tensor has left cannot come back under the same address.
        self._memory = tuple(tensor.detach() for tensor in self.tensors)
        self._state = _state(modules, self.tensors)

    def holds(self) -> bool:
        return _native.unchanged(self._state) and self._has_same_classes()

    def _has_same_classes(self) -> bool:
        """A class may be swapped under an object, as parametrizations do it, or be given another forward."""
        return tuple(map(type, self._inner)) == self._classes and all(
            each.forward is forward for each, forward in self._forwards
        )


def _forwards(classes: Iterable[type[nn.Module]]) -> tuple[tuple[type[nn.Module], Any], ...]:
    return tuple((each, each.forward) for each in set(classes))


def floating_tensors(modules: Iterable[nn.Module]) -> Iterable[Tensor]:
    for module in modules:
        for tensors in (module._parameters, module._buffers):
            yield from (
                tensor for tensor in tensors.values() if tensor is not None and tensor.is_floating_point()
            )


def can_watch(tensor: Tensor) -> bool:
    """Whether a tensor has memory and a version to compare: no subclass, none wrapped by torch.func.

    Nor one without strides, as mkldnn and sparse tensors are.
    """
    if type(tensor) not in (Tensor, nn.Parameter) or functorch.is_functorch_wrapped_tensor(tensor):
        return False
    if tensor.layout is not torch.strided:
        return False
    return _has_dense_memory(tensor) or not tensor.is_inference()


def _state(modules: list[nn.Module], tensors: tuple[Tensor, ...]) -> State:
    inner = modules[1:]
    hooks = [held for module in inner for held in (module._forward_pre_hooks, module._forward_hooks)]
    dicts = [held for each in modules for held in (each._modules, each._parameters, each._buffers) if held]
    dicts += [held for held in hooks if held]
    weights = tuple(tensor for tensor in tensors if not _is_read_whole(tensor))
    regions = b"".join(map(_region, tensors))
    attributes = tuple(map(vars, inner))
    return State(
        dicts=tuple(dicts),
        contents=tuple(tuple(held.values()) for held in dicts),
        modules=attributes,
        module_sizes=_words(*map(len, attributes)),
        attributes=tuple(part for module in inner for part in _attributes(module)),
        empty_dicts=tuple(held for held in hooks if not held),
        data_ptr=Tensor.data_ptr,
        tensors=tensors,
        addresses=_words(*(tensor.data_ptr() for tensor in tensors)),
        numel=Tensor.numel,
        weights=weights,
        sizes=_words(*(tensor.numel() for tensor in weights)),
        versions=_words(*(tensor._version for tensor in weights)),
        regions=regions,
        digest=_words(_native.memory_digest(regions)),
        lines=_words(*(line for tensor in tensors for line in _lines(tensor))),
    )


def _attributes(module: nn.Module) -> Iterable[Any]:
    held = vars(module)
    names = CONVOLUTION_ATTRIBUTES if isinstance(module, nn.Conv2d) else OTHER_ATTRIBUTES
    for name in names:
        if name in held:
            yield from (held, name, held[name])
    # The mode of a norm or a dropout decides what it computes, that of a unit whether it runs its kernel.
    if "eps" in held or held["_modules"] or isinstance(module, nn.Dropout):
        yield from (held, "training", module.training)


def _lines(tensor: Tensor) -> Iterable[int]:
    """Hints for prefetching: the Python object, torch's tensor and its storage."""
    yield id(tensor)
    yield from range(tensor._cdata, tensor._cdata + TENSOR_BYTES, LINE_BYTES)
    yield tensor.untyped_storage()._cdata


def _has_dense_memory(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and (
        tensor.is_contiguous()
        or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
    )


def _is_read_whole(tensor: Tensor) -> bool:
    # Inference tensors have no version.
    return _has_dense_memory(tensor) and (tensor.dim() == 1 or tensor.is_inference())


def _region(tensor: Tensor) -> bytes:
    if not _has_dense_memory(tensor):
        return b""
    size = tensor.numel() * tensor.element_size()
    step = WORD_BYTES if _is_read_whole(tensor) else max(size // SAMPLES // WORD_BYTES, 1) * WORD_BYTES
    return _words(tensor.data_ptr(), size, step)


def _words(*numbers: int) -> bytes:
    return struct.pack(f"{len(numbers)}Q", *numbers)
