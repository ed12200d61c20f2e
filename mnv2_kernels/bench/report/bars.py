"""Bars of several series side by side, each with its figure at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.container import BarContainer

from .drawing import INK, MUTED

# Inches from bar to bar of a lying chart, and around its bars.
PITCH, MARGINS = 0.2, 0.6
# The share of its space that a group of bars fills; the rest is the gap to the next one.
FILLED = 0.84


@dataclass(frozen=True)
class Series:
    """What one colour stands for; None where a group has no such figure."""

    label: str
    colour: str
    values: Sequence[float | None]


def lying_height(bars: int) -> float:
    """Inches that a panel of this number of bars takes."""
    return MARGINS + PITCH * bars


def lying(axes: Axes, groups: Sequence[str], series: Sequence[Series], form: str) -> None:
    """Groups from top to bottom, figures written as ``form`` says."""
    _draw(axes, axes.barh, groups, series, form)
    axes.set_yticks(range(len(groups)), groups)
    lay_down(axes)


def standing(axes: Axes, groups: Sequence[str], series: Sequence[Series], form: str) -> None:
    """Groups from left to right."""
    _draw(axes, axes.bar, groups, series, form)
    axes.set_xticks(range(len(groups)), groups, color=INK)
    axes.tick_params(length=0)
    axes.margins(y=0.15)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])


def _draw(
    axes: Axes,
    draw_bars: Callable[..., BarContainer],
    groups: Sequence[str],
    series: Sequence[Series],
    form: str,
) -> None:
    thickness = FILLED / len(series)
    for index, each in enumerate(series):
        places = [place + (index + 0.5) * thickness - FILLED / 2 for place in range(len(groups))]
        lengths = [value or 0 for value in each.values]
        bars = draw_bars(places, lengths, 0.86 * thickness, color=each.colour, label=each.label)
        label(axes, bars, ["" if value is None else form.format(value) for value in each.values])


def lay_down(axes: Axes) -> None:
    """The first bar on top, no lines but the one that the bars start from."""
    axes.invert_yaxis()
    axes.margins(x=0.14, y=0.01)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def label(axes: Axes, bars: BarContainer, texts: Sequence[str]) -> None:
    axes.bar_label(bars, texts, padding=3, color=MUTED, fontsize=8)
