"""Counts the bytes that the Triton kernels move, in Triton's interpreter, beside the fused floor.

    TRITON_INTERPRET=1 python benchmarks/triton_traffic.py [--batch 1]

Every load and store of a program is recorded in sectors of 32 bytes; what a program reads again comes from
its caches, what another program has read before from a level-2 cache. That has 64 KiB, so little that a
single image of the early blocks does not fit it: GPUs have 4 MiB and more, for a batch. To be quick, blocks
run on images of at most 56 x 56 and with two steps of expanded channels, each of which reads all the input;
the floor is that of what runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any
from unittest import mock

import numpy as np
import torch
import typer
from triton.runtime.interpreter import interpreter_builder

from mnv2_kernels.shapes import BlockShape, describe, mobilenet_v2
from mnv2_kernels.triton.configs import Config, block_config
from mnv2_kernels.triton.inverted_residual import block_launch
from mnv2_kernels.triton.packing import Packing, block_packing

SECTOR = 32
CACHE_BYTES = 64 << 10
STEPS = 2
LARGEST_IMAGE = 56


class Memory:
    """Sectors that programs of a launch, one after the other, read from and write to behind the cache."""

    def __init__(self) -> None:
        self.read_sectors = 0
        self.written: set[int] = set()
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._program: set[int] = set()

    @property
    def bytes(self) -> int:
        return (self.read_sectors + len(self.written)) * SECTOR

    def load(self, addresses: np.ndarray) -> None:
        self._program.update(np.unique(addresses // SECTOR).tolist())

    def store(self, addresses: np.ndarray) -> None:
        self.written.update(np.unique(addresses // SECTOR).tolist())

    def end_program(self) -> None:
        for sector in self._program:
            if sector in self._cache:
                self._cache.move_to_end(sector)
                continue
            self.read_sectors += 1
            self._cache[sector] = None
            if len(self._cache) > CACHE_BYTES // SECTOR:
                self._cache.popitem(last=False)
        self._program.clear()


@contextmanager
def recorded() -> Iterator[Memory]:
    """The memory that kernels interpreted inside the block use."""
    memory = Memory()
    load, store = interpreter_builder.create_masked_load, interpreter_builder.create_masked_store
    start = interpreter_builder.set_grid_idx

    def recording_load(pointers: Any, mask: Any, *others: Any, **options: Any) -> Any:
        memory.load(pointers.data[mask.data.astype(bool)])
        return load(pointers, mask, *others, **options)

    def recording_store(pointers: Any, value: Any, mask: Any, *others: Any, **options: Any) -> Any:
        memory.store(pointers.data[mask.data.astype(bool)])
        return store(pointers, value, mask, *others, **options)

    def starting(*position: int) -> None:
        memory.end_program()
        start(*position)

    with (
        mock.patch.object(interpreter_builder, "create_masked_load", recording_load),
        mock.patch.object(interpreter_builder, "create_masked_store", recording_store),
        mock.patch.object(interpreter_builder, "set_grid_idx", starting),
    ):
        yield memory
    memory.end_program()


def cut(shape: BlockShape, config: Config) -> BlockShape:
    """The block on at most LARGEST_IMAGE pixels a side, with the expanded channels of STEPS steps."""
    size = min(shape.height, LARGEST_IMAGE)
    expanded = STEPS * config.bc if shape.expand else shape.expanded_channels
    return replace(shape, height=size, width=size, expanded_channels=expanded)


def floor(shape: BlockShape, packing: Packing, dtype: torch.dtype) -> int:
    """Bytes of input, output and packed weights, each once."""
    return shape.input_bytes(dtype) + shape.output_bytes(dtype) + packing.nbytes


def ratio(shape: BlockShape, config: Config, dtype: torch.dtype) -> float:
    """Bytes moved by a run of the block, over the floor."""
    packing = block_packing(shape, dtype)
    x = torch.zeros(shape.batch, shape.height, shape.width, shape.in_channels, dtype=dtype)
    y = torch.empty(shape.batch, shape.out_height, shape.out_width, shape.out_channels, dtype=dtype)
    packed = torch.zeros(packing.nbytes, dtype=torch.uint8)
    launch = block_launch(shape, packing, config, dtype, "ieee")
    with recorded() as memory:
        launch(x.permute(0, 3, 1, 2), packed, y.permute(0, 3, 1, 2))
    return memory.bytes / floor(shape, packing, dtype)


def main(batch: Annotated[int, typer.Option(min=1, help="Images.")] = 1) -> None:
    """Prints bytes moved over the floor for every block of MobileNetV2 at 224 x 224, float16."""
    for shape in dict.fromkeys(mobilenet_v2(batch=batch).blocks):
        config = block_config(shape, torch.float16, "hopper")
        print(f"{describe(shape):22} {ratio(cut(shape, config), config, torch.float16):.2f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
