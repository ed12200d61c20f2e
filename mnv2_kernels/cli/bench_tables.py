"""Measurements as rich tables, each readable at 80 columns and without colour."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from ..bench.bottleneck.spiral import MATRICES, POINTS, Embedding
from ..bench.bottleneck.zeros import ZerosRow
from ..bench.compare import PeerRow
from ..bench.headlines import HeadlineRow
from ..bench.memory import NETWORK, MemoryRow, SplitRow, split_totals
from ..bench.roofline import RooflineRow
from ..bench.scaling import FLAT_FROM, FLAT_SHARE, ScalingRow, base_row, has_to_be_flat, is_flat
from ..bench.traffic.blocks import EAGER_SHARE, FLOOR_FACTOR, LARGE_IMAGE, TrafficRow
from ..bench.traffic.callgrind import WAYS
from ..bench.traffic.int8_blocks import FLOOR_FACTOR as INT8_FLOOR_FACTOR
from ..bench.traffic.int8_blocks import Int8TrafficRow
from .tables import count, facts_table, new_table, spaced

NONE = "-"
PLANNED = "plan"


def peers(rows: Sequence[PeerRow]) -> RenderableType:
    """One setting: a line for every peer, timed or not."""
    lines = new_table(
        texts=["peer"], numbers=["ms an image", "spread", "images/s", "of fused", "of peak", "error", "SQNR"]
    )
    reasons: dict[str, Text] = {}
    for row in rows:
        if row.spread is not None:
            lines.add_row(
                row.plain_title,
                f"{row.spread.median:.2f}",
                str(row.spread),
                f"{row.images_per_s:.0f}",
                NONE if row.ratio is None else f"{row.ratio:.2f}x",
                NONE if row.share is None else f"{row.share:.0%}",
                f"{row.error:.1e}{'' if row.accuracy == row.dtype else ' ' + row.accuracy}",
                NONE if row.sqnr is None else f"{row.sqnr:.1f} dB",
                style="bold" if row.ratio == 1 else None,
            )
        else:
            style = "bold red" if row.wrong else ""
            reasons[f"without {row.plain_title}"] = Text(row.obstacle or "", style=style)
    return spaced(Text(str(rows[0].setting), style="bold"), lines, facts_table(reasons))


PEERS_LEGEND = (
    "ms: median; spread: between the quartiles, of the median; of peak: the best call's multiply-adds, of "
    "the peak measured in the same run, for int8 of products of bytes; error: the largest of a logit "
    "against float64, of the largest logit; SQNR: of int8's logits, on photographs that did not calibrate it"
)


def traffic(rows: Sequence[TrafficRow]) -> RenderableType:
    """One line for each shape of block; what misses its bar has a star."""
    blocks = new_table(
        texts=["block", "plan"],
        numbers=["floor", "fused", "of floor", "unfused", "eager", "chan. last", "fused/eager"],
    )
    for row in rows:
        share = row.eager_share
        blocks.add_row(
            row.block,
            row.plan,
            _kb(row.floor_bytes),
            _kb(row.fused_bytes),
            _starred(f"{row.floor_factor:.2f}", row.meets_floor),
            _kb(row.unfused_bytes),
            _kb(row.eager_bytes),
            _kb(row.eager_channels_last_bytes),
            NONE if share is None else _starred(f"1/{1 / share:.1f}", row.meets_eager),
        )
    first = rows[0]
    about = {
        "cache": f"{first.cache_bytes >> 10} KiB, {WAYS} ways, simulated by callgrind",
        "counted": "KB that the cache fetches in a pass, for loads and stores; no write-backs",
        "floor": "input, output and packed weights, once, a gate's input twice; float32, batch 1, one thread",
        "plans": f"{first.isa}, for a second-level cache of {first.l2_bytes >> 10} KiB",
        "bars": f"fused at most {FLOOR_FACTOR:g} of the floor, and from {LARGE_IMAGE}x{LARGE_IMAGE} on "
        f"1/{1 / EAGER_SHARE:.0f} of eager; * misses",
    }
    return spaced(blocks, facts_table(about))


def int8_traffic(rows: Sequence[Int8TrafficRow]) -> RenderableType:
    """One line for each shape of block; what misses its bar has a star."""
    blocks = new_table(texts=["block"], numbers=["stored", "fetched", "of stored", "floor", "of floor"])
    for row in rows:
        blocks.add_row(
            row.block,
            _kb(row.stored_bytes),
            _kb(row.fused_bytes),
            _starred(f"{row.stored_factor:.3f}", row.meets_floor),
            _kb(row.floor_bytes),
            f"{row.floor_factor:.3f}",
        )
    first = rows[0]
    about = {
        "cache": f"{first.cache_bytes >> 10} KiB, {WAYS} ways, simulated by callgrind; int8 by {first.isa}",
        "fetched": "KB that the cache fetches in a pass, for loads and stores; no write-backs",
        "stored": "input, output and packed weights as they lie in memory, filled to blocks of channels",
        "floor": "the same without what fills them, and of weights of one byte",
        "bar": f"fetched at most {INT8_FLOOR_FACTOR:g} of stored; * misses",
    }
    return spaced(blocks, facts_table(about))


def memory(rows: Sequence[MemoryRow]) -> RenderableType:
    """One line for each resolution, then one for the network."""
    stages = new_table(
        texts=["images"],
        numbers=["paper", "fused tensor", "eager tensor", "fused peak", "eager peak", "scratch"],
    )
    for row in rows:
        paper = NONE if row.paper_bytes is None else f"{row.paper_channels} ch. {_kb(row.paper_bytes)}"
        stages.add_row(
            row.stage,
            paper,
            NONE
            if row.fused_tensor_bytes is None
            else _starred(_kb(row.fused_tensor_bytes), row.meets_paper),
            _kb(row.eager_tensor_bytes),
            _kb(row.fused_peak_bytes),
            _kb(row.eager_peak_bytes),
            _kb(row.scratch_bytes),
        )
    first = rows[0]
    about = {
        "run": f"MobileNetV2 1.0, 224x224, batch 1, {first.dtype} on {first.device}; KB",
        "paper": "V2's column of table 3, arXiv 1801.04381: the largest tensor that must exist",
        "tensors": "the largest that torch's allocator gave out, by its own resolution",
        "peaks": "what lives at a time while a block runs, by its input's resolution",
        "scratch": "of a thread, beside torch's allocator; float32 inside on x86",
        NETWORK: "the whole forward pass as one operator, scratch included, and by torch's layers",
    }
    return spaced(stages, facts_table(about))


def spirals(embeddings: Sequence[Embedding]) -> RenderableType:
    """One line for each number of dimensions."""
    lines = new_table(numbers=["dimensions", "lost", "of many matrices"])
    for each in embeddings:
        lines.add_row(str(each.dimensions), f"{each.lost:.1%}", f"{each.mean_lost:.1%}")
    about = {
        "spiral": f"{POINTS} points in 2 dimensions, by a random matrix into more, through a ReLU, and back",
        "lost": "points of which fewer than 2 coordinates stay above zero: no inverse finds them",
        "many": f"the mean of {MATRICES} random matrices",
    }
    return spaced(lines, facts_table(about))


def zeros(rows: Sequence[ZerosRow]) -> RenderableType:
    """One line for each block that expands."""
    lines = new_table(
        texts=["block"],
        numbers=["expanded", "zero", "half", "90 %", "all", "returned", "linear", "ReLU6", "90 %"],
    )
    for row in rows:
        lines.add_row(
            row.block,
            str(row.expanded_channels),
            f"{row.expanded_zero:.0%}",
            *map(str, (row.half_zero, row.mostly_zero, row.all_zero, row.channels)),
            f"{row.linear_zero:.0%}",
            f"{row.relu_zero:.0%}",
            str(row.relu_mostly_zero),
        )
    first = rows[0]
    about = {
        "network": f"{first.network}, {count(first.photos, 'photograph')}, {first.size} x {first.size}",
        "expanded": "channels; the share of their values that ReLU6 makes zero; channels that are zero",
        "": "for half of the pixels or more, for 90 %, for all",
        "returned": "channels of the project; zeros as it is, linear, and if a ReLU6 came behind it,",
        " ": "which then would be zero for 90 % of the pixels",
    }
    return spaced(lines, facts_table(about))


def splits(rows: Sequence[SplitRow]) -> RenderableType:
    """One line for each block with times, one with scratch, then all blocks' sum."""
    totals = split_totals(rows)
    parts = [PLANNED if total.parts == 0 else f"t = {total.parts}" for total in totals]
    table = new_table(texts=["block", ""], numbers=parts)
    for block in dict.fromkeys(row.block for row in rows):
        of_block = [row for row in rows if row.block == block]
        table.add_row(block, "ms", *(f"{row.ms:.3f}" for row in of_block))
        table.add_row("", "KiB", *(f"{row.scratch_bytes / 1024:.0f}" for row in of_block))
    table.add_row("all blocks", "ms", *(f"{total.ms:.3f}" for total in totals))
    table.add_row("largest", "KiB", *(f"{total.scratch_bytes / 1024:.0f}" for total in totals))
    about = {
        "parts": "expanded channels in t parts over the whole image (arXiv 1801.04381, 5.1)",
        PLANNED: "as the kernels cut a block: strips of rows, then parts where these fit no cache",
        "run": f"{rows[0].isa}, one thread, {count(len(totals), 'way')} in turn; medians, scratch",
    }
    return spaced(table, facts_table(about))


def headlines(rows: Sequence[HeadlineRow]) -> RenderableType:
    """One line for each network, ours beside the paper's."""
    ours = ["eager ms", "fused ms", "of V1", "ms, paper", "of V1"]
    networks = new_table(
        texts=["network"], numbers=["top-1, paper", "parameters", "paper", "MACs", "paper", *ours]
    )
    first = rows[0]
    for row in rows:
        networks.add_row(
            row.network,
            f"{row.paper_top1:.1f}",
            f"{row.parameters / 1e6:.2f} M",
            f"{row.paper_parameters / 1e6:.1f} M",
            f"{row.macs / 1e6:.0f} M",
            f"{row.paper_macs / 1e6:.0f} M",
            f"{row.eager_ms:.2f}",
            f"{row.fused_ms:.2f}",
            f"{row.fused_ms / first.fused_ms:.2f}",
            f"{row.paper_ms:.0f}",
            f"{row.paper_ms / first.paper_ms:.2f}",
        )
    about = {
        "run": f"{count(first.threads, 'thread')}, float32, 224x224, batch 1; medians, all in turn",
        "fused": "V2 in one call; V1 in one for each layer, its blocks by V2's operator",
        "paper": "arXiv 1801.04381, table 4; its times are those of a Pixel 1",
    }
    return spaced(networks, facts_table(about))


def scaling(rows: Sequence[ScalingRow]) -> RenderableType:
    """One line for each setting; what is not flat has a star."""
    settings = new_table(
        numbers=["threads", "batch", "size", "width", "ms an image", "spread", "ps a MAC", "of base"]
    )
    base = base_row(rows)
    for row in rows:
        settings.add_row(
            str(row.threads),
            str(row.batch),
            str(row.size),
            f"{row.width:g}",
            f"{row.median_ms:.2f}",
            str(row.spread),
            f"{row.ps_per_mac:.1f}",
            _starred(
                f"{row.ps_per_mac / base.ps_per_mac:.2f}", not has_to_be_flat(row) or is_flat(row, base)
            ),
        )
    about = {
        "ms": "median; spread: between the quartiles, of the median; a MAC: of the best call",
        "base": str(base.setting),
        "bar": f"one thread, from {FLAT_FROM} pixels on: within {FLAT_SHARE:.0%} of the base; * misses",
    }
    return spaced(settings, facts_table(about))


def roofline(rows: Sequence[RooflineRow]) -> RenderableType:
    """One line for each shape of block."""
    fused, unfused = ["fused ms", "GFLOP/s", "of peak"], ["unfused ms", "GFLOP/s"]
    blocks = new_table(texts=["block"], numbers=[*fused, "op/byte", *unfused, "op/byte", "time"])
    for row in rows:
        blocks.add_row(
            row.block,
            f"{row.fused_ms:.3f}",
            f"{row.fused_gflops:.1f}",
            f"{row.fused_gflops / row.peak_gflops:.0%}",
            f"{row.fused_intensity:.0f}",
            f"{row.unfused_ms:.3f}",
            f"{row.unfused_gflops:.1f}",
            f"{row.unfused_intensity:.0f}",
            f"{row.fused_ms / row.unfused_ms:.2f}",
        )
    first = rows[0]
    about = {
        "roof": f"{first.peak_gflops:.1f} GFLOP/s; a copy moves {first.copy_gb_per_s:.1f} GB/s",
        "bytes": "fused: input, output, weights; unfused: each convolution's; once each, float32",
        "time": "fused over unfused; medians, in turn, one thread, batch 1",
    }
    return spaced(blocks, facts_table(about))


def _kb(number: int | None) -> str:
    return NONE if number is None else f"{number / 1000:.0f}"


def _starred(text: str, meets: bool) -> str:
    return text if meets else f"{text} *"
