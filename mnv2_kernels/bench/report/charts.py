"""One function for each chart: which of the rows' figures goes where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter
from torch import Tensor

from ..bottleneck.spiral import DIMENSIONS, embed, spiral
from ..compare import PeerRow
from ..headlines import HeadlineRow
from ..memory import MemoryRow, SplitRow, split_totals
from ..roofline import RooflineRow
from ..scaling import BASE, FLAT_SHARE, ScalingRow, base_row
from ..traffic.blocks import TrafficRow, by_stage
from .bars import Series, label, lay_down, lying, lying_height, standing
from .drawing import (
    EAGER,
    FLOOR,
    FUSED,
    GRID,
    INK,
    MODEL,
    MUTED,
    PAPER,
    UNFUSED,
    Canvas,
    Drawing,
    draw,
    draw_png,
)

OURS = ("fused", "deploy")
LESS_ACCURATE_ALPHA = 0.45


def peers(dtype: str, panels: dict[str, list[PeerRow]]) -> Drawing:
    """A panel for each setting, the fastest on top; pale where less than the setting's dtype is computed."""

    def paint(canvas: Canvas) -> None:
        height = lying_height(max(map(len, panels.values())))
        for axes, (title, rows) in zip(canvas.panels(len(panels), 2, height), panels.items(), strict=True):
            timed = [(row.median_ms, row) for row in rows if row.median_ms is not None]
            times, ordered = zip(*sorted(timed, key=lambda each: each[0]), strict=True)
            colours = [FUSED if row.peer in OURS else EAGER for row in ordered]
            bars = axes.barh([row.plain_title for row in ordered], times, 0.74, color=colours)
            for bar, row in zip(bars, ordered, strict=True):
                bar.set_alpha(1 if row.accuracy == row.dtype else LESS_ACCURATE_ALPHA)
            label(axes, bars, [f"{time:.2f}" for time in times])
            lay_down(axes)
            axes.set_title(title)

    return draw("peers", f"Milliseconds an image, {dtype}", paint)


def traffic(rows: Sequence[TrafficRow]) -> Drawing:
    """Megabytes that the blocks of each stage fetch."""
    stages = by_stage(rows)
    series = [
        Series(name, colour, _scaled(values, 1e6))
        for name, colour, values in (
            ("unfused, model", MODEL, [stage.unfused_model for stage in stages]),
            ("unfused", UNFUSED, [stage.unfused for stage in stages]),
            ("torch eager", EAGER, [stage.eager for stage in stages]),
            ("fused", FUSED, [stage.fused for stage in stages]),
            ("floor", FLOOR, [stage.floor for stage in stages]),
        )
    ]

    def paint(canvas: Canvas) -> None:
        (axes,) = canvas.panels(1, 1, lying_height(len(stages) * len(series)))
        lying(axes, [stage.stage for stage in stages], series, "{:.1f}")
        canvas.legend(axes, len(series))

    return draw("traffic", "Megabytes that a pass through the blocks of each stage fetches", paint)


def memory(stages: Sequence[MemoryRow]) -> Drawing:
    """The largest tensor of each resolution in kilobytes."""
    series = [
        Series("the paper's V2", PAPER, _scaled((row.paper_bytes for row in stages), 1e3)),
        Series("fused", FUSED, _scaled((row.fused_tensor_bytes for row in stages), 1e3)),
        Series("torch eager", EAGER, _scaled((row.eager_tensor_bytes for row in stages), 1e3)),
    ]

    def paint(canvas: Canvas) -> None:
        (axes,) = canvas.panels(1, 1, lying_height(len(stages) * len(series)))
        lying(axes, [row.stage for row in stages], series, "{:.0f}")
        canvas.legend(axes, len(series))

    return draw("memory", "Kilobytes of the largest tensor at each resolution", paint)


def _scaled(values: Iterable[int | None], unit: float) -> list[float | None]:
    return [None if value is None else value / unit for value in values]


def splits(rows: Sequence[SplitRow]) -> Drawing:
    """Time and scratch over the number of parts, and a line for the plan."""
    planned, *totals = split_totals(rows)

    def paint(canvas: Canvas) -> None:
        time, scratch = canvas.panels(2, 2, 2.4)
        _over_parts(time, [total.ms for total in totals], planned.ms, "Time of all blocks, ms")
        kib = [total.scratch_bytes / 1024 for total in totals]
        _over_parts(scratch, kib, planned.scratch_bytes / 1024, "Largest scratch, KiB")
        canvas.legend(time, 2)

    return draw("splits", "Time and scratch over the number of parts", paint)


def _over_parts(axes: Axes, values: Sequence[float], planned: float, title: str) -> None:
    parts = range(1, len(values) + 1)
    axes.plot(parts, values, color=UNFUSED, marker="o", label="in t parts, the whole image")
    axes.axhline(planned, color=FUSED, label="as planned")
    axes.set_ylim(0, 1.15 * max(*values, planned))
    axes.set_xticks(parts)
    axes.set_xlabel("t")
    axes.set_title(title)
    axes.grid(axis="y")


def roofline(rows: Sequence[RooflineRow]) -> Drawing:
    """From each unfused block a line to the same block fused, under the roof."""

    def paint(canvas: Canvas) -> None:
        (axes,) = canvas.panels(1, 1, 4.2)
        _roof(axes, rows)
        for row in rows:
            axes.plot(
                [row.unfused_intensity, row.fused_intensity],
                [row.unfused_gflops, row.fused_gflops],
                color=MUTED,
                linewidth=0.8,
                alpha=0.6,
                zorder=2,
            )
        if canvas.is_wide:
            _name_stages(axes, rows)
        unfused = [row.unfused_intensity for row in rows], [row.unfused_gflops for row in rows]
        fused = [row.fused_intensity for row in rows], [row.fused_gflops for row in rows]
        axes.scatter(*unfused, color=UNFUSED, s=26, label="unfused", zorder=3)
        axes.scatter(*fused, color=FUSED, s=26, label="fused", zorder=3)
        axes.set_xlabel("operations a byte")
        axes.set_ylabel("GFLOP/s")
        canvas.legend(axes, 2)

    return draw("roofline", "GFLOP/s over operations a byte: every block from unfused to fused", paint)


def _roof(axes: Axes, rows: Sequence[RooflineRow]) -> None:
    """The axes and the two lines of the roof."""
    peak, slope = rows[0].peak_gflops, rows[0].copy_gb_per_s
    left = min(row.unfused_intensity for row in rows) / 2
    right = max(row.fused_intensity for row in rows) * 1.5
    lowest = min(min(row.fused_gflops, row.unfused_gflops) for row in rows)
    for axis in ("x", "y"):
        getattr(axes, f"set_{axis}scale")("log", base=2)
        getattr(axes, f"{axis}axis").set_major_formatter(ScalarFormatter())
        getattr(axes, f"{axis}axis").set_minor_formatter(NullFormatter())
    axes.set_xlim(left, right)
    axes.set_ylim(min(lowest, left * slope) / 1.3, 1.5 * peak)
    axes.grid()
    axes.plot([left, peak / slope, right], [left * slope, peak, peak], color=INK, linewidth=1.4)
    style: dict[str, Any] = {"textcoords": "offset points", "color": INK, "fontsize": 8.5}
    axes.annotate(f"{peak:.0f} GFLOP/s", (right, peak), (-2, 4), ha="right", **style)
    axes.annotate(f"{slope:.0f} GB/s", (left, left * slope), (6, 0), va="center", **style)


def _name_stages(axes: Axes, rows: Sequence[RooflineRow]) -> None:
    """The resolution left of an unfused block, where there is room beside the others."""

    def is_left_of(other: RooflineRow, row: RooflineRow) -> bool:
        """By less than a name is wide and high."""
        width = row.unfused_intensity / other.unfused_intensity
        height = row.unfused_gflops / other.unfused_gflops
        return other is not row and 1 <= width < 1.25 and 0.95 < height < 1.05

    for row in rows:
        if not any(is_left_of(other, row) for other in rows):
            place = row.unfused_intensity, row.unfused_gflops
            style: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "center"}
            axes.annotate(f"{row.height}x{row.height}", place, (-6, 0), color=MUTED, fontsize=8, **style)


def headlines(rows: Sequence[HeadlineRow]) -> Drawing:
    """Times here, and every network's time over V1's."""
    names, first = [row.network for row in rows], rows[0]
    here = [
        Series("torch eager", EAGER, [row.eager_ms for row in rows]),
        Series("fused", FUSED, [row.fused_ms for row in rows]),
    ]
    relative = [
        Series("the paper, on a Pixel 1", PAPER, [row.paper_ms / first.paper_ms for row in rows]),
        Series("torch eager", EAGER, [row.eager_ms / first.eager_ms for row in rows]),
        Series("fused", FUSED, [row.fused_ms / first.fused_ms for row in rows]),
    ]

    def paint(canvas: Canvas) -> None:
        left, right = canvas.panels(2, 2, 2.4)
        standing(left, names, here, "{:.1f}")
        left.set_title("Milliseconds an image here")
        standing(right, names, relative, "{:.2f}")
        right.set_title("Time relative to V1 1.0")
        canvas.legend(right, len(relative))

    return draw("headlines", "Times of V1 and V2, here and in the paper", paint)


def scaling(rows: Sequence[ScalingRow]) -> Drawing:
    """Time of a multiply-accumulate by batch, size and width, and what more threads give."""

    def paint(canvas: Canvas) -> None:
        *lines, threads = canvas.panels(4, 2, 2.1)
        for axes, dimension in zip(lines, ("batch", "size", "width"), strict=True):
            _relative_to_base(axes, rows, dimension)
        _speedups(threads, rows)

    return draw("scaling", "One thread, relative to the base; then by threads", paint)


def _relative_to_base(axes: Axes, rows: Sequence[ScalingRow], dimension: str) -> None:
    """Along one dimension, in which the settings stand at equal distances."""
    base = base_row(rows)
    line = _along(rows, dimension)
    values = [row.ps_per_mac / base.ps_per_mac for row in line]
    axes.axhspan(1 - FLAT_SHARE, 1 + FLAT_SHARE, color=GRID, linewidth=0)
    axes.plot(range(len(line)), values, color=FUSED, marker="o")
    axes.set_xticks(range(len(line)), [f"{getattr(row, dimension):g}" for row in line])
    axes.set_ylim(0, max(1.4, 1.1 * max(values)))
    axes.set_title(f"Time of a multiply-accumulate by {dimension}")


def _speedups(axes: Axes, rows: Sequence[ScalingRow]) -> None:
    most = max(row.threads for row in rows)
    axes.plot([1, most], [1, most], color=MUTED, linewidth=1, linestyle="--", label="ideal")
    batches = sorted({row.batch for row in rows if row.threads == most})
    for batch, colour in zip(batches, (FUSED, UNFUSED), strict=False):
        line = _along(rows, "threads", batch)
        speedups = [line[0].best_ms / row.best_ms for row in line]
        axes.plot([row.threads for row in line], speedups, color=colour, marker="o", label=f"batch {batch}")
    axes.set_xticks(sorted({row.threads for row in rows}))
    axes.set_ylim(0, 1.1 * most)
    axes.set_title("Times as fast by threads")
    axes.grid(axis="y")
    axes.legend(loc="upper left")


def _along(rows: Sequence[ScalingRow], dimension: str, batch: int = BASE.batch) -> list[ScalingRow]:
    """The rows that differ from the base in one dimension alone, in its order."""
    base = {"threads": BASE.threads, "batch": batch, "size": BASE.size, "width": BASE.width}
    fixed = {name: value for name, value in base.items() if name != dimension}
    line = [row for row in rows if all(getattr(row, name) == value for name, value in fixed.items())]
    return sorted(line, key=lambda row: getattr(row, dimension))


def bottleneck() -> Drawing:
    """A spiral, and what comes back of it."""
    return draw("bottleneck", "A spiral through a ReLU in some dimensions, and back", _spirals)


def bottleneck_png(path: Path) -> None:
    """The same as a file. Raises BenchError where it cannot be written."""
    draw_png(path, _spirals)


def _spirals(canvas: Canvas) -> None:
    first, *others = canvas.panels(1 + len(DIMENSIONS), 3, 3.2)
    points = spiral()
    _scatter(first, points, "the spiral", FUSED)
    for axes, embedding in zip(others, map(embed, DIMENSIONS), strict=True):
        title = f"n = {embedding.dimensions}: {embedding.lost:.0%} lost"
        _scatter(axes, embedding.restored[~embedding.is_lost], title, FUSED, "can be found again")
        _scatter(axes, embedding.restored[embedding.is_lost], title, UNFUSED, "lost")
    canvas.legend(others[0], 2)


def _scatter(axes: Axes, points: Tensor, title: str, colour: str, name: str | None = None) -> None:
    axes.plot(*points.T.numpy(), ".", color=colour, markersize=2.5, label=name)
    axes.set_title(title)
    axes.set_aspect("equal", "datalim")
