"""Memory of a forward pass: the tensors that are materialised, peaks, and what a cut by channels would take.

The paper's Table 3 (arXiv 1801.04381) gives, for each resolution, the largest tensor that has to exist, at
16 bit; its V2 column counts what blocks hand on and no expanded tensor, nor the stem's result, which is the
first block's expanded tensor. Beside it stand torch's own records: every allocation of the fused blocks and
of eager layers, and the peak of what lives while a block runs. Memory that oneDNN takes for itself is not
among them; our kernels' scratch is not either and has a column of its own.

The paper's section 5.1 cuts the expanded channels in t parts, whose projections it sums up. Our kernels
expand part by part, too, but keep all depthwise results for one project over the full depth: its sums stay
in registers. So a cut by channels makes the expanded tensor small, strips of rows make both small.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from .. import _native, shapes
from ..dtypes import dtype_name
from ..layer import block_arguments
from ..nn.mobilenet_v2 import FusedMobileNetV2
from ..nn.networks import eager_copy
from ..packing.packed_layers import PackedLayers, pack_layers
from ..packing.plans import layer_plans
from ..timing import interleaved_medians
from . import BenchError

DeviceName = Literal["cpu", "cuda"]

NETWORK = "network"
STEM = 1  # modules in front of the blocks
LONGEST_SPLIT = 8

# torch.profiler's library reports every start and stop on stderr unless it is told not to.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

# The events of torch.profiler's trace, and its number for each type of device.
MEMORY_EVENT = "[memory]"
DEVICE_NUMBERS = {"cpu": 0, "cuda": 1}


class MemoryUseError(BenchError):
    """There is no such device, or no kernel on it."""


@dataclass(frozen=True)
class MemoryRow:
    """One resolution, or the whole network; bytes, batch 1.

    Tensors belong to their own resolution, peaks (with a block's input) and scratch to that of the block's
    input. The paper's bytes are at the dtype's width. scratch_bytes are a thread's, outside of torch's
    allocator; None on a GPU. A network's fused peak is what the operator takes from the C library and torch,
    scratch included; None where the C library does not tell.
    """

    KIND: ClassVar[str] = "memory"
    stage: str
    dtype: str
    device: str
    paper_channels: int | None
    paper_bytes: int | None
    fused_tensor_bytes: int | None
    eager_tensor_bytes: int | None
    fused_peak_bytes: int | None
    eager_peak_bytes: int
    scratch_bytes: int | None = None

    @property
    def meets_paper(self) -> bool:
        """Whether the fused blocks materialise no larger tensor than the paper's V2 column has."""
        if self.fused_tensor_bytes is None or self.paper_bytes is None:
            return True
        return self.fused_tensor_bytes <= self.paper_bytes


@dataclass(frozen=True)
class SplitRow:
    """One block with its expanded channels in parts, each over the whole image; 0 parts: as planned.

    Parts are of whole panels of weights, so that a few channels are fewer parts than asked for;
    ``chunk_channels`` are expanded at a time. ``ms`` is a median.
    """

    KIND: ClassVar[str] = "memory-split"
    block: str
    blocks: int  # of the network
    isa: str
    parts: int
    chunk_channels: int
    scratch_bytes: int
    ms: float


@dataclass(frozen=True)
class SplitTotal:
    """All blocks of the network in this number of parts: the sum of their times, and the largest scratch."""

    parts: int
    ms: float
    scratch_bytes: int


@dataclass(frozen=True)
class Allocations:
    """Of one call: the largest piece of memory, and the peak of all that lives at a time, in bytes."""

    largest: int
    peak: int


def measure_memory(dtype: torch.dtype = torch.float16, device: DeviceName = "cpu") -> list[MemoryRow]:
    """A row for each resolution of MobileNetV2 1.0 at 224 x 224, the largest first, then one of the network.

    Raises MemoryUseError where there is no such device or no kernel on it.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MemoryUseError("no GPU that torch can use")
    model = FusedMobileNetV2().eval().to(device=device, dtype=dtype)
    layers = eager_copy(model)
    network = shapes.mobilenet_v2()
    plans = _block_plans(model) if device == "cpu" else [None] * len(network.blocks)
    # The largest of each resolution, by the column of MemoryRow.
    largest: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def keep_larger(column: str, size: int, number: int) -> None:
        largest[column][size] = max(largest[column][size], number)

    with torch.inference_mode():
        for index, (shape, plan) in enumerate(zip(network.blocks, plans, strict=True)):
            x = _image(shape, dtype, device)
            input_bytes = shape.input_bytes(dtype)
            fused = _fused_allocations(model.features[STEM + index], x)
            keep_larger("fused_tensor_bytes", shape.out_height, fused.largest)
            keep_larger("fused_peak_bytes", shape.height, input_bytes + fused.peak)
            for size, layer in _layer_allocations(layers.features[STEM + index].conv, x):
                keep_larger("eager_tensor_bytes", size, layer.largest)
            eager = allocations(partial(layers.features[STEM + index], x), x.device)
            keep_larger("eager_peak_bytes", shape.height, input_bytes + eager.peak)
            if plan is not None:
                keep_larger("scratch_bytes", shape.height, plan["scratch_bytes"])
        whole = _network_row(model, layers, dtype, device)
    rows = [
        MemoryRow(
            stage=f"{size}x{size}",
            dtype=dtype_name(dtype),
            device=device,
            paper_channels=channels,
            paper_bytes=channels * size * size * dtype.itemsize,
            **{column: sizes[size] for column, sizes in largest.items()},
        )
        for size, channels in paper_channels(network).items()
    ]
    return [*rows, whole]


def paper_channels(network: shapes.NetworkShape) -> dict[int, int]:
    """The most channels between blocks, for each resolution: the V2 column of the paper's Table 3."""
    most: dict[int, int] = {}
    for block in network.blocks:
        most[block.out_height] = max(most.get(block.out_height, 0), block.out_channels)
    return most


def measure_splits(rounds: int) -> Iterator[SplitRow]:
    """Times every different block with an expand as planned and in 1 to 8 parts, interleaved, one thread."""
    repeats = Counter(block for block in shapes.mobilenet_v2().blocks if block.expand)
    for shape, blocks in repeats.items():
        runs = {
            parts: _native.BlockRun(**block_arguments(shape), channel_segments=parts)
            for parts in range(LONGEST_SPLIT + 1)
        }
        medians = interleaved_medians({str(parts): run.run for parts, run in runs.items()}, rounds)
        for parts, run in runs.items():
            yield SplitRow(
                block=shapes.describe(shape),
                blocks=blocks,
                isa=run.plan["isa"],
                parts=parts,
                chunk_channels=min(run.plan["chunk_channels"], shape.expanded_channels),
                scratch_bytes=run.plan["scratch_bytes"],
                ms=medians[str(parts)],
            )


def split_totals(rows: Sequence[SplitRow]) -> list[SplitTotal]:
    """A total for each number of parts; the first is that of 0 parts, as planned."""
    totals = []
    for parts in sorted({row.parts for row in rows}):
        of_parts = [row for row in rows if row.parts == parts]
        ms = sum(row.blocks * row.ms for row in of_parts)
        totals.append(SplitTotal(parts, ms, max(row.scratch_bytes for row in of_parts)))
    return totals


def allocations(function: Callable[[], object], device: torch.device) -> Allocations:
    """What torch's allocator for a device hands out during a call.

    The peak is the allocator's events summed up on a CPU and torch.cuda.max_memory_allocated's on a GPU.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    with profile(activities=activities, profile_memory=True) as profiler:
        kept = function()
    changes = _changes(profiler, DEVICE_NUMBERS[device.type])
    peak = max(accumulate(changes), default=0)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) - before
    del kept
    return Allocations(max(changes, default=0), peak)


def _changes(profiler: profile, device_number: int) -> list[int]:
    """Bytes taken, or given back as negative numbers, in the order of time."""
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    memory = [event for event in events if event.get("name") == MEMORY_EVENT]
    memory.sort(key=lambda event: event["args"]["Ev Idx"])
    return [event["args"]["Bytes"] for event in memory if event["args"]["Device Type"] == device_number]


def _fused_allocations(block: Any, x: Tensor) -> Allocations:
    # The operator itself: where it has no kernel, a module would run its layers instead.
    operator = pack_layers([block.fusion()])
    try:
        operator(x)
    except (NotImplementedError, RuntimeError) as error:
        raise MemoryUseError(f"no fused block on {x.device.type}: {str(error).splitlines()[0]}") from error
    return allocations(lambda: operator(x), x.device)


def _layer_allocations(layers: nn.Sequential, x: Tensor) -> Iterator[tuple[int, Allocations]]:
    """Of each layer on the last one's result, with that result's height."""
    for layer in layers:
        y = layer(x)
        yield y.shape[-2], allocations(partial(layer, x), x.device)
        x = y


def _block_plans(model: FusedMobileNetV2) -> list[dict[str, Any]]:
    network = model.deploy().network
    assert isinstance(network, PackedLayers)  # all of it is on the CPU
    size = shapes.mobilenet_v2().stem.height
    _, *plans = layer_plans(network.packed, torch.empty(1, 3, size, size), 1)
    return plans[: len(shapes.mobilenet_v2().blocks)]


def _network_row(model: FusedMobileNetV2, layers: nn.Module, dtype: torch.dtype, device: str) -> MemoryRow:
    stem = shapes.mobilenet_v2().stem
    x = _image(stem, dtype, device)
    layers(x)
    eager = allocations(lambda: layers(x), x.device)
    deployed = model.deploy()
    if device == "cpu":
        fused = _held_bytes(lambda: deployed(x))
    else:
        deployed(x)
        fused = allocations(lambda: deployed(x), x.device).peak
    return MemoryRow(
        stage=NETWORK,
        dtype=dtype_name(dtype),
        device=device,
        paper_channels=None,
        paper_bytes=None,
        fused_tensor_bytes=None,
        eager_tensor_bytes=None,
        fused_peak_bytes=fused,
        eager_peak_bytes=eager.peak,
    )


def _held_bytes(function: Callable[[], object]) -> int | None:
    """What a call on a new thread holds of the C library's memory when it returns, with its result.

    Our kernels keep a thread's scratch until the thread ends, so this is their peak. None without glibc 2.33.
    """
    heap = _heap_bytes()
    if heap is None:
        return None
    held = []

    def call() -> None:
        torch.set_num_threads(1)
        before = heap()
        with torch.inference_mode():
            kept = function()
        held.append(heap() - before)
        del kept

    thread = Thread(target=call)
    thread.start()
    thread.join()
    return held[0]


MALLINFO2_FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO2_FIELDS]


def _heap_bytes() -> Callable[[], int] | None:
    """A function that tells how much memory malloc has given out; None where the C library has none."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return None
    library.mallinfo2.restype = _Mallinfo2

    def given_out() -> int:
        info = library.mallinfo2()
        return info.uordblks + info.hblkhd

    return given_out


def _image(shape: shapes.BlockShape | shapes.StemShape, dtype: torch.dtype, device: str) -> Tensor:
    x = torch.rand(1, shape.in_channels, shape.height, shape.width, dtype=torch.float32)
    return x.to(device=device, dtype=dtype).to(memory_format=torch.channels_last)
