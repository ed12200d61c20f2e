"""What a section of the page is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .drawing import Drawing

NONE = "–"


@dataclass(frozen=True)
class Table:
    """Cells as text, the first of a row its name; ``marked`` rows are those of this package."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: Sequence[str] = ()


@dataclass(frozen=True)
class Content:
    """A section: what its figures say in a sentence, then how to read them, charts and tables."""

    finding: str
    reading: str
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    tiles: Sequence[Tile] = ()


@dataclass(frozen=True)
class Tile:
    """A figure for the top of the page."""

    value: str
    text: str


def times(number: float) -> str:
    """Two digits of a ratio: 2.9, 12."""
    return f"{number:.1f}" if number < 9.95 else f"{number:.0f}"


def kilobytes(number: int | None) -> str:
    return NONE if number is None else f"{number / 1e3:,.0f}"


def megabytes(number: int | None) -> str:
    return NONE if number is None else f"{number / 1e6:.2f}"
