"""Sections on time: the peers, the roofline, the paper's headlines, scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..compare import PeerRow
from ..headlines import HeadlineRow
from ..roofline import RooflineRow
from ..scaling import FLAT_FROM, FLAT_SHARE, ScalingRow, base_row, has_to_be_flat, is_flat
from ..setting import Setting
from . import charts
from .content import NONE, Content, Table, Tile, times

FUSED, *_ = OURS = charts.OURS
EAGER = ("eager", "channels_last")


def peers(rows: Sequence[PeerRow]) -> Content:
    """Every engine in every setting."""
    by_setting: dict[Setting, list[PeerRow]] = {}
    for row in rows:
        by_setting.setdefault(row.setting, []).append(row)
    first = next(iter(by_setting))
    # One dtype alone: in bfloat16 torch's layers can take so long that nothing else is seen beside them.
    charted = {
        setting.call: timed
        for setting, each in by_setting.items()
        if setting.dtype == first.dtype and (timed := [row for row in each if row.median_ms is not None])
    }
    tiles = _peer_tiles(by_setting[first])
    return Content(
        finding=f"In {first.brief}, fused takes {_cell(by_setting[first], FUSED)} ms an image"
        + "".join(f"; {tile.value} {tile.text}" for tile in tiles)
        + ".",
        reading=f"MobileNetV2 {first.width:g}, {first.size} x {first.size}: medians of calls in turn in one "
        "process, each engine checked against float64 first; in brackets, how many times that of fused. Pale "
        f"bars compute in less than {first.dtype}. {_obstacles(rows)}",
        drawings=[charts.peers(first.dtype, charted)] if charted else [],
        tables=[_peer_table(rows, by_setting)],
        tiles=tiles,
    )


def _peer_table(rows: Sequence[PeerRow], by_setting: Mapping[Setting, Sequence[PeerRow]]) -> Table:
    """Peers that ran down, settings across."""
    titles = {row.peer: row.plain_title for row in rows if row.median_ms is not None or row.wrong}
    shares = [next((row.share for row in each if row.peer == FUSED), None) for each in by_setting.values()]
    return Table(
        columns=["ms an image", *(setting.brief for setting in by_setting)],
        rows=[
            *(
                [title, *(_cell(each, peer) for each in by_setting.values())]
                for peer, title in titles.items()
            ),
            ["share of the peak, fused", *(NONE if share is None else f"{share:.0%}" for share in shares)],
        ],
        marked=[titles[peer] for peer in OURS if peer in titles],
    )


def _obstacles(rows: Sequence[PeerRow]) -> str:
    """Why some have no time, each reason once."""
    titles: dict[str, list[str]] = {}
    for row in rows:
        if row.obstacle is not None and row.plain_title not in titles.setdefault(row.obstacle, []):
            titles[row.obstacle].append(row.plain_title)
    reasons = "; ".join(f"{reason} ({', '.join(those)})" for reason, those in titles.items())
    return f"Without a time: {reasons}." if reasons else ""


def _peer_tiles(rows: Sequence[PeerRow]) -> list[Tile]:
    """Of one setting: against torch, and against the fastest of the others that compute as exactly."""
    exact = [(row.ratio, row) for row in rows if row.ratio is not None and row.accuracy == row.dtype]
    eager = [ratio for ratio, row in exact if row.peer in EAGER]
    others = [(ratio, row) for ratio, row in exact if row.peer not in (*OURS, *EAGER)]
    tiles = []
    if eager:
        tiles.append(Tile(f"{times(min(eager))}×", "as fast as torch eager in its better layout"))
    if others:
        ratio, fastest = min(others, key=lambda each: each[0])
        text = f"as fast as the fastest {fastest.dtype} peer, {fastest.plain_title}"
        tiles.append(Tile(f"{times(ratio)}×", text))
    return tiles


def _cell(rows: Sequence[PeerRow], peer: str) -> str:
    row = next((row for row in rows if row.peer == peer), None)
    if row is None or row.median_ms is None:
        return "wrong" if row is not None and row.wrong else NONE
    ratio = "" if row.ratio is None or peer == FUSED else f" ({row.ratio:.2f}×)"
    return f"{row.median_ms:.2f}{ratio}"


def roofline(rows: Sequence[RooflineRow]) -> Content:
    """Every block, fused and unfused."""
    fused = sum(row.blocks * row.fused_ms for row in rows)
    unfused = sum(row.blocks * row.unfused_ms for row in rows)
    peak = rows[0].peak_gflops
    share = 2e-6 * sum(row.blocks * row.macs for row in rows) / fused / peak
    return Content(
        finding=f"The 17 blocks take {fused:.2f} ms fused, {share:.0%} of the multiply-add peak, and "
        f"{unfused:.2f} ms unfused.",
        reading="Both ways run the same microkernels, one thread, batch 1, float32. Bytes are what a block "
        "has to move: fused its input, output and weights, unfused each convolution's, once each. The "
        "sloping line is a copy of data outside of the second-level cache; an unfused block above it keeps "
        "its tensors inside. Of blocks close together the leftmost has its resolution written beside it.",
        drawings=[charts.roofline(rows)],
        tables=[
            Table(
                columns=[
                    *("block", "fused ms", "of the peak", "op/byte"),
                    *("unfused ms", "of the peak", "op/byte"),
                ],
                rows=[
                    [
                        row.block,
                        f"{row.fused_ms:.3f}",
                        f"{row.fused_gflops / peak:.0%}",
                        f"{row.fused_intensity:.0f}",
                        f"{row.unfused_ms:.3f}",
                        f"{row.unfused_gflops / peak:.0%}",
                        f"{row.unfused_intensity:.0f}",
                    ]
                    for row in rows
                ],
            )
        ],
    )


def headlines(rows: Sequence[HeadlineRow]) -> Content:
    """The paper's table beside ours."""
    first, second = rows[:2]
    return Content(
        finding=f"{second.network} takes {second.fused_ms / first.fused_ms:.2f} of {first.network}'s time "
        f"fused and {second.eager_ms / first.eager_ms:.2f} by torch; on the paper's telephone it was "
        f"{second.paper_ms / first.paper_ms:.2f}.",
        reading="Float32, 224 x 224, batch 1, one thread, medians of calls in turn; torch eager in "
        "channels_last. Fused, V2 is one call and V1 a call for each layer: its block is V2's operator "
        "without an expand. Accuracy is the paper's, as no network is trained here.",
        drawings=[charts.headlines(rows)],
        tables=[
            Table(
                columns=[
                    *("network", "top-1, paper", "parameters", "paper", "MACs", "paper"),
                    *("torch eager, ms", "fused, ms", "Pixel 1, paper, ms"),
                ],
                rows=[
                    [
                        row.network,
                        f"{row.paper_top1:.1f} %",
                        f"{row.parameters / 1e6:.2f} M",
                        f"{row.paper_parameters / 1e6:.1f} M",
                        f"{row.macs / 1e6:.0f} M",
                        f"{row.paper_macs / 1e6:.0f} M",
                        f"{row.eager_ms:.2f}",
                        f"{row.fused_ms:.2f}",
                        f"{row.paper_ms:.0f}",
                    ]
                    for row in rows
                ],
            )
        ],
    )


def scaling(rows: Sequence[ScalingRow]) -> Content:
    """Time of a multiply-accumulate, and threads."""
    base = base_row(rows)
    bound = [row for row in rows if has_to_be_flat(row)]
    flat = sum(is_flat(row, base) for row in bound)
    return Content(
        finding=f"From {FLAT_FROM} pixels on, a multiply-accumulate takes within {FLAT_SHARE:.0%} of the "
        f"base's time in {flat} of {len(bound)} settings.",
        reading=f"The base is {base.setting}: {base.ps_per_mac:.1f} ps for each multiply-accumulate. The "
        f"band is {FLAT_SHARE:.0%} to both sides. Curves are of the best calls, in turn; the table has "
        "medians.",
        drawings=[charts.scaling(rows)],
        tables=[
            Table(
                columns=[
                    "images, width",
                    "threads",
                    "batch",
                    "ms an image",
                    "spread",
                    "ps a MAC",
                    "of the base",
                ],
                rows=[
                    [
                        f"{row.size}x{row.size}, {row.width:g}",
                        str(row.threads),
                        str(row.batch),
                        f"{row.median_ms:.2f}",
                        str(row.spread),
                        f"{row.ps_per_mac:.1f}",
                        f"{row.ps_per_mac / base.ps_per_mac:.2f}",
                    ]
                    for row in rows
                ],
            )
        ],
    )
