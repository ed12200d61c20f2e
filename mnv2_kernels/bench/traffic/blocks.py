"""Memory traffic of every block, measured: fused, unfused and torch eager, in a simulated last-level cache.

What is counted are the lines that the last-level cache fetches in one pass, for loads and for stores, in
bytes. A store to a line that is not there fetches it, too; that it is written back later is not counted. So
where a result leaves the cache, its bytes go over the bus once more than counted: fused the block's output,
unfused and eager also every expanded tensor, and with a gate all of them the depthwise output.

A pass finds the caches as a layer of a network does. Everything that the floor counts - input, packed
weights, output - has been replaced by other data, also in a cache that could hold all of it: each byte
costs at least one fetch. What a pass only works in (our scratch, torch's temporary tensors) is the memory
that the pass before it used, and in the cache as far as it fits. float32, batch 1, one thread,
channels_last in and out.

Unfused runs the same microkernels one convolution after another (csrc/cpu/measure/unfused-inl.h), each in
strips, so that it reads its input once. Eager is torch's convolution, BatchNorm and activation, and its
pool and product where there is a gate, Python's and torch's own data included.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from ... import _native, shapes
from ...dropin.fuse import fuse
from ...dropin.report import fusion_report
from ...layer import block_arguments, layer_shapes
from ...networks import layers_of
from ...packing.plans import describe_plan
from ..zoo import build_network
from . import count_blocks
from .callgrind import Count, TrafficError, check_cache, count_misses
from .count_eager import LAYOUTS

DEFAULT_CACHE = 1 << 20
# What fused is to reach: this many times the floor, and this share of eager's where images are large.
FLOOR_FACTOR = 1.1
EAGER_SHARE = 1 / 20
LARGE_IMAGE = 56

IMAGE_SIZE = 224

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}


@dataclass(frozen=True)
class TrafficRow:
    """One shape of block in one cache; all bytes are of one pass.

    ``l2_bytes`` is the second-level cache that the plan is for; eager's are None where it was left out.
    ``unfused_model_bytes`` is an unfused block's own floor: each convolution and the shortcut move what they
    read and write once.
    """

    KIND: ClassVar[str] = "traffic"
    block: str
    height: int
    blocks: int  # of the network
    isa: str
    plan: str
    l2_bytes: int
    scratch_bytes: int
    cache_bytes: int
    floor_bytes: int
    unfused_model_bytes: int
    fused_bytes: int
    unfused_bytes: int
    eager_bytes: int | None
    eager_channels_last_bytes: int | None

    @property
    def floor_factor(self) -> float:
        return self.fused_bytes / self.floor_bytes

    @property
    def better_eager_bytes(self) -> int | None:
        """Eager's in the layout that fetches less."""
        if self.eager_bytes is None or self.eager_channels_last_bytes is None:
            return None
        return min(self.eager_bytes, self.eager_channels_last_bytes)

    @property
    def eager_share(self) -> float | None:
        """Of eager's traffic in its better layout."""
        return None if self.better_eager_bytes is None else self.fused_bytes / self.better_eager_bytes

    @property
    def meets_floor(self) -> bool:
        return self.floor_factor <= FLOOR_FACTOR

    @property
    def meets_eager(self) -> bool:
        return self.height < LARGE_IMAGE or self.eager_share is None or self.eager_share <= EAGER_SHARE


@dataclass(frozen=True)
class StageTraffic:
    """All blocks of a network whose input has one height, or of all heights; bytes, eager's better layout."""

    stage: str
    floor: int
    fused: int
    unfused_model: int
    unfused: int
    eager: int | None


def by_stage(rows: Sequence[TrafficRow]) -> list[StageTraffic]:
    """The sums of each stage, the largest images first."""
    heights = dict.fromkeys(row.height for row in rows)
    return [sum_of([row for row in rows if row.height == height], f"{height}x{height}") for height in heights]


def sum_of(rows: Sequence[TrafficRow], stage: str) -> StageTraffic:
    """Of all blocks, repeated ones as often as the network has them."""

    def total(name: str) -> int:
        return sum(row.blocks * getattr(row, name) for row in rows)

    has_eager = all(row.better_eager_bytes is not None for row in rows)
    return StageTraffic(
        stage=stage,
        floor=total("floor_bytes"),
        fused=total("fused_bytes"),
        unfused_model=total("unfused_model_bytes"),
        unfused=total("unfused_bytes"),
        eager=total("better_eager_bytes") if has_eager else None,
    )


def parse_bytes(text: str) -> int:
    """Bytes of "256K", "1M" or a plain number. Raises TrafficError for anything else."""
    unit = text[-1:].upper() if text[-1:].upper() in ("K", "M") else ""
    digits = text[: len(text) - len(unit)]
    if not (digits.isascii() and digits.isdecimal()):
        raise TrafficError(f"a cache of {text!r}: expected bytes, such as 256K or 1M")
    return int(digits) * UNITS[unit]


def network_blocks(network: str) -> list[shapes.BlockShape]:
    """The blocks of one of networks.NETWORKS, batch 1."""
    layers = layer_shapes(layers_of(network), 1, IMAGE_SIZE, IMAGE_SIZE)
    return [shape for shape in layers if isinstance(shape, shapes.BlockShape)]


def measure_traffic(
    cache_bytes: int = DEFAULT_CACHE,
    blocks: Sequence[shapes.BlockShape] | None = None,
    eager: bool = True,
    l2_bytes: int | None = None,
    network: str = "mobilenet_v2",
) -> list[TrafficRow]:
    """A row for each different block, at 224 x 224, batch 1.

    Args:
        cache_bytes: the last-level cache, a power of two.
        blocks: all of the network's by default. Eager counts only blocks of it.
        network: one of networks.NETWORKS.
        eager: whether to count torch's layers, too, which takes minutes.
        l2_bytes: the second-level cache that plans are made for; by default this machine's, or half of the
            last-level cache where that is less: no plan is made for more than is simulated.

    Raises TrafficError where there is no valgrind or no such cache, or a program failed in it.
    """
    check_cache(cache_bytes)
    all_blocks = network_blocks(network)
    repeats = Counter(all_blocks if blocks is None else blocks)
    distinct = list(repeats)
    if l2_bytes is None:
        l2_bytes = min(_native.plan(**block_arguments(distinct[0]))["l2_bytes"], cache_bytes // 2)
    plans, fused, unfused = _count_blocks(distinct, cache_bytes, l2_bytes)
    eager_counts = {}
    if eager:
        modules = eager_modules(network)
        named = [(modules[all_blocks.index(shape)], shape) for shape in distinct]
        eager_counts = _count_eager(network, named, cache_bytes)
    rows = []
    for index, shape in enumerate(distinct):
        of_layouts = [eager_counts[layout][index].bytes if eager else None for layout in LAYOUTS]
        rows.append(
            TrafficRow(
                block=shapes.describe(shape),
                height=shape.height,
                blocks=repeats[shape],
                isa=plans[index]["isa"],
                plan=describe_plan(plans[index]),
                l2_bytes=l2_bytes,
                scratch_bytes=plans[index]["scratch_bytes"],
                cache_bytes=cache_bytes,
                floor_bytes=shape.floor_bytes(torch.float32),
                unfused_model_bytes=shape.unfused_bytes(torch.float32),
                fused_bytes=fused[index].bytes,
                unfused_bytes=unfused[index].bytes,
                eager_bytes=of_layouts[0],
                eager_channels_last_bytes=of_layouts[1],
            )
        )
    return rows


def _count_blocks(
    blocks: Sequence[shapes.BlockShape], cache_bytes: int, l2_bytes: int
) -> tuple[list[dict[str, Any]], list[Count], list[Count]]:
    """Plans, and counts of the fused and the unfused blocks."""
    arguments = [
        {**block_arguments(shape), "fused": fused, "l2_bytes": l2_bytes}
        for fused in (True, False)
        for shape in blocks
    ]
    plans, counts = run_counted("BlockRun", arguments, cache_bytes)
    return plans[: len(blocks)], counts[: len(blocks)], counts[len(blocks) :]


def run_counted(
    kind: str, blocks: Sequence[dict[str, Any]], cache_bytes: int
) -> tuple[list[dict[str, Any]], list[Count]]:
    """Plans and counts of blocks, each given by the arguments of ``_native``'s BlockRun or Int8BlockRun."""
    program = [str(Path(count_blocks.__file__)), _native.__file__, kind]
    counts, plans = count_misses(
        [sys.executable, "-I", "-S", *program, str(cache_bytes), json.dumps(blocks)], cache_bytes
    )
    _expect(len(blocks), counts)
    return json.loads(plans), counts


def eager_modules(network: str) -> tuple[str, ...]:
    """The names of the modules that compute the blocks of one of networks.NETWORKS, first to last.

    Raises BenchError where the library that the network comes from is not installed.
    """
    return fusion_report(fuse(build_network(network).eval())).fused


def _count_eager(
    network: str, blocks: Sequence[tuple[str, shapes.BlockShape]], cache_bytes: int
) -> dict[torch.memory_format, list[Count]]:
    inputs = [(name, (shape.batch, shape.in_channels, shape.height, shape.width)) for name, shape in blocks]
    program = ["-m", "mnv2_kernels.bench.traffic.count_eager", network, str(cache_bytes), json.dumps(inputs)]
    counts, _ = count_misses([sys.executable, *program], cache_bytes, simulate_at_start=False)
    _expect(len(LAYOUTS) * len(blocks), counts)
    return {layout: counts[index :: len(LAYOUTS)] for index, layout in enumerate(LAYOUTS)}


def _expect(number: int, counts: Sequence[Count]) -> None:
    if len(counts) != number:
        raise TrafficError(f"callgrind made {len(counts)} counts instead of {number}")
