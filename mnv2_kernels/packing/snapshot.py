"""Tells whether a module still is what it was, without reading all of its weights.

Packed weights are a copy, and nothing announces a change of the original: a parameter may be edited in place,
given other data or replaced, a convolution may get another stride, a layer may be swapped. A snapshot records
the objects and numbers that all of these leave traces in; ``_native.unchanged`` compares them.

A write through ``.data`` or NumPy leaves no trace but the new values: torch does not count it. Reading all
14 MB of MobileNetV2 1.0 would take a tenth of a call. Every look therefore reads, of tensors on the CPU,

- every byte of vectors (BatchNorm's, biases), of weights of at most 64 KiB or with rows of at most 64 bytes,
  and of weights without a version (inference tensors);
- of each larger weight at least 16 bytes of every row, which is an output channel, in columns that go from
  the first to the last, so that every input channel is met, too;
- all of one in ``ROUNDS`` bytes of these weights, other ones each time.

So a write is seen by the next look if it changes a vector or a small weight, or all elements of an output or
input channel; one that changes other elements of a larger weight is seen by one of the next ``ROUNDS`` looks.
Tensors on other devices are compared by torch's version alone.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._C import _functorch as functorch

from .. import _native

# What decides, beside tensors and children, what a module computes.
CONVOLUTION_ATTRIBUTES = ("stride", "padding", "dilation", "groups", "padding_mode")
OTHER_ATTRIBUTES = ("eps", "min_val", "max_val", "use_res_connect")

# Weights of at most this size are read whole in every look: in MobileNetV2 1.0 all depthwise ones and those
# of the stem and the first seven blocks.
WHOLE_BYTES = 64 * 1024

# Looks until every byte has been read. A round of MobileNetV2 1.0 is 65 KB.
ROUNDS = 200

# A cache line, what a digest takes at a time, and about the size of torch's tensor.
LINE_BYTES = 64
PAIR_BYTES = 16
TENSOR_BYTES = 256


class State(NamedTuple):
    """What ``_native.unchanged`` compares, in its order."""

    dicts: tuple[Mapping[Any, Any], ...]
    contents: tuple[tuple[Any, ...], ...]
    modules: tuple[Mapping[str, Any], ...]  # their attributes
    module_sizes: bytes  # how many; numbers are native uint64
    attributes: tuple[Any, ...]  # flattened (dict, name, object)
    empty_dicts: tuple[Mapping[Any, Any], ...]
    data_ptr: Callable[[Tensor], int]
    tensors: tuple[Tensor, ...]
    addresses: bytes  # what data_ptr gives for each
    numel: Callable[[Tensor], int]
    weights: tuple[Tensor, ...]  # those of more than one dimension
    sizes: bytes  # what numel gives for each
    sampled: tuple[Tensor, ...]  # those whose bytes are not all in the digest
    versions: bytes
    regions: bytes  # what every look reads, as _native.memory_digest takes it
    digest: bytes
    rounds: tuple[bytes, ...]  # what one look in ROUNDS reads beside it
    round_digests: bytes
    lines: bytes  # addresses of the tensors' own memory, to be fetched together


class Snapshot:
    """State of the modules inside ``root``, their hooks and all tensors, but not of root's attributes."""

    def __init__(self, root: nn.Module) -> None:
        modules = list(root.modules())
        self._inner = tuple(modules[1:])
        self._classes = tuple(map(type, self._inner))
        self._forwards = _forwards(self._classes)
        self.tensors = tuple(watched_tensors(modules))
        # While it is held, memory that a tensor has left cannot come back under the same address.
        self._memory = tuple(tensor.detach() for tensor in self.tensors)
        self._state = _state(modules, self.tensors)
        self._looks = itertools.count()

    def holds(self) -> bool:
        return _native.unchanged(self._state, next(self._looks)) and self._has_same_classes()

    def _has_same_classes(self) -> bool:
        """A class may be swapped under an object, as parametrizations do it, or be given another forward."""
        return tuple(map(type, self._inner)) == self._classes and all(
            each.forward is forward for each, forward in self._forwards
        )


def _forwards(classes: Iterable[type[nn.Module]]) -> tuple[tuple[type[nn.Module], Any], ...]:
    return tuple((each, each.forward) for each in set(classes))


def watched_tensors(modules: Iterable[nn.Module]) -> Iterable[Tensor]:
    for module in modules:
        for tensors in (module._parameters, module._buffers):
            yield from (
                tensor for tensor in tensors.values() if tensor is not None and _may_be_packed(tensor)
            )


def _may_be_packed(tensor: Tensor) -> bool:
    """Whether it is a weight, of floats or bytes; BatchNorm's count of batches is neither."""
    return tensor.is_floating_point() or tensor.dtype in (torch.int8, torch.uint8)


def can_watch(tensor: Tensor) -> bool:
    """Whether a tensor has memory and a version to compare: no subclass, none wrapped by torch.func.

    Nor one without strides, as mkldnn and sparse tensors are.
    """
    if type(tensor) not in (Tensor, nn.Parameter) or functorch.is_functorch_wrapped_tensor(tensor):
        return False
    if tensor.layout is not torch.strided:
        return False
    return _has_memory(tensor) or not tensor.is_inference()


def _state(modules: list[nn.Module], tensors: tuple[Tensor, ...]) -> State:
    inner = modules[1:]
    hooks = [held for module in inner for held in (module._forward_pre_hooks, module._forward_hooks)]
    children = [held for each in modules for held in (each._modules, each._parameters, each._buffers)]
    dicts: list[Mapping[Any, Any]] = [held for held in (*children, *hooks) if held]
    weights = tuple(tensor for tensor in tensors if tensor.dim() > 1)
    rows = {tensor: _Rows.of(tensor) for tensor in tensors if _has_memory(tensor)}
    sampled = tuple(tensor for tensor in tensors if tensor not in rows or rows[tensor].are_sampled)
    large = [rows[tensor] for tensor in sampled if tensor in rows]
    whole = [each for each in rows.values() if not each.are_sampled]
    regions = b"".join([each.whole() for each in whole] + [each.diagonal() for each in large])
    rounds = _rounds(large)
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
        sampled=sampled,
        versions=_words(*(tensor._version for tensor in sampled)),
        regions=regions,
        digest=_words(_native.memory_digest(regions)),
        rounds=rounds,
        round_digests=_words(*map(_native.memory_digest, rounds)),
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


def _has_memory(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.layout == torch.strided


@dataclass(frozen=True)
class _Rows:
    """A tensor's memory by its first dimension, or as one row where it is read whole and has no gaps."""

    address: int
    row_bytes: int
    step: int
    count: int
    are_sampled: bool

    @classmethod
    def of(cls, tensor: Tensor) -> _Rows:
        if tensor.numel() == 0:
            return cls(tensor.data_ptr(), 0, 0, 1, are_sampled=False)
        count, *inner = tensor.shape or (1,)
        stride, *inner_strides = tensor.stride() or (1,)
        size = tensor.element_size()
        row = size * (1 + sum((length - 1) * each for length, each in zip(inner, inner_strides, strict=True)))
        step = size * stride
        all_bytes = (count - 1) * step + row
        # Inference tensors have no version.
        sampled = (
            tensor.dim() > 1 and all_bytes > WHOLE_BYTES and row > LINE_BYTES and not tensor.is_inference()
        )
        if step < row or (step == row and not sampled):
            return cls(tensor.data_ptr(), all_bytes, 0, 1, are_sampled=False)
        return cls(tensor.data_ptr(), row, step, count, sampled)

    def whole(self) -> bytes:
        return _words(self.address, self.row_bytes, self.step, self.count, 1)

    def diagonal(self) -> bytes:
        """Pieces of each row, long enough to come from the first to the last column within these rows."""
        piece = min(math.ceil(self.row_bytes / self.count / PAIR_BYTES) * PAIR_BYTES, self.row_bytes)
        columns, rest = divmod(self.row_bytes, piece)
        pieces = _words(self.address, piece, self.step, self.count, columns)
        if rest == 0:
            return pieces
        return pieces + _words(self.address + columns * piece, rest, self.step, self.count, 1)

    @property
    def all_bytes(self) -> int:
        return self.row_bytes * self.count

    def part(self, begin: int, end: int) -> bytes:
        """The rows that have a byte from ``begin`` to ``end`` of all_bytes."""
        first, last = begin // self.row_bytes, -(-end // self.row_bytes)
        address = self.address + first * self.step
        if self.step == self.row_bytes:
            return _words(address, self.row_bytes * (last - first), 0, 1, 1)
        return _words(address, self.row_bytes, self.step, last - first, 1)


def _rounds(large: list[_Rows]) -> tuple[bytes, ...]:
    """What each round reads: all bytes of ``large`` in turn, about as many in each."""
    total = sum(each.all_bytes for each in large)
    bounds = [total * index // ROUNDS for index in range(ROUNDS + 1)]
    starts = list(itertools.accumulate((each.all_bytes for each in large), initial=0))
    spans = list(zip(large, itertools.pairwise(starts), strict=True))
    return tuple(
        b"".join(
            rows.part(max(begin - start, 0), min(end, stop) - start)
            for rows, (start, stop) in spans
            if begin < stop and start < end
        )
        for begin, end in itertools.pairwise(bounds if large else ())
    )


def _words(*numbers: int) -> bytes:
    return struct.pack(f"{len(numbers)}Q", *numbers)
