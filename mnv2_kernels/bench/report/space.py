"""Sections on memory: traffic, tensors and peaks, parts of the expanded channels, what these hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..bottleneck.zeros import ZerosRow
from ..memory import NETWORK, MemoryRow, SplitRow, SplitTotal, split_totals
from ..paper import TABLE_3_V1, TABLE_3_V2
from ..traffic.blocks import TrafficRow, sum_of
from ..traffic.callgrind import WAYS
from . import charts
from .content import NONE, Content, Table, Tile, kilobytes, megabytes, times

ALL_BLOCKS = "all blocks"


def traffic(rows: Sequence[TrafficRow]) -> Content:
    """What the last-level cache fetches for each block."""
    total = sum_of(rows, ALL_BLOCKS)
    first = rows[0]
    against, tiles = "", []
    if total.eager is not None:
        against = f", torch eager {megabytes(total.eager)} MB"
        share = f"1/{times(total.eager / total.fused)}"
        tiles.append(Tile(share, "of torch eager's memory traffic over all blocks"))
    return Content(
        finding=f"Fused, the blocks of a forward pass fetch {megabytes(total.fused)} MB, "
        f"{total.fused / total.floor:.2f} times their floor; unfused {megabytes(total.unfused)} MB{against}.",
        reading=f"Lines that a last-level cache of {first.cache_bytes >> 10} KiB fetches, {WAYS} ways, "
        f"simulated by callgrind; float32, batch 1, plans of {first.isa}. Floor: input, output and weights, "
        "each once. Unfused: the same microkernels, one convolution after another; its model moves each "
        "convolution's tensors once. Where less was measured, tensors stayed in the cache; where more, the "
        "input of a block without an expand was copied first. Torch eager: its better layout.",
        drawings=[charts.traffic(rows)],
        tables=[
            Table(
                columns=[
                    *("KB", "blocks", "floor", "fused", "of floor", "unfused", "unfused, model"),
                    *("torch eager", "channels_last"),
                ],
                rows=[
                    [
                        row.block,
                        str(row.blocks),
                        kilobytes(row.floor_bytes),
                        kilobytes(row.fused_bytes),
                        f"{row.floor_factor:.2f}×",
                        kilobytes(row.unfused_bytes),
                        kilobytes(row.unfused_model_bytes),
                        kilobytes(row.eager_bytes),
                        kilobytes(row.eager_channels_last_bytes),
                    ]
                    for row in rows
                ],
            )
        ],
        tiles=tiles,
    )


def memory(rows: Sequence[MemoryRow]) -> Content:
    """Tensors and peaks by resolution, beside the paper's table 3."""
    stages = [row for row in rows if row.paper_bytes is not None]
    network = next(row for row in rows if row.stage == NETWORK)
    met = sum(row.meets_paper for row in stages)
    share = None if network.fused_peak_bytes is None else network.fused_peak_bytes / network.eager_peak_bytes
    peak = "" if share is None else f" A whole forward pass takes {share:.0%} of torch eager's peak."
    return Content(
        finding=f"No tensor of the fused network is larger than V2's column of the paper's table 3 at {met} "
        f"of {len(stages)} resolutions.{peak}",
        reading=f"KB of {network.dtype} on {network.device}, 224 x 224, batch 1. Printed: the paper's, at "
        "16 bit, for more channels than its table 2 has; as computed: by table 2, at the dtype's width. "
        "Tensors: the largest that torch's allocator gave out; peaks: what lives at a time while a block "
        "runs, by its input's resolution; scratch: a thread's, outside of that allocator.",
        drawings=[charts.memory(stages)],
        tables=[
            Table(
                columns=[
                    *("KB", "V1, printed", "V2, printed", "V2, as computed", "fused tensor", "eager tensor"),
                    *("fused peak", "eager peak", "scratch"),
                ],
                rows=[_memory_line(row) for row in rows],
            )
        ],
        tiles=[]
        if share is None
        else [Tile(f"{share:.0%}", "of torch eager's peak memory in a forward pass")],
    )


def _memory_line(row: MemoryRow) -> list[str]:
    size = None if row.stage == NETWORK else int(row.stage.partition("x")[0])
    return [
        row.stage,
        f"{TABLE_3_V1[size][1]:,}" if size in TABLE_3_V1 else NONE,
        f"{TABLE_3_V2[size][1]:,}" if size in TABLE_3_V2 else NONE,
        kilobytes(row.paper_bytes),
        kilobytes(row.fused_tensor_bytes),
        kilobytes(row.eager_tensor_bytes),
        kilobytes(row.fused_peak_bytes),
        kilobytes(row.eager_peak_bytes),
        kilobytes(row.scratch_bytes),
    ]


def splits(rows: Sequence[SplitRow]) -> Content:
    """The paper's section 5.1: the expanded channels in t parts."""
    planned, *totals = split_totals(rows)
    fastest = min(totals, key=lambda total: total.ms)
    return Content(
        finding=f"In t parts over the whole image the blocks are fastest with t = {fastest.parts}: "
        f"{fastest.ms:.2f} ms. As the kernels plan, in strips of rows, they take {planned.ms:.2f} ms and "
        f"{planned.scratch_bytes / 1024:.0f} KiB of scratch instead of {fastest.scratch_bytes / 1024:.0f}.",
        reading="The paper, section 5.1, computes the expanded channels in t parts and finds 2 to 5 best. "
        "Here the depthwise results of all parts are kept for one projection over the full depth, so that "
        "a cut by channels makes the expanded tensor small, strips of rows make both small. One thread, "
        f"float32, {rows[0].isa}; medians of calls in turn.",
        drawings=[charts.splits(rows)],
        tables=[
            _by_parts("ms", ALL_BLOCKS, rows, lambda row: f"{row.ms:.3f}"),
            _by_parts("KiB of scratch", "largest", rows, lambda row: f"{row.scratch_bytes / 1024:.0f}"),
        ],
    )


def _by_parts(
    title: str, total: str, rows: Sequence[SplitRow], text: Callable[[SplitRow | SplitTotal], str]
) -> Table:
    """Blocks down, their total last, parts across."""
    totals = split_totals(rows)
    blocks = dict.fromkeys(row.block for row in rows)
    return Table(
        columns=[title, "plan", *(f"t = {each.parts}" for each in totals[1:])],
        rows=[
            *([block, *(text(row) for row in rows if row.block == block)] for block in blocks),
            [total, *map(text, totals)],
        ],
        marked=[total],
    )


def bottleneck(rows: Sequence[ZerosRow]) -> Content:
    """What a ReLU loses: of a spiral, and in the blocks of trained networks."""
    expanded = _mean((row.expanded_zero, row.expanded_channels) for row in rows)
    linear = _mean((row.linear_zero, row.channels) for row in rows)
    behind = _mean((row.relu_zero, row.channels) for row in rows)
    networks = ", ".join(dict.fromkeys(row.network for row in rows))
    return Content(
        finding=f"ReLU6 makes {expanded:.0%} of the expanded values zero; behind the project it would make "
        f"{behind:.0%} of the bottlenecks' values zero, where {linear:.0%} are.",
        reading="The paper's figure 1: a spiral in two dimensions goes by a random matrix into n, through a "
        "ReLU, and back by the pseudo-inverse. Lost are points of which fewer than two coordinates stay "
        f"above zero: no inverse finds them. The table has trained networks ({networks}), over all pixels of "
        f"{rows[0].photos} photographs: expanded channels that are zero for half, nine tenths or all of the "
        "pixels, and what the project returns, linear as it is, and if a ReLU6 came behind it.",
        drawings=[charts.bottleneck()],
        tables=[
            Table(
                columns=[
                    *("network", "block", "expanded", "zero", "half the pixels", "90 %", "all"),
                    *("returned", "zero, linear", "zero, by ReLU6", "90 %, by ReLU6"),
                ],
                rows=[
                    [
                        row.network,
                        row.block,
                        str(row.expanded_channels),
                        f"{row.expanded_zero:.0%}",
                        *map(str, (row.half_zero, row.mostly_zero, row.all_zero, row.channels)),
                        f"{row.linear_zero:.0%}",
                        f"{row.relu_zero:.0%}",
                        str(row.relu_mostly_zero),
                    ]
                    for row in rows
                ],
            )
        ],
    )


def _mean(shares: Iterable[tuple[float, int]]) -> float:
    """Of shares, each with its weight."""
    products, weights = zip(*((share * weight, weight) for share, weight in shares), strict=True)
    return sum(products) / sum(weights)
