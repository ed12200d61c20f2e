"""Charts as SVG that belongs to the page: its colours, its font, and a drawing for each width of screen."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .. import BenchError

# Inches of 96 pixels, so that a point is the same on a wide page and on a telephone.
WIDTHS = {"wide": 9.9, "narrow": 3.7}
PNG_DPI = 150

# The page's light and dark colours by role. Charts are drawn in the light ones and refer to them by name.
COLOURS = {
    "page": ("#f6f7f9", "#101418"),
    "card": ("#ffffff", "#191f25"),
    "ink": ("#1c2126", "#e6eaee"),
    "muted": ("#5b6570", "#a3adb8"),
    "grid": ("#dde2e7", "#343c45"),
    "fused": ("#0a6fc2", "#58a9f0"),
    "unfused": ("#b4530f", "#ee9552"),
    "model": ("#c9813f", "#a0713f"),
    "eager": ("#8a949e", "#77828d"),
    "floor": ("#2f9e5b", "#55c183"),
    "paper": ("#8a4fc9", "#b98bee"),
}
LIGHT = {role: light for role, (light, _) in COLOURS.items()}
DARK = {role: dark for role, (_, dark) in COLOURS.items()}
INK, MUTED, GRID = LIGHT["ink"], LIGHT["muted"], LIGHT["grid"]
FUSED, UNFUSED, MODEL = LIGHT["fused"], LIGHT["unfused"], LIGHT["model"]
EAGER, FLOOR, PAPER = LIGHT["eager"], LIGHT["floor"], LIGHT["paper"]

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: found, read aloud, in the page's font
    "svg.hashsalt": "mnv2",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GRID,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Drawing:
    """A chart for wide pages and one for narrow pages, as SVG, and what it shows, for who cannot see it."""

    name: str
    shows: str
    wide: str
    narrow: str


@dataclass(frozen=True)
class Canvas:
    """An empty chart of a given width."""

    figure: Figure
    is_wide: bool

    def panels(self, count: int, columns: int, height: float) -> list[Axes]:
        """Panels of ``height`` inches, side by side on a wide page, one below the other on a narrow one."""
        columns = min(columns, count) if self.is_wide else 1
        rows = -(-count // columns)
        self.figure.set_figheight(rows * height)
        every = self.figure.subplots(rows, columns, squeeze=False).flatten().tolist()
        for unused in every[count:]:
            unused.remove()
        return every[:count]

    def legend(self, axes: Axes, entries: int) -> None:
        """Above the panels."""
        handles, labels = axes.get_legend_handles_labels()
        columns = entries if self.is_wide else 2
        self.figure.legend(
            handles, labels, loc="outside upper left", ncols=columns, handlelength=1.2, columnspacing=1.4
        )


def draw(name: str, shows: str, paint: Callable[[Canvas], None]) -> Drawing:
    """Both widths of a chart that ``paint`` puts onto a canvas."""
    with matplotlib.rc_context(STYLE):
        return Drawing(name, shows, **{each: _svg(name, shows, each, paint) for each in WIDTHS})


def draw_png(path: Path, paint: Callable[[Canvas], None]) -> None:
    """A wide chart as a file. Raises BenchError where it cannot be written."""
    with matplotlib.rc_context(STYLE):
        figure = _figure("wide", LIGHT["card"])
        paint(Canvas(figure, is_wide=True))
        try:
            figure.savefig(path, format="png", dpi=PNG_DPI)
        except OSError as error:
            raise BenchError(f"{path}: {error.strerror or error}") from error


def _figure(width: str, background: str) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(WIDTHS[width], WIDTHS[width]), layout=layout, facecolor=background)


def _svg(name: str, shows: str, width: str, paint: Callable[[Canvas], None]) -> str:
    figure = _figure(width, "none")
    paint(Canvas(figure, is_wide=width == "wide"))
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _for_page(buffer.getvalue(), f"{name}-{width}", shows)


def _for_page(svg: str, name: str, shows: str) -> str:
    """Without a size of its own, with ids that no other drawing has, in the page's colours."""
    _, opening, rest = re.split("(<svg[^>]*>)", svg, maxsplit=1)
    size_less = re.sub(r' (?:width|height)="[^"]*"', "", opening)
    svg = size_less.replace("<svg", f'<svg role="img" aria-label="{escape(shows)}"') + rest
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", svg)
    for role, colour in LIGHT.items():
        svg = svg.replace(colour, f"var(--{role})")
    return svg
