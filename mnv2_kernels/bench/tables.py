"""Measurements as rich tables, each readable at 80 columns and without colour."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from ..tables import add_numbers, new_facts, new_table, spaced
from .compare import PeerRow


def peers(rows: Sequence[PeerRow]) -> RenderableType:
    """One setting: a line for every peer, timed or not."""
    lines = new_table()
    lines.add_column("peer", no_wrap=True)
    add_numbers(lines, "ms an image", "spread", "images/s", "of fused", "of peak", "error")
    reasons = new_facts()
    for row in rows:
        if row.median_ms is not None:
            lines.add_row(
                row.title.replace("`", ""),
                f"{row.median_ms:.2f}",
                f"{(row.upper_quartile_ms - row.lower_quartile_ms) / row.median_ms:.0%}",
                f"{row.images_per_s:.0f}",
                "-" if row.ratio is None else f"{row.ratio:.2f}x",
                "-" if row.share is None else f"{row.share:.0%}",
                f"{row.error:.1e}{'' if row.accuracy == row.dtype else ' ' + row.accuracy}",
                style="bold" if row.ratio == 1 else None,
            )
        else:
            style = "bold red" if row.wrong else None
            reasons.add_row(f"without {row.title.replace('`', '')}", Text(row.obstacle or "", style=style))
    return spaced(Text(str(rows[0].setting), style="bold"), lines, reasons)


PEERS_LEGEND = (
    "ms: median; spread: between the quartiles, of the median; of peak: the best call's multiply-adds, of "
    "the peak measured in the same run; error: the largest of a logit against float64, of the largest logit"
)
